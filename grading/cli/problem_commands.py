"""The commands that score one problem's folder."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from grading.cli.deliver import deliver, graded, saver
from grading.core.errors import GradingError
from grading.core.log import complain
from grading.core.results import Part
from grading.core.text import printable
from grading.files.layout import has_files
from grading.homeworks import DEFAULT, chosen_homework
from grading.judges import Judges
from grading.judges.sources import Choice
from grading.problems.problem import Problem
from grading.submission.assignment import OPTIONS

P = TypeVar("P", bound=Problem)

JsonOption = Annotated[str, typer.Option(help="Also write the result as JSON to this file. With -, print only JSON.")]
HomeworkOption = Annotated[str, OPTIONS["homework"]]
MnistmOption = Annotated[str, OPTIONS["mnistm_classifier"]]
SvhnOption = Annotated[str, OPTIONS["svhn_classifier"]]
ClipOption = Annotated[str, OPTIONS["clip"]]
JudgesOption = Annotated[Choice, OPTIONS["judges"]]
HubCacheOption = Annotated[Path | None, OPTIONS["hub_cache"]]
DeviceOption = Annotated[str, OPTIONS["device"]]


def problem_of(homework: str, kind: type[P]) -> P:
    """The problem of one kind in an edition. Raises GradingError if the edition has none."""
    edition = chosen_homework(homework)
    for problem in edition.problems:
        if isinstance(problem, kind):
            return problem
    raise GradingError(f"{edition.name} has no problem {kind.name}; choose another homework", option="homework")


def check_some(output: Path, expected: str) -> None:
    """Raises GradingError if there is nothing to score."""
    if not has_files(output):
        what = "has no files in it" if output.is_dir() else "does not exist"
        raise GradingError(f"{printable(str(output))} {what}; expected {expected}")


def faces(
    output_dir: Annotated[Path, typer.Argument(help="Folder of faces, 00.png, 01.png, ..")],
    gt_dir: Annotated[Path, typer.Argument(help="Folder of ground truth images of the same names.")],
    json: JsonOption = "",
    threshold: Annotated[
        float | None,
        typer.Option(
            help="The mean squared error must be below this limit. (default: the homework's)", show_default=False
        ),
    ] = None,
    homework: HomeworkOption = DEFAULT,
) -> None:
    """Problem 2: mean squared error of faces against their ground truth."""
    from grading.problems.faces import Faces, FacesResult, grade_faces

    problem = graded(lambda: problem_of(homework, Faces))
    limit = problem.threshold if threshold is None else threshold
    shown = limit if limit is not None and math.isfinite(limit) else problem.threshold

    def grade() -> FacesResult:
        check_some(output_dir, "the folder of faces, 00.png, 01.png, ..")
        return grade_faces(output_dir, gt_dir, limit)

    result = graded(
        grade,
        json,
        lambda check: FacesResult("error", shown, checks=[check]),
    )
    deliver(problem.result(result, Part.WHOLE), result, json)


def digits(
    output_dir: Annotated[Path, typer.Argument(help="Folder with 500 images 0_001.png .. in each of mnistm/, svhn/.")],
    judges: JudgesOption = "official",
    mnistm_classifier: MnistmOption = "",
    svhn_classifier: SvhnOption = "",
    hub_cache: HubCacheOption = None,
    json: JsonOption = "",
    real: Annotated[
        Path | None,
        typer.Option(help="The homework's digits folder. Its real images are compared with, for information only."),
    ] = None,
    neighbours: Annotated[
        Path | None, typer.Option(help="PNG to write, with the images most similar to real ones. Needs --real.")
    ] = None,
    device: DeviceOption = "auto",
    homework: HomeworkOption = DEFAULT,
) -> None:
    """Problem 1: accuracy of generated digits, judged by the classifiers."""
    from grading.problems.digit_scores import DigitsResult, grade_digits
    from grading.problems.digits import Digits

    problem = graded(lambda: problem_of(homework, Digits))

    def grade() -> DigitsResult:
        if neighbours and not real:
            raise GradingError("--neighbours needs real images to compare with; add --real FOLDER")
        check_some(output_dir, "the folder with 500 images 0_001.png .. in each of mnistm/, svhn/")
        choices = {"mnistm": mnistm_classifier or judges, "svhn": svhn_classifier or judges}
        chosen = Judges(choices, device, hub_cache=hub_cache)
        loaded = {name: chosen[name] for name in chosen.sources(choices)}
        return grade_digits(output_dir, loaded, problem.rules, real, saver(neighbours) if neighbours else None)

    result = graded(grade, json, lambda check: DigitsResult("error", checks=[check]))
    deliver(problem.result(result), result, json)


def concepts(
    output_dir: Annotated[Path, typer.Argument(help="Folder with 0/0/, 0/1/, .., each with 25 images.")],
    prompts: Annotated[Path, typer.Option(help="The homework's input.json.")],
    references: Annotated[Path, typer.Option(help="The homework's folder textual_inversion, with 0/, 1/, ..")],
    judges: JudgesOption = "official",
    clip: ClipOption = "",
    hub_cache: HubCacheOption = None,
    json: JsonOption = "",
    style: Annotated[
        Literal["table", "official"], typer.Option("--format", help="Print our table, or the official script's lines.")
    ] = "table",
    device: DeviceOption = "auto",
    batch_size: Annotated[
        int, typer.Option(help="Images in one batch. It changes speed and memory, never the scores.", min=1)
    ] = 25,
    homework: HomeworkOption = DEFAULT,
) -> None:
    """Problem 3: CLIP image and text scores of generated pictures."""
    from grading.problems.concepts import Concepts
    from grading.problems.prompt_scores import ConceptsResult, grade_concepts, official_lines
    from grading.problems.prompts import read_concepts

    problem = graded(lambda: problem_of(homework, Concepts))

    def grade() -> ConceptsResult:
        check_some(output_dir, "the folder with 0/0/, 0/1/, .., each with 25 images")
        asked = read_concepts(prompts)
        judge = replace(Judges({"clip": clip or judges}, device, hub_cache=hub_cache)["clip"], batch_size=batch_size)
        return grade_concepts(output_dir, asked, references, judge, problem.rules)

    result = graded(grade, json, lambda check: ConceptsResult("error", checks=[check]))
    lines = None
    if style == "official":
        lines = official_lines(result)
        for check in result.checks:  # the official script would have stopped at one of these
            if check.status == "fail" and not check.name.endswith(" score"):
                complain(check.message)
    deliver(problem.result(result, Part.WHOLE), result, json, lines)


def zero_shot(
    predictions: Annotated[Path, typer.Argument(help="CSV with the columns image_name and predicted_id.")],
    labels: Annotated[Path, typer.Option(help="The homework's id2label.json.")],
    json: JsonOption = "",
) -> None:
    """Problem 3's report: accuracy of zero-shot predictions, recomputed from the file names."""
    from grading.problems.zero_shot import ZeroShotResult, grade_zero_shot, read_labels, zero_shot_result

    result = graded(
        lambda: grade_zero_shot(predictions, read_labels(labels)),
        json,
        lambda check: ZeroShotResult("error", checks=[check]),
    )
    deliver(zero_shot_result(result), result, json)


def explain_command(
    check: Annotated[str, typer.Argument(help="Line, figure or stage, such as '1 simple' or mse. (default: all)")] = "",
    homework: HomeworkOption = DEFAULT,
) -> None:
    """Explain how a number is computed and where its rule comes from."""
    from grading.points.explain import explain, explanations
    from grading.reports.terminal import stdout_console

    def texts() -> list[str]:
        edition = chosen_homework(homework)
        names = [check] if check else [each.name for each in explanations(edition)]
        return [explain(name, edition) for name in names]

    stdout_console().print("\n\n".join(graded(texts)), markup=False)
