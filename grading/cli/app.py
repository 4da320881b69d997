"""Official scores for folders of images. Exit status: 0 pass, 1 fail, 2 could not be done."""

from __future__ import annotations

import io
import math
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from grading.core.errors import GradingError, failure_sentence
from grading.core.results import Check, ConceptsResult, DigitsResult, FacesResult, SubmissionResult, ZeroShotResult
from grading.core.spec import CLIP_MODEL, FACES_THRESHOLD
from grading.core.text import printable
from grading.files.storage import write_whole
from grading.reports.terminal import Result as AnyResult
from grading.reports.terminal import (
    concepts_table,
    digits_table,
    faces_table,
    stdout_console,
    to_json,
    zero_shot_table,
)
from grading.sandbox.run import Sandbox

if TYPE_CHECKING:
    from PIL.Image import Image

Result = TypeVar("Result", FacesResult, DigitsResult, ConceptsResult, ZeroShotResult, SubmissionResult)

EXIT_STATUS = {"pass": 0, "fail": 1, "error": 2}

JsonOption = Annotated[str, typer.Option(help="Also write the result as JSON to this file; - for stdout alone.")]

DataOption = Annotated[Path, typer.Option(help="The homework's hw2_data.")]
OutputOption = Annotated[Path, typer.Option(help="Folder for outputs, results and reports; called again, goes on.")]
PrivateOption = Annotated[
    Path | None, typer.Option(help="A folder like hw2_data with the private noises, ground truth and prompts.")
]
PublicOnlyOption = Annotated[
    bool, typer.Option("--public-only", help="No private part: 35 performance points instead of 55.")
]
DeviceOption = Annotated[str, typer.Option(help="Where the judges think: cpu, cuda, or auto.")]
ProblemsOption = Annotated[str, typer.Option(help="Which problems: some of 1,2,3.")]
UnetOption = Annotated[Path | None, typer.Option(help="What scripts get as UNet.pt. [default: DATA/face/UNet.pt]")]
StableDiffusionOption = Annotated[
    Path | None, typer.Option(help="What scripts get as model.ckpt. [default: DATA/model.ckpt]")
]
MnistmOption = Annotated[
    str, typer.Option(help="The judge: the course's Classifier.pth, or embedded: ours.", metavar="FILE|embedded")
]
SvhnOption = Annotated[
    str,
    typer.Option(
        help="The judge: pytorch_model.bin of resnet34_svhn, official: the same from the hub, or embedded: ours.",
        metavar="FILE|embedded|official",
    ),
]
ClipOption = Annotated[
    str,
    typer.Option(
        help="The judge: a folder of transformers, a name on the hub, or embedded: ours.",
        metavar="FOLDER|NAME|embedded",
    ),
]
TwiceOption = Annotated[bool, typer.Option("--twice", help="Run each script twice; the files must be the same.")]
GpuOption = Annotated[bool, typer.Option("--gpu", help="Let scripts use the NVIDIA devices.")]
TrustOption = Annotated[bool, typer.Option("--trust", help="No sandbox: for your own code only.")]
PythonOption = Annotated[
    Path | None, typer.Option(help="Environment whose python3 scripts find. [default: the grader's own]")
]
StaffOption = Annotated[
    Path | None,
    typer.Option(help="CSV: submission, report_1, report_2, report_3, late_days, staff_fixed (yes or no)."),
]

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
    from grading.problems.faces import grade_faces

    def failed(check: Check) -> FacesResult:
        return FacesResult("error", threshold if math.isfinite(threshold) else FACES_THRESHOLD, checks=[check])

    _deliver(_grade(lambda: grade_faces(output_dir, gt_dir, threshold), failed), json)


@app.command("digits")
def digits(
    output_dir: Annotated[Path, typer.Argument(help="Folder with mnistm/ and svhn/, each 500 images 0_001.png ..")],
    mnistm_classifier: MnistmOption = "embedded",
    svhn_classifier: SvhnOption = "embedded",
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
    from grading.judges.classifiers import choose_digit_judge, chosen_device
    from grading.problems.digits import grade_digits

    def grade() -> DigitsResult:
        if neighbours and not real:
            raise GradingError("--neighbours needs real images to look among; give --real too")
        place = chosen_device(device)
        judges = {
            "mnistm": choose_digit_judge("mnistm", mnistm_classifier, place),
            "svhn": choose_digit_judge("svhn", svhn_classifier, place),
        }
        return grade_digits(output_dir, judges, real, _saver(neighbours) if neighbours else None)

    _deliver(_grade(grade, lambda check: DigitsResult("error", checks=[check])), json)


@app.command("concepts")
def concepts(
    output_dir: Annotated[Path, typer.Argument(help="Folder with 0/0/, 0/1/, .., each 25 images.")],
    prompts: Annotated[Path, typer.Option(help="The homework's input.json.")],
    references: Annotated[Path, typer.Option(help="The homework's textual_inversion, with 0/, 1/ ..")],
    clip: ClipOption = CLIP_MODEL,
    json: JsonOption = "",
    style: Annotated[
        Literal["table", "official"], typer.Option("--format", help="Print our table, or the official script's lines.")
    ] = "table",
    device: Annotated[str, typer.Option(help="Where the judge thinks: cpu, cuda, or auto.")] = "auto",
    batch_size: Annotated[
        int, typer.Option(help="Images that it sees at once; scores do not depend on it.", min=1)
    ] = 25,
) -> None:
    """Problem 3: CLIP image and text scores of generated pictures."""
    from grading.judges.classifiers import chosen_device
    from grading.judges.clip import load_clip
    from grading.problems.concepts import grade_concepts, official_lines, read_concepts

    def grade() -> ConceptsResult:
        asked = read_concepts(prompts)
        return grade_concepts(output_dir, asked, references, load_clip(clip, chosen_device(device), batch_size))

    result = _grade(grade, lambda check: ConceptsResult("error", checks=[check]))
    lines = None
    if style == "official" and result.status != "error":
        lines = official_lines(result)
        for check in result.checks:  # the official script would have stopped at one of these
            if check.status == "fail" and not check.name.endswith(" score"):
                _complain(check.message)
    _deliver(result, json, lines)


@app.command("zero-shot")
def zero_shot(
    predictions: Annotated[Path, typer.Argument(help="CSV with the columns image_name and predicted_id.")],
    labels: Annotated[Path, typer.Option(help="The homework's id2label.json.")],
    json: JsonOption = "",
) -> None:
    """Problem 3's report: accuracy of zero-shot predictions, recomputed from the file names."""
    from grading.problems.zero_shot import grade_zero_shot, read_labels

    def failed(check: Check) -> ZeroShotResult:
        return ZeroShotResult("error", checks=[check])

    _deliver(_grade(lambda: grade_zero_shot(predictions, read_labels(labels)), failed), json)


@app.command("submission")
def submission(
    submission_dir: Annotated[Path, typer.Argument(help="Folder with hw2_1.sh, hw2_2.sh, hw2_3.sh.")],
    data: DataOption,
    output: OutputOption,
    private: PrivateOption = None,
    public_only: PublicOnlyOption = False,
    problems: ProblemsOption = "1,2,3",
    unet: UnetOption = None,
    stable_diffusion: StableDiffusionOption = None,
    mnistm_classifier: MnistmOption = "embedded",
    svhn_classifier: SvhnOption = "embedded",
    clip: ClipOption = CLIP_MODEL,
    device: DeviceOption = "auto",
    twice: TwiceOption = False,
    gpu: GpuOption = False,
    trust: TrustOption = False,
    python: PythonOption = None,
    staff: StaffOption = None,
    late_days: Annotated[int, typer.Option(help="Days late beyond the free ones.", min=0)] = 0,
    staff_fixed: Annotated[bool, typer.Option("--staff-fixed", help="Staff had to mend the code.")] = False,
    json: JsonOption = "",
) -> None:
    """A whole submission: run its scripts safely, score what they make, write the reports."""

    def grade() -> SubmissionResult:
        from grading.points.lines import StaffEntry, read_staff_file
        from grading.submission.assignment import Assignment
        from grading.submission.grader import Grader

        assignment = Assignment(
            data, _private(private, public_only), unet, stable_diffusion, _problems(problems), mnistm_classifier,
            svhn_classifier, clip, device, twice, Sandbox(gpu, trust, python or Path(sys.prefix)),
        )  # fmt: skip
        entry = StaffEntry()
        if staff:
            entry = read_staff_file(staff).get(submission_dir.resolve().name, entry)
        if late_days or staff_fixed:
            entry = StaffEntry(entry.report, late_days or entry.late_days, staff_fixed or entry.staff_fixed)
        with Console(stderr=True).status("preparing") as status:
            return Grader(assignment).grade(submission_dir, output, entry, status.update)

    def failed(check: Check) -> SubmissionResult:
        return SubmissionResult(printable(submission_dir.name), "error", 0, 0, 0, warnings=[check])

    _deliver(_grade(grade, failed), json)


@app.command("explain")
def explain_command(
    check: Annotated[str, typer.Argument(help="A line, figure or stage, such as '1 simple' or mse; else all.")] = "",
) -> None:
    """How a number is computed and where its rule comes from."""
    from grading.points.explain import EXPLANATIONS, explain

    try:
        names = [check] if check else [each.name for each in EXPLANATIONS]
        stdout_console().print("\n\n".join(map(explain, names)), markup=False)
    except GradingError as error:
        _complain(f"{error}.")
        raise typer.Exit(2) from None


@app.command("cohort")
def cohort(
    submissions: Annotated[Path, typer.Argument(help="Folder with one folder for each submission.")],
    data: DataOption,
    output: OutputOption,
    private: PrivateOption = None,
    public_only: PublicOnlyOption = False,
    problems: ProblemsOption = "1,2,3",
    unet: UnetOption = None,
    stable_diffusion: StableDiffusionOption = None,
    mnistm_classifier: MnistmOption = "embedded",
    svhn_classifier: SvhnOption = "embedded",
    clip: ClipOption = CLIP_MODEL,
    device: DeviceOption = "auto",
    twice: TwiceOption = False,
    gpu: GpuOption = False,
    trust: TrustOption = False,
    python: PythonOption = None,
    staff: StaffOption = None,
    workers: Annotated[
        int | None, typer.Option(help="Submissions at a time. [default: one for each GPU, or one]", min=1)
    ] = None,
    address: Annotated[str, typer.Option(help="Of a Ray cluster: auto, or HOST:PORT. [default: this machine]")] = "",
) -> None:
    """A whole class. Exit status: 0 all graded, whatever their points, 2 something could not be checked."""
    try:
        from grading.cohort.cohort import grade_cohort
        from grading.points.lines import read_staff_file
        from grading.submission.assignment import Assignment

        assignment = Assignment(
            data, _private(private, public_only), unet, stable_diffusion, _problems(problems), mnistm_classifier,
            svhn_classifier, clip, device, twice, Sandbox(gpu, trust, python or Path(sys.prefix)),
        )  # fmt: skip
        results = grade_cohort(
            submissions, assignment, output, read_staff_file(staff) if staff else {}, workers, address
        )
    except GradingError as error:
        _complain(f"{error}.")
        raise typer.Exit(2) from None
    counts = Counter(result.status for result in results)
    unchecked = f"; {counts['error']} could not be checked whole: grade again" if counts["error"] else ""
    stdout_console().print(f"{len(results)} submissions graded, {counts['pass']} with full points{unchecked}.")
    stdout_console().print(printable(f"{output / 'index.html'} and {output / 'scores.csv'}"))
    raise typer.Exit(2 if counts["error"] else 0)


def _private(private: Path | None, public_only: bool) -> Path | None:
    if public_only and private:
        raise GradingError("--public-only and --private contradict each other; give one of them")
    return private


def _problems(text: str) -> tuple[int, ...]:
    if not set(text.split(",")) <= {"1", "2", "3"}:
        raise GradingError(f"--problems is {printable(text)}; expected some of 1,2,3 with commas between them")
    return tuple(sorted({int(number) for number in text.split(",")}))


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
    except Exception as error:
        return failed(Check("call", "error", failure_sentence(error)))


def _table(result: AnyResult) -> RenderableType:
    if isinstance(result, FacesResult):
        return faces_table(result)
    if isinstance(result, DigitsResult):
        return digits_table(result)
    if isinstance(result, SubmissionResult):
        from grading.reports.terminal import submission_table

        return submission_table(result)
    return concepts_table(result) if isinstance(result, ConceptsResult) else zero_shot_table(result)


def _deliver(result: AnyResult, json: str, lines: str | None = None) -> None:
    """Write the result where it was asked for and leave with its exit status. lines: to print instead of the table."""
    if isinstance(result, SubmissionResult) and result.status == "error" and not result.lines:
        _complain(result.warnings[0].message)
    elif not isinstance(result, SubmissionResult) and result.status == "error":
        _complain(result.checks[0].message)
    elif json != "-":
        console = stdout_console()
        console.print(_table(result) if lines is None else Text(lines.rstrip("\n")))
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
    write_whole(path, content)


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
