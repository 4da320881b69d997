"""What every command says when it cannot do its work."""

import json

import pytest
import typer
from rich.table import Table

from grading.cli.deliver import DEBUG, graded, sentence, show_aside
from grading.core import log
from grading.core.errors import GradingError
from grading.core.results import Check, SubmissionResult
from tests.grading.here import grade_here


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """The log of unexpected errors goes to a folder of the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setitem(DEBUG, "on", False)
    return tmp_path / "state"


def broken():
    raise ZeroDivisionError("of ours")


def refused():
    raise GradingError("the file x is missing; name another", option="mnistm_classifier")


def test_an_error_names_the_option_that_helps_as_it_is_typed():
    assert sentence(GradingError("x is missing")) == "x is missing."
    assert (
        sentence(GradingError("x is missing", option="stable_diffusion")) == "x is missing (option --stable-diffusion)."
    )


def test_a_refusal_is_one_sentence_and_exit_status_2(capsys):
    with pytest.raises(typer.Exit) as left:
        graded(refused)
    assert left.value.exit_code == 2
    assert capsys.readouterr().err == "hw2-grade: the file x is missing; name another (option --mnistm-classifier).\n"


def test_an_unexpected_error_keeps_its_traceback_in_a_log_that_the_sentence_names(capsys, state):
    with pytest.raises(typer.Exit):
        graded(broken)
    said = capsys.readouterr().err
    (log,) = (path for path in state.rglob("*") if path.is_file())
    assert str(log) in said.replace("\n", "")
    assert "Traceback" not in said
    assert 'raise ZeroDivisionError("of ours")' in log.read_text()


def test_debug_shows_the_traceback_at_once(capsys, monkeypatch):
    monkeypatch.setitem(DEBUG, "on", True)
    with pytest.raises(typer.Exit):
        graded(broken)
    assert 'raise ZeroDivisionError("of ours")' in capsys.readouterr().err


@pytest.fixture
def kept(tmp_path):
    """What a log file of the test holds. options: of `set_up`."""

    def begin(**options):
        log.set_up(tmp_path / "log", **options)
        return (tmp_path / "log").read_text

    yield begin
    log.set_up()
    log.logging.captureWarnings(False)


@pytest.mark.parametrize("debug", [True, False])
def test_the_log_has_the_traceback_once_shown_or_not(kept, monkeypatch, debug):
    monkeypatch.setitem(DEBUG, "on", debug)
    read = kept()
    with pytest.raises(typer.Exit):
        graded(broken)
    assert read().count("Traceback") == 1


@pytest.mark.parametrize("quiet", [True, False])
def test_a_table_on_stderr_is_in_the_log_though_quiet_hides_it(kept, capsys, quiet):
    read = kept(quiet=quiet)
    show_aside(Table("what", "remedy"))
    assert ("remedy" in capsys.readouterr().err) == (not quiet)
    assert "remedy" in read()


def test_a_refusal_is_written_as_json_where_json_was_asked_for(tmp_path, capsys):
    def failed(check: Check) -> SubmissionResult:
        return SubmissionResult("b01", "error", 0, 0, 0, warnings=[check])

    with pytest.raises(typer.Exit):
        graded(refused, str(tmp_path / "grade.json"), failed)
    found = json.loads((tmp_path / "grade.json").read_text())
    assert found["status"] == "error"
    assert "the file x is missing" in found["warnings"][0]["message"]
    with pytest.raises(typer.Exit):
        graded(refused, "-", failed)
    assert json.loads(capsys.readouterr().out) == found


def test_the_command_has_a_debug_option():
    run = grade_here("--debug", "faces", "nowhere", "nowhere")
    assert run.returncode == 2
    assert "Traceback" not in run.stderr  # a refusal has none
