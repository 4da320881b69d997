"""Official scores for folders of images. Exit status: 0 pass, 1 fail, 2 could not be done."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from grading.report import digits_table, faces_table, stdout_console, to_json
from grading.results import Check, DigitsResult, FacesResult, GradingError
from grading.spec import FACES_THRESHOLD

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

    try:
        result = grade_faces(output_dir, gt_dir, threshold)
    except GradingError as error:
        result = FacesResult(status="error", threshold=threshold, checks=[Check("call", "error", f"{error}.")])
    _deliver(result, json)


@app.command("digits")
def digits(
    output_dir: Annotated[Path, typer.Argument(help="Folder with mnistm/ and svhn/, each 500 images 0_001.png ..")],
    mnistm_classifier: Annotated[Path, typer.Option(help="Weights of the judge: the course's Classifier.pth.")],
    svhn_classifier: Annotated[Path, typer.Option(help="Weights of the judge: pytorch_model.bin of resnet34_svhn.")],
    json: JsonOption = "",
) -> None:
    """Problem 1: accuracy of generated digits, as the official classifiers see them."""
    from grading.digits import grade_digits
    from grading.models import load_digit_judge

    try:
        judges = {
            "mnistm": load_digit_judge("mnistm", mnistm_classifier),
            "svhn": load_digit_judge("svhn", svhn_classifier),
        }
        result = grade_digits(output_dir, judges)
    except GradingError as error:
        result = DigitsResult(status="error", checks=[Check("call", "error", f"{error}.")])
    _deliver(result, json)


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
        partial = Path(json).with_name(f".{Path(json).name}.partial")
        try:
            partial.write_text(to_json(result))
            partial.replace(json)
        except OSError as error:
            _complain(f"{json} could not be written: {error.strerror}.")
            raise typer.Exit(2) from None
    raise typer.Exit(EXIT_STATUS[result.status])


def _complain(sentence: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"hw2-grade: {sentence}", style="red", markup=False)


def main() -> None:
    """Entry point of the `hw2-grade` command."""
    sys.exit(app())


if __name__ == "__main__":
    main()
