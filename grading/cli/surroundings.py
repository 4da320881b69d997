"""What a program finds around it: streams, the size of its terminal, signals. Odd ones are put right, or told."""

from __future__ import annotations

import ast
import difflib
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
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.status import Status
from typer.core import TyperGroup

from grading.core.log import advance, complain, is_quiet, refused
from grading.core.text import counted, listed, printable
from grading.reports.visibility import shown_seconds

if TYPE_CHECKING:
    from grading.submission.grader import Grader

LEAST_COLUMNS, MOST_COLUMNS = 20, 10_000
"""Widths that a table can be printed in. Other programs leave COLUMNS=0, which would print nothing."""

AGAIN = "run the same command again"

NARROW = 100
"""Columns that Typer's help needs."""

UNSEEN_OBJECTS = 50_000
"""New objects after which garbage is looked for. Importing PyTorch makes a million objects that stay; to look at them
again and again, as Python does by default, takes a sixth of the time."""

SIZES = ("COLUMNS", "LINES", "TERMINAL_WIDTH")

FAILED = 2
"""The exit status of whatever could not be done, unexpected exceptions included. 1 is a verdict."""

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
    complain(f"the result could not be printed: {reason}.")
    return FAILED


def _status(program: Callable[[], object], complain: Callable[[str], None], explain: Callable[[Exception], str]) -> int:
    try:
        Path.cwd()
    except OSError:
        complain("the current folder was deleted; change to another one.")
        return FAILED
    try:
        program()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else FAILED if done.code else 0
    except (KeyboardInterrupt, Exception) as error:
        cause = error.cause if isinstance(error, Ended) else error
    else:
        return 0
    if isinstance(cause, Exception):
        complain(explain(cause))
        return FAILED
    complain(f"stopped {cause}." if str(cause) else f"stopped; {AGAIN}.")
    return stopped_status()


class Commands(TyperGroup):
    """Lets `run` see what stopped a command. Typer itself would exit with status 1."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As `TyperGroup.resolve_command`; answers an unknown command with those that may be meant."""
        if args[0] in self.commands or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        near = difflib.get_close_matches(args[0], self.commands, n=3) or list(self.commands)
        typed = ", ".join(f"{ctx.command_path} {name}" for name in near)
        complain(f"there is no command {printable(args[0])!s:.80}; there {'is' if len(near) == 1 else 'are'}: {typed}.")
        raise typer.Exit(FAILED)

    def invoke(self, ctx: Any) -> Any:
        """As `TyperGroup.invoke`; raises Ended for KeyboardInterrupt and OSError."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, OSError) as cause:
            raise Ended(cause) from None
        except Exception as error:
            refused(error)
            raise


class Ended(Exception):  # noqa: N818 - a carrier
    """What ended a command, hidden from Typer. cause: the exception."""

    def __init__(self, cause: BaseException) -> None:
        self.cause = cause


class Standing:
    """Around the grading of one submission: tells when each stage ends, and after a signal, how to resume.

    plan: the names of all stages, in their order.
    """

    def __init__(self, plan: Sequence[str] = ()) -> None:
        self.plan = plan
        self.begun: list[str] = []

    def begin(self, stage: str) -> str:
        """Note that a stage begins, and so that the one before has ended. Returns its name."""
        self._tell_end()
        self.begun.append(stage)
        self.since = time.monotonic()
        return stage

    def __enter__(self) -> Standing:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_others: object) -> None:
        if kind is None:
            self._tell_end()
        elif issubclass(kind, KeyboardInterrupt):
            *done, last = self.begun or ["preparing"]
            kept = f" after {counted(len(done), 'finished stage')} ({listed(done)})" if done else ""
            raise KeyboardInterrupt(f"in {printable(last)}{kept}; {AGAIN} to resume") from None

    def _tell_end(self) -> None:
        if self.begun and (name := self.begun[-1]) in self.plan:
            took = shown_seconds(time.monotonic() - self.since)
            advance(f"stage {self.plan.index(name) + 1} of {len(self.plan)}: {printable(name)} ran in {took}")


def planned(grader: Grader) -> list[str]:
    """The names of all stages of a grading."""
    from grading.submission.stages import stage_names

    asked = grader.assignment
    return stage_names([run.name for run in grader.runs], fix=asked.fix, twice=asked.twice)


def waiting(what: str) -> Status:
    """A spinner on stderr, which needs a terminal, with what is being done."""
    return Console(stderr=True, quiet=is_quiet()).status(what)


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
