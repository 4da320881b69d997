"""What `hw2` says at each level, and what its log file keeps."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from hw2 import log, progress
from hw2.errors import InputError
from hw2.log import program_options_first
from tests.commands import ROOT


@pytest.fixture
def said(monkeypatch, capsys):
    yield lambda: capsys.readouterr().err
    log.set_up()


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, "hw2: for people\nhw2: an error\n"),
        ({"verbose": True}, "hw2: a step\nhw2: for people\nhw2: an error\n"),
        ({"quiet": True}, "hw2: an error\n"),
    ],
)
def test_each_level_shows_its_own_and_the_file_has_all_with_times(said, tmp_path, options, shown):
    log.set_up(tmp_path / "log", **options)
    log.detail("a step")
    log.say("for people")
    log.complain("an error")
    assert said() == shown
    lines = (tmp_path / "log").read_text().splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ", "", line) for line in lines] == [
        "DEBUG a step", "INFO for people", "ERROR an error",
    ]  # fmt: skip


def test_a_percent_sign_and_markup_are_text(said):
    log.set_up()
    log.say("50 %s [bold]done[/bold]")
    assert said() == "hw2: 50 %s [bold]done[/bold]\n"


def test_a_log_that_cannot_be_written_and_a_contradiction_are_refused(said, tmp_path):
    with pytest.raises(InputError, match=r"none/log cannot be written \(No such file or directory\)"):
        log.set_up(tmp_path / "none" / "log")
    with pytest.raises(InputError, match="contradict"):
        log.set_up(verbose=True, quiet=True)


@pytest.mark.parametrize(
    ("typed", "parsed"),
    [
        ("digits grid --quiet --output x", "--quiet digits grid --output x"),
        ("digits grid --log f --output x --verbose", "--log f --verbose digits grid --output x"),
        ("digits grid --log=f", "--log=f digits grid"),
        ("digits grid --log", "digits grid --log"),
        ("--log f digits -- --quiet", "--log f digits -- --quiet"),
    ],
)
def test_options_of_the_program_may_stand_behind_the_command(typed, parsed):
    assert program_options_first(typed.split()) == parsed.split()


def test_the_command_writes_the_log_and_says_nothing_if_it_is_to_be_quiet(tmp_path, hw2):
    run = hw2("doctor", "--log", tmp_path / "log", "--quiet", "--json", "--device", "cpu")
    assert run.stdout.startswith("[")
    assert run.stderr == ""
    run = hw2(
        "faces", "sample", "--quiet", "--noise", "no", "--checkpoint", "no", "--output", "x", "--log", tmp_path / "log"
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert run.stderr.removeprefix("hw2: ") in (tmp_path / "log").read_text()
    assert "DEBUG the device is cpu" in (tmp_path / "log").read_text()


TIMES = re.compile(r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")


@pytest.mark.slow
def test_a_bug_report_has_the_command_the_versions_what_was_printed_and_how_it_ended(tmp_path, hw2):
    log_file = tmp_path / "a log"
    printed = hw2("digits", "info", "--log", log_file)
    misspelt = hw2("digits", "info", "--sead", "a b", "--log", log_file)
    assert (printed.returncode, misspelt.returncode) == (0, 2)
    versions = hw2("--version").stdout
    first, second = TIMES.sub("", log_file.read_text()).split("INFO exit status 0\n")
    begun, *tables = first.split("INFO printed:\n")
    assert begun == f"INFO hw2 digits info --log '{log_file}'\nINFO {versions}"
    assert "".join(tables) == printed.stdout.lstrip("\n")
    assert second == (
        f"INFO hw2 digits info --sead 'a b' --log '{log_file}'\nINFO {versions}"
        + "ERROR No such option: --sead\nINFO exit status 2\n"
    )


BREAK = """
import sys
from hw2.__main__ import app, main

@app.command("break")
def broken():
    print("half a table")
    raise ValueError("never")

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
    assert "ValueError: never\n" in kept
    assert kept.endswith("INFO exit status 2\n")
    assert kept.count("Traceback") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_log_on_a_full_disk_ends_with_one_sentence_and_the_work_goes_on(said):
    log.set_up(Path("/dev/full"))
    log.detail("a step")
    log.say("for people")
    first, second = said().splitlines()
    assert first.startswith("hw2: /dev/full cannot be written (")
    assert "No space left" in first
    assert second == "hw2: for people"


def test_the_log_has_no_colours(said, tmp_path):
    log.set_up(tmp_path / "log")
    log.printed("\x1b[1;31mred\x1b[0m \x1b]8;id=1;http://a\x1b\\link\x1b]8;;\x1b\\\n")
    log.printed("\n")
    assert TIMES.sub("", (tmp_path / "log").read_text()) == "INFO printed: red link\n"


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


def test_without_a_terminal_long_work_has_a_line_for_each_tenth_and_every_30_seconds(said, monkeypatch):
    clock = Clock(monkeypatch)
    with progress.progress_bar("steps", 100) as advance:
        for _ in range(40):
            clock.now += 0.5
            advance("loss 1")
        assert said() == "".join(f"hw2: steps: {n} of 100 in {n // 2} s, loss 1\n" for n in (10, 20, 30, 40))
        clock.now += 29
        advance("")
        assert said() == ""
        clock.now += 1
        advance("")
        assert said() == "hw2: steps: 42 of 100 in 50 s\n"
        advance("", 58)
    assert said() == "hw2: steps: 100 of 100 in 50 s\n"


def test_fast_work_has_one_line_and_other_processes_and_quiet_none(said, monkeypatch):
    Clock(monkeypatch)
    for options, lines in (({}, 1), ({"quiet": True}, 0)):
        with progress.progress_bar("steps", 100, **options) as advance:
            for _ in range(100):
                advance("")
        assert said().count("\n") == lines
    log.set_up(quiet=True)
    with progress.progress_bar("steps", 1) as advance:
        advance("")
    assert said() == ""


def test_a_terminal_has_a_bar_and_the_log_the_lines(said, monkeypatch, tmp_path):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=screen, force_terminal=True))
    monkeypatch.setattr(log.sys.stderr, "isatty", lambda: True, raising=False)
    log.set_up(tmp_path / "log")
    with progress.progress_bar("steps", 1) as advance:
        advance("")
    assert said() == ""
    assert "━" in screen.getvalue()
    assert "DEBUG steps: 1 of 1 in 0 s" in (tmp_path / "log").read_text()
