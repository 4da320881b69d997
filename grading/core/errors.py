"""Failures of the grader. Each has a sentence for people and, if it was unexpected, a traceback in a log file."""

from __future__ import annotations

import os
import stat
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from grading.core.extras import package_problem
from grading.core.text import printable, shortened

LOG_NAME = "failures.log"

MAX_MESSAGE = 1000
"""Characters of a GradingError; of a longer one the middle is left out, because it ends with what to do."""

MAX_QUOTED = 300
"""Characters of an unexpected exception that its sentence quotes. The log has the whole text."""


class GradingError(Exception):
    """The call cannot be carried out. The message is one sentence that says what to do. The exit status is 2.

    option: the name in the code of the option that helps, such as "trust"; empty if there is none. The message names no
    command line flag, because the command line adds the flag of this option. It may quote what a file holds, and is
    always safe to print and of bounded length.
    """

    def __init__(self, message: str, *, option: str = "") -> None:
        super().__init__(shortened(printable(shortened(message, MAX_MESSAGE)), MAX_MESSAGE))
        self.option = option


@dataclass(frozen=True)
class Failure:
    """One failure of the grader.

    sentence: safe to print, and never blames the submission. traceback: empty if the exception was expected. log: path
    of the file that holds the traceback; empty if there is none.
    """

    sentence: str
    traceback: str = ""
    log: str = ""


def record_failure(error: BaseException, folder: Path | None = None) -> Failure:
    """Describe an exception, and write the traceback of an unexpected one to a log file.

    GradingError, OSError and a package that cannot be imported are expected: their sentence is complete, and nothing is
    written. Any other exception is a defect of the grader. Its traceback is appended to the first file that can be
    written: failures.log in `folder`, failures.log in the user's state folder ($XDG_STATE_HOME/hw2-grade or
    ~/.local/state/hw2-grade), or a new file in the temporary folder. Never raises.
    """
    if isinstance(error, GradingError):
        return Failure(f"The grader could not check this: {printable(_text(error))}.")
    if problem := package_problem(error):
        return Failure(f"The grader could not check this: {problem}.")
    if isinstance(error, OSError):
        name = printable(os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "a file")
        reason = printable(error.strerror or _text(error) or type(error).__name__)
        return Failure(f"The grader could not check this, because it could not use {name} ({reason}).")
    lines = _traceback(error)
    log = _write_log(lines, folder)
    quoted = printable(f"{type(error).__name__}: {_text(error)}")
    if len(quoted) > MAX_QUOTED:
        quoted = f"{quoted[:MAX_QUOTED]} .."
    where = f" and send the traceback in {printable(log)}" if log else ""
    return Failure(f"The grader itself failed ({quoted}); please report it{where}.", lines, log)


def failure_sentence(error: BaseException, folder: Path | None = None) -> str:
    """The sentence of `record_failure`, which also writes the log."""
    return record_failure(error, folder).sentence


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "no message"


def _traceback(error: BaseException) -> str:
    """The whole traceback, with every line safe to print."""
    try:
        lines = "".join(traceback.format_exception(error)).splitlines()
    except Exception:
        lines = [f"{type(error).__name__}: {_text(error)} (its traceback could not be formatted)"]
    return "\n".join(map(printable, lines))


def _write_log(lines: str, folder: Path | None) -> str:
    """Write the lines to a log file, and return its path; empty if no file could be written."""
    when = time.strftime("%Y-%m-%d %H:%M:%S %z")
    entry = f"{when} process {os.getpid()}\n{lines}\n\n".encode()
    for place in _places(folder):
        with suppress(OSError):
            _append(place, entry)
            return str(place)
    with suppress(OSError):
        descriptor, name = tempfile.mkstemp(prefix="hw2-grade-", suffix=".log")
        with os.fdopen(descriptor, "wb") as log:
            log.write(entry)
        return name
    return ""


def _places(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder.absolute() / LOG_NAME
    state = os.environ.get("XDG_STATE_HOME", "")
    if Path(state).is_absolute():  # the XDG specification: a relative path is invalid and must be ignored
        yield Path(state, "hw2-grade", LOG_NAME)
    else:
        with suppress(RuntimeError):  # there is no home folder
            yield Path.home() / ".local" / "state" / "hw2-grade" / LOG_NAME


def _append(path: Path, entry: bytes) -> None:
    """Append to a file that only this user can read. Raises OSError for a link, a pipe or another user's file."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    with os.fdopen(descriptor, "ab", buffering=0) as log:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or status.st_uid != os.geteuid():
            raise OSError(f"{path} is not a file of this user")
        os.fchmod(descriptor, 0o600)
        log.write(entry)
