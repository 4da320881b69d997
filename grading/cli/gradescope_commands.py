"""The commands for Gradescope: one makes the autograder's zip file, and the other is what that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grading.cli.deliver import EXIT_STATUS, graded, write
from grading.cli.problem_commands import HomeworkOption
from grading.core.text import printable
from grading.homeworks import DEFAULT, chosen_homework
from grading.reports.terminal import stdout_console, submission_table
from grading.submission.assignment import OPTIONS

DataOption = Annotated[Path, OPTIONS["data"]]


def gradescope(
    data: DataOption,
    wheel: Annotated[Path, typer.Option(help="Wheel of this project, made by `python -m build --wheel`.")],
    output: Annotated[Path, typer.Option(help="Zip file to write.")] = Path("autograder.zip"),
    homework: HomeworkOption = DEFAULT,
) -> None:
    """Make the zip file of a Gradescope autograder, which scores handed-in public faces and zero-shot predictions."""
    from grading.submission.autograder import autograder_zip

    def make() -> int:
        content = autograder_zip(data, wheel, chosen_homework(homework))
        write(output.resolve(), content)
        return len(content)

    size = graded(make)
    stdout_console().print(printable(f"{output} is written ({size / 1e6:.1f} MB); upload it to Gradescope."))


def handed_in(
    submission_dir: Annotated[
        Path, typer.Argument(help="Folder with the faces in faces/, and zero-shot/predictions.csv.")
    ],
    data: DataOption,
    output: Annotated[Path, typer.Option(help="File to write, in the format of Gradescope's results.json.")],
    homework: HomeworkOption = DEFAULT,
) -> None:
    """Score outputs that were handed in, without running anything, and write Gradescope's results.json."""
    from grading.reports.gradescope import gradescope_json
    from grading.submission.handed_in import grade_handed_in

    result = graded(lambda: grade_handed_in(submission_dir, data, chosen_homework(homework)))
    graded(lambda: write(output.resolve(), gradescope_json(result).encode()))
    stdout_console().print(submission_table(result))
    raise typer.Exit(EXIT_STATUS[result.status])
