"""Functions that commands share. They print or write results, errors and tracebacks, and set the exit status."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from grading.core.errors import GradingError, record_failure
from grading.core.log import complain, detail, is_quiet, to_file
from grading.core.results import Check, ProblemResult, SubmissionResult
from grading.core.text import printable
from grading.files.storage import write_whole
from grading.reports.terminal import problem_table, stdout_console, submission_table, to_json

if TYPE_CHECKING:
    from PIL.Image import Image

Result = TypeVar("Result")

EXIT_STATUS = {"pass": 0, "fail": 1, "error": 2}

DEBUG = {"on": False}
"""Whether tracebacks are shown at once (--debug)."""


def graded(grade: Callable[[], Result], json: str = "", failed: Callable[[Check], Any] | None = None) -> Result:
    """Return the result of a command's work. If the work fails, print one sentence and exit with status 2.

    json: the file for the result. failed: makes a result from an error; it is written to that file.
    """
    try:
        return grade()
    except GradingError as error:
        said = sentence(error)
    except Exception as error:
        failure = record_failure(error)
        said = failure.sentence
        show_traceback(failure.traceback)
    complain(said)
    if failed and json:
        write_json(json, failed(Check("call", "error", said)))
    raise typer.Exit(2)


def sentence(error: GradingError) -> str:
    """The error's message, with the option that solves it, written as on the command line."""
    option = f" (option --{error.option.replace('_', '-')})" if error.option else ""
    return f"{error}{option}."


def deliver(result: ProblemResult, details: Any, json: str, lines: str | None = None) -> None:
    """Print a problem's result, write it to the JSON file, and exit with its status.

    details: the problem's own result, which is written as JSON. lines: printed instead of the table.
    """
    _deliver(problem_table(result) if lines is None else Text(lines.rstrip("\n")), details, result.status, json)


def deliver_submission(result: SubmissionResult, json: str) -> None:
    """Print a submission's result, write it to the JSON file, and exit with its status."""
    for text in [*(stage.traceback for stage in result.stages), *(each.traceback for each in result.results)]:
        show_traceback(text)
    _deliver(submission_table(result), result, result.status, json)


def _deliver(table: RenderableType, details: Any, status: str, json: str) -> None:
    if json != "-":
        stdout_console().print(table)
    if json:
        write_json(json, details)
    raise typer.Exit(EXIT_STATUS[status])


def write_json(path: str, details: Any) -> None:
    """Write a result as JSON to a file, or to stdout for "-". Exit with status 2 if the file cannot be written."""
    if path == "-":
        sys.stdout.write(to_json(details))
        return
    try:
        write(Path(path).resolve(), to_json(details).encode())
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        complain(f"{printable(path)} could not be written: {reason}.")
        raise typer.Exit(2) from None


def saver(path: Path) -> Callable[[Image], None]:
    """A function that writes a picture to `path` as PNG, whole or not at all."""

    def save(picture: Image) -> None:
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        write(path.resolve(), buffer.getvalue())

    return save


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. A pipe or device is written to, never replaced."""
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    write_whole(path, content)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write(path.resolve(), text.encode())


def show_traceback(text: str) -> None:
    """Print a traceback on stderr, unchanged, with --debug; without it, it is a detail. The log file always has it."""
    if text and DEBUG["on"]:
        Console(stderr=True, soft_wrap=True, highlight=False).print(text, style="dim", markup=False)
        to_file(text)
    elif text:
        detail(text)


def explain(error: BaseException) -> str:
    """The sentence about an exception that ends the program. Its traceback is shown or logged."""
    failure = record_failure(error)
    show_traceback(failure.traceback)
    return failure.sentence


def show_aside(table: RenderableType) -> None:
    """Print a table on stderr, unless --quiet hides it. The log file always has it."""
    console = Console(stderr=True, highlight=False, quiet=is_quiet())
    console.print(table)
    copy = Console(file=io.StringIO(), width=console.width, highlight=False)
    copy.print(table)
    to_file(f"\n{copy.file.getvalue()}")  # type: ignore[attr-defined]
