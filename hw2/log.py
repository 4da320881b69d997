"""What the program says on stderr, at three levels, and a log file with all of it, and with what is printed."""

from __future__ import annotations

import logging
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from hw2.errors import InputError

PROGRAM = "hw2"

FLAGS, WITH_VALUE = ("--verbose", "--quiet"), "--log"
"""Options of the whole program, which may stand before or after a command."""

LINE = logging.Formatter("%(asctime)s %(levelname)s %(message)s")

STYLE = re.compile(r"\x1b(\[[0-?]*[@-~]|\][^\x1b]*\x1b\\)")
"""Colours and links of a terminal, which no file needs."""


class _Stderr(logging.Handler):
    """Prints each sentence on stderr, above a progress bar if there is one. An error is red."""

    def emit(self, record: logging.LogRecord) -> None:
        style = "red" if record.levelno >= logging.ERROR else ""
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        console.print(f"{PROGRAM}: {record.getMessage()}", style=style, markup=False)


class _File(logging.FileHandler):
    """Appends each record to the log file. Where that fails, as on a full disk, one sentence says so."""

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802 - the name in logging
        """Give the file up, and let the program go on."""
        for logger in (_logger, logging.getLogger("py.warnings"), logging.getLogger()):
            logger.removeHandler(self)
        with suppress(OSError):  # it cannot write what is left
            self.close()
        complain(f"{self.baseFilename} cannot be written ({sys.exception()}); the log ends here")


_logger = logging.getLogger(PROGRAM)
_logger.setLevel(logging.DEBUG)
_logger.propagate = False
_stderr = _Stderr(logging.INFO)
_logger.addHandler(_stderr)


def complain(sentence: str) -> None:
    """An error. It is always shown."""
    _logger.error("%s", sentence)


def say(sentence: str) -> None:
    """Something to know, which --quiet hides."""
    _logger.info("%s", sentence)


def detail(sentence: str) -> None:
    """A step of the work, which --verbose shows."""
    _logger.debug("%s", sentence)


def advance(sentence: str) -> None:
    """A line about work that goes on. A terminal shows a bar instead, so there it is a detail."""
    stderr = getattr(sys.stderr, "rich_proxied_file", sys.stderr)  # a bar of rich takes the place of sys.stderr
    (detail if stderr.isatty() else say)(sentence)


def to_file(text: str, level: int = logging.INFO) -> None:
    """Something that is shown in another way, such as a table. It is written to the log file alone."""
    record = _logger.makeRecord(PROGRAM, level, "", 0, STYLE.sub("", text), (), None)
    for handler in [each for each in _logger.handlers if each is not _stderr]:
        handler.handle(record)


def printed(text: str) -> None:
    """Something that was printed on stdout. A table begins on a line of its own."""
    if lines := text.strip("\n"):
        to_file("printed:" + (f"\n{lines}" if "\n" in lines else f" {lines}"))


def refused(error: Exception) -> None:
    """For the log file: an error that Typer prints itself, such as an unknown option."""
    if said := getattr(error, "format_message", None):
        to_file(said(), logging.ERROR)


def begin(versions: str) -> None:
    """The first lines of a log that a bug report needs: the command as it was typed, and the versions."""
    to_file(shlex.join([PROGRAM, *sys.argv[1:]]))
    to_file(versions)


def is_quiet() -> bool:
    """Whether only errors and results are shown."""
    return _stderr.level > logging.INFO


def set_up(file: Path | None = None, *, verbose: bool = False, quiet: bool = False) -> None:
    """Choose what is shown, and the file to which everything is appended, with times.

    Warnings of libraries are details. Raises InputError if the file cannot be written, or for verbose with quiet.
    """
    if verbose and quiet:
        raise InputError("--verbose and --quiet contradict each other; remove one of them")
    _stderr.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)
    shown: list[logging.Handler] = [_stderr] if verbose else [logging.NullHandler()]
    handlers: list[logging.Handler] = [] if file is None else [_file(file)]
    _logger.handlers[:] = [_stderr, *handlers]
    logging.captureWarnings(True)
    python_warnings = logging.getLogger("py.warnings")
    python_warnings.propagate = False
    python_warnings.handlers[:] = [*shown, *handlers]
    for handler in handlers:
        logging.getLogger().addHandler(handler)  # what libraries log


def _file(path: Path) -> logging.Handler:
    try:
        handler = _File(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another file", "log") from None
    handler.setFormatter(LINE)
    return handler


def program_options_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with the options of the whole program before the command. What follows "--" stays."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    first: list[str] = []
    others: list[str] = []
    left = iter(arguments[:end])
    for word in left:
        value = next(left, None) if word == WITH_VALUE else None
        if word in FLAGS or word.startswith(f"{WITH_VALUE}=") or value is not None:
            first += [word] if value is None else [word, value]
        else:
            others.append(word)
    return [*first, *others, *arguments[end:]]
