"""What `hw2-grade` says at each level, and what its log file keeps."""

import warnings

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
