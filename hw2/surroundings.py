"""What a program finds around it: streams, the size of its terminal, signals. Odd ones are put right, or told."""

from __future__ import annotations

import ast
import errno
import gc
import inspect
import io
import os
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from typer.core import TyperGroup

LEAST_COLUMNS, MOST_COLUMNS = 20, 10_000
"""Widths that a table can be printed in. Other programs leave COLUMNS=0, which would print nothing."""

NARROW = 100
"""Columns that Typer's help needs."""

UNSEEN_OBJECTS = 50_000
"""New objects after which garbage is looked for. Importing PyTorch makes a million objects that stay; to look at them
again and again, as Python does by default, takes a sixth of the time."""

SIZES = ("COLUMNS", "LINES", "TERMINAL_WIDTH")

FAILED = 2
"""The exit status of whatever could not be done, unexpected exceptions included. 1 would be a verdict."""

_stopped: list[int] = []
"""The signal that asked this process to stop."""


class Stream(io.TextIOWrapper):
    """stdout or stderr. What cannot be written is remembered, and the program goes on.

    copy: is given all that is written.
    """

    lost: OSError | None = None
    copy: Callable[[str], object] | None = None

    def write(self, text: str) -> int:
        """As `TextIOWrapper.write`, without OSError."""
        if self.copy:
            self.copy(text)
        try:
            return super().write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """As `TextIOWrapper.flush`, without OSError."""
        try:
            super().flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.lost = self.lost or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())  # what is buffered must not fail again
        os.close(nowhere)


def run(program: Callable[[], object], complain: Callable[[str], None], explain: Callable[[Exception], str]) -> int:
    """Run a program in surroundings that were put right, and return its exit status.

    complain: prints a sentence on stderr. explain: the sentence about an unexpected exception. An exception, a stdout
    that is closed or full, and a current folder that was deleted give FAILED; a reader such as `head` that has seen
    enough gives 141, as for programs that SIGPIPE ends; a signal gives 128 + its number.
    """
    stdout = _repair_streams()
    _repair_sizes()
    heed_signals()
    gc.set_threshold(UNSEEN_OBJECTS)
    status = _status(program, complain, explain)
    if status in (1, FAILED) and _stopped:
        status = stopped_status()
    stdout.flush()
    if stdout.lost is None:
        return status
    if stdout.lost.errno == errno.EPIPE:
        return 128 + signal.SIGPIPE
    reason = "stdout is closed" if stdout.lost.errno == errno.EBADF else stdout.lost.strerror
    complain(f"the output could not be printed: {reason}")
    return FAILED


def _status(program: Callable[[], object], complain: Callable[[str], None], explain: Callable[[Exception], str]) -> int:
    try:
        Path.cwd()
    except OSError:
        complain("the current folder was deleted; change to another one")
        return FAILED
    try:
        program()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else FAILED if done.code else 0
    except KeyboardInterrupt as stop:
        complain(f"stopped; {stop or 'nothing was written'}")
        return stopped_status()
    except Exception as error:
        complain(explain(error))
        return FAILED
    return 0


def stopped_status() -> int:
    """The exit status after a signal: 130 for Ctrl-C, 143 for SIGTERM, 129 for a terminal that was closed."""
    return 128 + (_stopped[0] if _stopped else signal.SIGINT)


def heed_signals() -> None:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, as SIGINT is. A signal that is ignored, as by nohup, stays so."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _stop)


def _stop(number: int, _frame: FrameType | None) -> None:
    _stopped.append(number)
    raise KeyboardInterrupt


def copy_stdout(copy: Callable[[str], object]) -> None:
    """From now on, also give `copy` what is printed on stdout."""
    if isinstance(sys.stdout, Stream):
        sys.stdout.copy = copy


def _repair_streams() -> Stream:
    """Fill closed descriptors, which the next file would get otherwise, and replace stdout and stderr by a `Stream`.

    Returns stdout. If it was closed, writing to it fails.
    """
    for descriptor, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # gets the lowest free number
    stdout, sys.stderr = _stream(sys.stdout, os.O_RDONLY), _stream(sys.stderr, os.O_WRONLY)
    sys.stdout = stdout
    return stdout


def _stream(stream: Any, closed: int) -> Stream:
    """closed: how the null device is opened in place of a closed stream."""
    if stream is None:
        return Stream(os.fdopen(os.open(os.devnull, closed), "wb", closefd=False), "utf-8", "backslashreplace")
    stream.flush()
    return Stream(stream.buffer, stream.encoding, "backslashreplace", line_buffering=stream.line_buffering)


def _repair_sizes() -> None:
    """Forget sizes of the terminal in which nothing can be printed."""
    for name in SIZES:
        try:
            least = 2 if name == "LINES" else LEAST_COLUMNS
            usable = least <= int(os.environ.get(name, least)) <= MOST_COLUMNS
        except ValueError:
            usable = False
        if not usable:
            del os.environ[name]


def fit_help(app: Any) -> None:
    """On a narrow terminal, help is plain text: Typer's columns would break the names of options.

    The explanations then have more than half of the width. An option that is too long for the rest has its own line.
    """
    columns = shutil.get_terminal_size().columns
    if columns < NARROW:
        app.rich_markup_mode = None
        spacing = 2
        longest = max(1, min(30, columns // 2 - 2 * spacing - 1))
        TyperGroup.context_class.formatter_class.write_dl.__defaults__ = (longest, spacing)


def restore_help(app: Any, module: Path) -> None:
    """Give the commands of a Typer application, defined in `module`, the docstrings that `python -OO` drops."""
    if sys.flags.optimize < 2:
        return
    app.info.help = app.info.help or ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    commands = [app, *(group.typer_instance for group in app.registered_groups)]
    for command in (each for group in commands for each in group.registered_commands):
        (function,) = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(command.callback)))).body
        if isinstance(function, ast.FunctionDef):
            command.callback.__doc__ = ast.get_docstring(function)
