import os
import pickle
import re
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading.core.errors import Failure, GradingError, failure_sentence, record_failure


def caught(raise_it) -> Exception:
    try:
        raise_it()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def divide():
    return 1 / 0  # the raising line


def closed(path: Path) -> Path:
    """A file where a folder should be: not even root can write below it."""
    path.write_text("")
    return path


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A temporary folder of our own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_an_unexpected_exception_leaves_its_traceback_in_the_file_that_its_sentence_names(tmp_path):
    failure = record_failure(caught(divide), tmp_path / "new" / "folder")
    assert failure.log == str(tmp_path / "new" / "folder" / "failures.log")
    assert failure.sentence == (
        "The grader itself failed (ZeroDivisionError: division by zero); please report it "
        f"and send the traceback in {failure.log}."
    )
    written = Path(failure.log).read_text()
    assert "return 1 / 0  # the raising line" in written
    assert written.rstrip().endswith("ZeroDivisionError: division by zero")
    assert failure.traceback in written
    assert failure.traceback.startswith("Traceback (most recent call last):")


def test_what_caused_an_exception_is_in_the_log_too(tmp_path):
    def chain():
        try:
            divide()
        except ZeroDivisionError as error:
            raise KeyError("second") from error

    written = Path(record_failure(caught(chain), tmp_path).log).read_text()
    assert written.index("# the raising line") < written.index("KeyError: 'second'")


def test_the_log_is_appended_to_and_closed_to_others(tmp_path):
    log = tmp_path / "failures.log"
    for name in ("first", "second"):
        assert record_failure(ValueError(name), tmp_path).log == str(log)
        assert log.stat().st_mode & 0o777 == 0o600
        log.chmod(0o644)
    assert re.findall(r"^ValueError: (\w+)$", log.read_text(), re.MULTILINE) == ["first", "second"]


def test_threads_write_one_after_the_other(tmp_path):
    threads = [threading.Thread(target=record_failure, args=(ValueError("x" * 5000), tmp_path)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / "failures.log").read_text().splitlines()
    assert lines.count("ValueError: " + "x" * 5000) == 16


def test_without_a_folder_the_log_is_in_the_users_state_folder(state_folder):
    assert record_failure(caught(divide)).log == str(state_folder / "hw2-grade" / "failures.log")
    assert (state_folder / "hw2-grade").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("state", ["", "relative"])
def test_without_a_valid_xdg_state_home_the_state_folder_is_the_usual_one(tmp_path, monkeypatch, state):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", state)
    assert record_failure(caught(divide)).log == str(tmp_path / ".local" / "state" / "hw2-grade" / "failures.log")


def test_a_folder_that_cannot_be_made_is_replaced_by_the_next(tmp_path, monkeypatch, state_folder, temporary):
    no_folder = closed(tmp_path / "file")
    assert Path(record_failure(caught(divide), no_folder).log).parent.parent == state_folder
    monkeypatch.setenv("XDG_STATE_HOME", str(no_folder))
    failure = record_failure(caught(divide), no_folder)
    log = Path(failure.log)
    assert log.parent == temporary
    assert "# the raising line" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    assert failure.log in failure.sentence


def test_a_read_only_folder_is_replaced_by_the_next(tmp_path, state_folder):
    tmp_path.chmod(0o500)
    read_only = Path("/proc") if os.geteuid() == 0 else tmp_path  # root may write to any folder of a disk
    assert Path(record_failure(caught(divide), read_only).log).parent.parent == state_folder


def test_no_place_at_all_leaves_the_traceback_in_the_value(tmp_path, monkeypatch):
    no_folder = closed(tmp_path / "file")
    monkeypatch.setenv("XDG_STATE_HOME", str(no_folder))
    monkeypatch.setattr(tempfile, "tempdir", str(no_folder))
    failure = record_failure(caught(divide), no_folder)
    assert failure.log == ""
    assert "# the raising line" in failure.traceback
    assert failure.sentence == "The grader itself failed (ZeroDivisionError: division by zero); please report it."


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "folder"])
def test_a_log_that_is_not_a_plain_file_is_left_alone(tmp_path, state_folder, kind):
    victim, log = tmp_path / "victim", tmp_path / "failures.log"
    victim.write_text("untouched")
    {"link": lambda: log.symlink_to(victim), "hard link": lambda: log.hardlink_to(victim),
     "pipe": lambda: os.mkfifo(log), "folder": log.mkdir}[kind]()  # fmt: skip
    assert Path(record_failure(caught(divide), tmp_path).log).parent.parent == state_folder
    assert victim.read_text() == "untouched"


def test_expected_failures_write_no_log(tmp_path, state_folder):
    for error, sentence in (
        (GradingError("the disk is full; make room"), "The grader could not check this: the disk is full; make room."),
        (caught(lambda: (tmp_path / "x").read_text()),
         f"The grader could not check this, because it could not use {tmp_path}/x (No such file or directory)."),
        (OSError(28, "No space left on device"),
         "The grader could not check this, because it could not use a file (No space left on device)."),
        (OSError("only words"), "The grader could not check this, because it could not use a file (only words)."),
        (TimeoutError(), "The grader could not check this, because it could not use a file (TimeoutError)."),
        (OSError(13, "Permission denied", b"/a\xff"),
         "The grader could not check this, because it could not use /a\\udcff (Permission denied)."),
    ):  # fmt: skip
        assert record_failure(error, tmp_path) == Failure(sentence)
    assert list(tmp_path.iterdir()) == []
    assert list(state_folder.iterdir()) == []


def test_control_characters_are_spelled_out(tmp_path):
    hostile = "\x1b[2J\udcff\nINJECTED"
    for error in (ValueError(hostile), GradingError(hostile), OSError(2, "gone", hostile)):
        failure = record_failure(error, tmp_path)
        assert "\\x1b[2J\\udcff\\nINJECTED" in failure.sentence
        assert failure.sentence.isprintable()
        assert all(line.isprintable() for line in failure.traceback.split("\n"))
    assert "\x1b" not in (tmp_path / "failures.log").read_text()


def test_a_long_message_is_cut_in_the_sentence_and_whole_in_the_log(tmp_path):
    failure = record_failure(ValueError("x" * 10_000 + "end"), tmp_path)
    assert len(failure.sentence) < 500 + len(str(tmp_path))
    assert "end" in Path(failure.log).read_text()


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_exception_that_cannot_be_shown_is_reported_all_the_same(tmp_path):
    failure = record_failure(caught(lambda: (_ for _ in ()).throw(SilentError())), tmp_path)
    assert failure.sentence.startswith("The grader itself failed (SilentError: no message); please report it and ")
    assert "SilentError" in Path(failure.log).read_text()


@given(st.text(), st.sampled_from([ValueError, KeyError, RecursionError, MemoryError, SystemExit]))
def test_no_sentence_blames_the_submission(text, kind):
    sentence = record_failure(kind(text)).sentence
    assert sentence.startswith("The grader itself failed (")
    assert sentence.isprintable()


def test_the_sentence_alone_writes_the_same_log(tmp_path):
    error = caught(divide)
    assert failure_sentence(error, tmp_path) == record_failure(error, tmp_path).sentence
    assert (tmp_path / "failures.log").read_text().count("# the raising line") == 2


def test_an_error_keeps_its_option_when_it_is_sent_to_another_process():
    error = pickle.loads(pickle.dumps(GradingError("it is missing", option="trust")))
    assert (str(error), error.option) == ("it is missing", "trust")
    assert GradingError("it is missing").option == ""


def test_errors_load_neither_torch_nor_numpy():
    code = "import sys, grading.core.errors; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("quoted", ["\x1b[2J\n\udce9", "a" * 10**6])
def test_a_grading_error_may_quote_anything_and_keeps_its_beginning_and_end(quoted):
    message = str(GradingError(f"a.csv has a column {quoted}; correct it"))
    assert message.isprintable()
    assert len(message) <= 1000
    assert message.startswith("a.csv has a column ")
    assert message.endswith("; correct it")


def test_a_message_of_any_length_costs_bounded_memory():
    message = "\0" * 2**22  # a checkpoint whose byte order is four million zero bytes
    tracemalloc.start()
    try:
        GradingError(message)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
