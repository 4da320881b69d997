"""What `hw2` says at each level, and what its log file keeps."""

import io
import re

import pytest
from rich.console import Console

from hw2 import log, progress
from hw2.errors import InputError
from hw2.log import program_options_first


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
