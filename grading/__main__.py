"""Official scores for folders of images. Exit status: 0 pass, 1 fail, 2 could not be done."""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console

from grading.report import digits_table, faces_table, stdout_console, to_json
from grading.results import Check, DigitsResult, FacesResult, GradingError, printable
from grading.spec import FACES_THRESHOLD

if TYPE_CHECKING:
    from PIL.Image import Image

Result = TypeVar("Result", FacesResult, DigitsResult)

EXIT_STATUS = {"pass": 0, "fail": 1, "error": 2}

JsonOption = Annotated[str, typer.Option(help="Also write the result as JSON to this file; - for stdout alone.")]

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__)


@app.callback()
def _commands() -> None:
    pass


@app.command("faces")
def faces(
    output_dir: Annotated[Path, typer.Argument(help="Folder of faces, 00.png, 01.png, ..")],
    gt_dir: Annotated[Path, typer.Argument(help="Folder of ground truth images of the same names.")],
    json: JsonOption = "",
    threshold: Annotated[float, typer.Option(help="The mean squared error must be below this.")] = FACES_THRESHOLD,
) -> None:
    """Problem 2: mean squared error of faces against their ground truth."""
    from grading.faces import grade_faces

    def failed(check: Check) -> FacesResult:
        return FacesResult("error", threshold if math.isfinite(threshold) else FACES_THRESHOLD, checks=[check])

    _deliver(_grade(lambda: grade_faces(output_dir, gt_dir, threshold), failed), json)


@app.command("digits")
def digits(
    output_dir: Annotated[Path, typer.Argument(help="Folder with mnistm/ and svhn/, each 500 images 0_001.png ..")],
    mnistm_classifier: Annotated[
        str, typer.Option(help="The judge: the course's Classifier.pth, or embedded: ours.", metavar="FILE|embedded")
    ] = "embedded",
    svhn_classifier: Annotated[
        str,
        typer.Option(
            help="The judge: pytorch_model.bin of resnet34_svhn, official: the same from the hub, or embedded: ours.",
            metavar="FILE|embedded|official",
        ),
    ] = "embedded",
    json: JsonOption = "",
    real: Annotated[
        Path | None, typer.Option(help="Real images to compare with, for information: the homework's digits folder.")
    ] = None,
    neighbours: Annotated[
        Path | None, typer.Option(help="PNG to write: the images most similar to real ones; needs --real.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where the judges think: cpu or cuda.")] = "cpu",
) -> None:
    """Problem 1: accuracy of generated digits, as the classifiers see them."""
    from grading.digits import grade_digits
    from grading.models import choose_digit_judge

    def grade() -> DigitsResult:
        if neighbours and not real:
            raise GradingError("--neighbours needs real images to look among; give --real too")
        judges = {
            "mnistm": choose_digit_judge("mnistm", mnistm_classifier, device),
            "svhn": choose_digit_judge("svhn", svhn_classifier, device),
        }
        return grade_digits(output_dir, judges, real, _saver(neighbours) if neighbours else None)

    _deliver(_grade(grade, lambda check: DigitsResult("error", checks=[check])), json)


def _saver(path: Path) -> Callable[[Image], None]:
    """What writes a picture to `path` as PNG, whole or not at all."""

    def save(picture: Image) -> None:
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        _write(path.resolve(), buffer.getvalue())

    return save


def _grade(grade: Callable[[], Result], failed: Callable[[Check], Result]) -> Result:
    """The result, or one that says what could not be done: our failures must never look like the submission's."""
    try:
        return grade()
    except GradingError as error:
        return failed(Check("call", "error", f"{error}."))
    except OSError as error:
        name = printable(str(error.filename or "a file"))
        return failed(Check("call", "error", f"{name} could not be used: {error.strerror}."))
    except Exception as error:  # a fault of the grader's own
        said = printable(f"{type(error).__name__}: {error}")
        return failed(Check("call", "error", f"The grader itself failed, please report it ({said})."))


def _deliver(result: FacesResult | DigitsResult, json: str) -> None:
    """Write the result where it was asked for and leave with its exit status."""
    if result.status == "error":
        _complain(result.checks[0].message)
    elif json != "-":
        table = faces_table(result) if isinstance(result, FacesResult) else digits_table(result)
        stdout_console().print(table)
    if json == "-":
        sys.stdout.write(to_json(result))
    elif json:
        try:
            _write(Path(json).resolve(), to_json(result).encode())
        except (OSError, RuntimeError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            _complain(f"{printable(json)} could not be written: {reason}.")
            raise typer.Exit(2) from None
    raise typer.Exit(EXIT_STATUS[result.status])


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; a pipe or device is written to, never replaced."""
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _complain(sentence: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"hw2-grade: {sentence}", style="red", markup=False)


def main() -> None:
    """Entry point of the `hw2-grade` command."""
    try:
        app(standalone_mode=True)
    except SystemExit as done:
        try:
            sys.stdout.flush()
        except OSError as error:  # a full disk or a closed pipe behind stdout: the verdict did not get out
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            _complain(f"the result could not be printed: {error.strerror}.")
            sys.exit(2)
        sys.exit(done.code)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _complain(f"the result could not be printed: {error.strerror}.")
        sys.exit(2)


if __name__ == "__main__":
    main()
