"""What `hw2-grade` says at each level, and what its log file keeps."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from grading.cli.surroundings import Standing
from grading.core import log
from grading.core.errors import GradingError
from tests.commands import ROOT

GT = ROOT / "fixtures" / "hw2_data" / "face" / "GT"


@pytest.fixture
def said(capsys):
    showwarning = warnings.showwarning
    yield lambda: capsys.readouterr().err
    log.set_up()
    log.logging.captureWarnings(False)
    assert warnings.showwarning is showwarning


@pytest.mark.parametrize(
    ("options", "shown"),
    [({}, "say complain"), ({"verbose": True}, "detail say complain"), ({"quiet": True}, "complain")],
)
def test_each_level_shows_its_own_and_the_file_has_all(said, tmp_path, options, shown):
    log.set_up(tmp_path / "log", **options)
    for name in ("detail", "say", "complain"):
        getattr(log, name)(name)
    assert said() == "".join(f"hw2-grade: {name}\n" for name in shown.split())
    assert [line.split()[-1] for line in (tmp_path / "log").read_text().splitlines()] == ["detail", "say", "complain"]


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("verbose", [True, False])
def test_warnings_of_libraries_are_for_the_log_and_for_those_who_ask(said, tmp_path, verbose):
    log.set_up(tmp_path / "log", verbose=verbose)
    warnings.warn("old function", DeprecationWarning, stacklevel=1)
    assert ("old function" in said()) == verbose
    assert "WARNING" in (tmp_path / "log").read_text()
    assert "old function" in (tmp_path / "log").read_text()


def test_a_log_that_cannot_be_written_names_its_option(said, tmp_path):
    with pytest.raises(GradingError, match="Is a directory") as error:
        log.set_up(tmp_path)
    assert error.value.option == "log"


def test_a_line_tells_when_each_stage_has_ended_also_after_a_resumed_start(said):
    log.set_up()
    with Standing(["copy", "fetch", "freeze", "hw2_1.sh", "report"]) as standing:
        standing.begin("freeze")
        assert said() == ""
        standing.begin("hw2_1.sh")
        assert said() == "hw2-grade: stage 3 of 5: freeze ran in 0.0 s\n"
        standing.begin("report")
    assert said().splitlines()[-1] == "hw2-grade: stage 5 of 5: report ran in 0.0 s"


@pytest.mark.slow
def test_the_result_is_shown_where_all_else_is_quiet(tmp_path, hw2_grade):
    run = hw2_grade("faces", GT, GT, "--quiet", "--log", tmp_path / "log")
    assert run.returncode == 0
    assert "verdict  pass" in run.stdout
    run = hw2_grade("--quiet", "faces", "gone", GT, "--log", tmp_path / "log")
    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert run.stderr.removeprefix("hw2-grade: ") in (tmp_path / "log").read_text()


TIMES = re.compile(r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")


@pytest.mark.slow
def test_a_bug_report_has_the_command_the_versions_what_was_printed_and_how_it_ended(tmp_path, hw2_grade):
    log_file = tmp_path / "a log"
    printed = hw2_grade("faces", GT, GT, "--log", log_file)
    misspelt = hw2_grade("faces", GT, "--sead", "a b", "--log", log_file)
    assert (printed.returncode, misspelt.returncode) == (0, 2)
    versions = hw2_grade("--version").stdout
    first, second = TIMES.sub("", log_file.read_text()).split("INFO exit status 0\n")
    begun, *tables = first.split("INFO printed:\n")
    assert begun == f"INFO hw2-grade faces {GT} {GT} --log '{log_file}'\nINFO {versions}"
    assert "".join(tables) == printed.stdout.lstrip("\n")
    assert second == (
        f"INFO hw2-grade faces {GT} --sead 'a b' --log '{log_file}'\nINFO {versions}"
        + "ERROR No such option: --sead\nINFO exit status 2\n"
    )


BREAK = """
import sys
from grading.cli.app import app, main

@app.command("break")
def broken():
    print("half a table")
    raise RuntimeError("never")

sys.argv = ["x", "break", "--log", sys.argv[1]]
main()
"""


def test_the_log_of_a_defect_has_its_traceback(tmp_path):
    variables = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    log_file = tmp_path / "log"
    run = subprocess.run(
        [sys.executable, "-c", BREAK, log_file], capture_output=True, text=True, cwd=ROOT, env=variables, timeout=300
    )
    assert run.returncode == 2
    kept = TIMES.sub("", log_file.read_text())
    assert "INFO printed: half a table\n" in kept
    assert "line 8, in broken\n" in kept
    assert "RuntimeError: never\n" in kept
    assert kept.endswith("INFO exit status 2\n")
    assert kept.count("Traceback") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_log_on_a_full_disk_ends_with_one_sentence_and_the_work_goes_on(said):
    log.set_up(Path("/dev/full"))
    log.detail("a step")
    log.say("for people")
    first, second = said().splitlines()
    assert first.startswith("hw2-grade: /dev/full cannot be written (")
    assert "No space left" in first
    assert second == "hw2-grade: for people"


def test_the_log_has_no_colours(said, tmp_path):
    log.set_up(tmp_path / "log")
    log.printed("\x1b[1;31mred\x1b[0m \x1b]8;id=1;http://a\x1b\\link\x1b]8;;\x1b\\\n")
    log.printed("\n")
    assert TIMES.sub("", (tmp_path / "log").read_text()) == "INFO printed: red link\n"
