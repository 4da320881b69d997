"""Problem 2: the official mean squared error of faces and their ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Literal

from grading.core.arrays import ImageU8
from grading.core.errors import GradingError
from grading.core.results import AMPLIFICATION, Card, Check, Figure, Frame, Outcome, Part, ProblemResult, Status
from grading.core.text import beside, counted, ignored, printable
from grading.files.images import ImageRefused, PngReader, followed, read_png
from grading.files.layout import check_layout, png_names
from grading.problems.metrics import mse, psnr, ssim
from grading.problems.missing import missing_reasons
from grading.problems.problem import Explanation, Input, Problem, Run, messages, plain


@dataclass(frozen=True)
class FacesResult:
    """Problem 2. Scores are means over the images that could be scored, None if there are none.

    threshold: None if the homework has none. mse: the official score, of 0-255 values. psnr: in dB, None for identical
    images. psnr and ssim are for information.
    """

    status: Status
    threshold: float | None
    mse: float | None = None
    mse_per_image: dict[str, float] = field(default_factory=dict)
    psnr: float | None = None
    psnr_per_image: dict[str, float | None] = field(default_factory=dict)
    ssim: float | None = None
    ssim_per_image: dict[str, float | None] = field(default_factory=dict)
    expected: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    problem: Literal["faces"] = "faces"


def grade_faces(
    output: Path,
    ground_truth: Path,
    threshold: float | None,
    read: PngReader = read_png,
    refused: Mapping[str, str] | None = None,
) -> FacesResult:
    """Score `output/NAME.png` against every `ground_truth/NAME.png`.

    The result passes if every expected image exists and is readable, and the mean over images of the mean squared error
    is below `threshold`, if there is one. A missing or refused image fails its own check and is left out of the mean.
    read: the function that reads the output. refused: {path: reason} of outputs that were not collected.
    Raises GradingError if the ground truth is missing, empty or unreadable, or threshold is not a positive number.
    """
    if threshold is not None and (not threshold > 0 or threshold == float("inf")):
        raise GradingError(f"the threshold is {threshold:g}; expected a positive number")
    references = _read_ground_truth(ground_truth)
    if output.exists() and not output.is_dir():
        raise GradingError(f"{printable(str(output))} is a file; expected the folder with the faces")
    try:
        layout = check_layout(output, references)
    except OSError as error:
        raise GradingError(f"{printable(str(output))} cannot be listed ({error.strerror}); check its rights") from None

    checks: list[Check] = []
    if not output.exists():
        checks.append(Check("folder", "fail", f"The folder {printable(str(output))} does not exist."))
    reasons = missing_reasons(output, layout.missing, layout.expected, refused or {})
    checks += [Check(reason.names[0], "fail", reason.sentence()) for reason in reasons]
    faces = _read_faces(output, references, layout.found, read, checks)
    errors = {name: mse(face, references[name]) for name, face in faces.items()}
    psnrs = {name: psnr(face, references[name]) for name, face in faces.items()}
    ssims = {name: ssim(face, references[name]) for name, face in faces.items()}
    if layout.unexpected:
        checks.append(Check("unexpected", "warning", ignored(layout.unexpected)))

    score = fmean(errors.values()) if errors else None
    if len(errors) < len(layout.expected):
        checks.insert(0, _incomplete(score, len(errors), len(layout.missing), len(layout.expected)))
    elif score is not None:
        checks.append(_score_check(score, threshold, len(layout.expected)))
    known_psnrs = [value for value in psnrs.values() if value is not None]
    known_ssims = [value for value in ssims.values() if value is not None]
    return FacesResult(
        status="fail" if any(check.status == "fail" for check in checks) else "pass",
        threshold=threshold,
        mse=score,
        mse_per_image=errors,
        psnr=fmean(known_psnrs) if known_psnrs else None,
        psnr_per_image=psnrs,
        ssim=fmean(known_ssims) if known_ssims else None,
        ssim_per_image=ssims,
        expected=layout.expected,
        found=layout.found,
        missing=layout.missing,
        unexpected=layout.unexpected,
        checks=checks,
    )


def _read_faces(
    output: Path, references: Mapping[str, ImageU8], found: Sequence[str], read: PngReader, checks: list[Check]
) -> dict[str, ImageU8]:
    """The faces that can be scored, by name. Adds a check for every one that was found and cannot."""
    faces: dict[str, ImageU8] = {}
    for name in found:
        try:
            image = read(output, name, size=(references[name].shape[1], references[name].shape[0]))
        except ImageRefused as refusal:
            checks.append(Check(name, "fail", f"{printable(name)} {printable(str(refusal))}."))
            continue
        if image.note:
            checks.append(Check(name, "warning", f"{printable(name)} {image.note}."))
        faces[name] = image.pixels_u8
    return faces


def _score_check(score: float, threshold: float | None, expected: int) -> Check:
    """The check of a complete folder."""
    found = f"The mean squared error over {counted(expected, 'image')} is {beside(score, [threshold], 4)}"
    if threshold is None:
        return Check("mse", "pass", f"{found}.")
    if score < threshold:
        return Check("mse", "pass", f"{found}, below {threshold:g}.")
    return Check("mse", "fail", f"{found}; expected less than {threshold:g}.")


def _incomplete(score: float | None, scored: int, missing: int, expected: int) -> Check:
    """The check of a folder in which faces are missing or cannot be read."""
    absent = expected - scored
    lacks = f"{'is' if absent == 1 else 'are'} missing" if missing else ""
    unread = "cannot be scored" if absent > missing else ""
    said = f"{absent} of {counted(expected, 'face')} {' or '.join(filter(None, (lacks, unread)))}: no points."
    if score is not None:
        said += f" The mean squared error over the {'other' if scored == 1 else f'other {scored}'} is {score:.4f}."
    return Check("mse", "fail", said)


def _read_ground_truth(folder: Path) -> dict[str, ImageU8]:
    shown = printable(str(folder))
    try:
        names = png_names(folder)
    except OSError as error:
        raise GradingError(f"the ground truth folder {shown} cannot be listed ({error.strerror})") from None
    if not names:
        raise GradingError(f"the ground truth folder {shown} holds no PNG images; expected 00.png, 01.png, ..")
    references = {}
    for name in names:
        try:
            path = followed(folder / name)  # staff may link to their ground truth
            references[name] = read_png(path.parent, path.name).pixels_u8
        except ImageRefused as refusal:
            raise GradingError(f"the ground truth {printable(str(folder / name))} {printable(str(refusal))}") from None
    return references


@dataclass(frozen=True, kw_only=True)
class Faces(Problem):
    """Faces from given noises, compared with ground truth. threshold: for the mean squared error, or None."""

    threshold: float | None = None

    name = "faces"
    parts = (Part.PUBLIC, Part.PRIVATE)
    inputs = (
        Input("noise", "face/noise", pattern="*.pt"),
        Input("UNet.pt", "face/UNet.pt", shared=True, option="unet"),
    )
    judges = ()
    expected = "face/GT"

    def part_title(self, part: Part) -> str:
        """See `Problem`."""
        return "" if part is Part.WHOLE else f", {part} noises"

    def score(self, run: Run) -> ProblemResult:
        """See `Problem`."""
        truth = run.data / self.expected
        graded = grade_faces(run.output, truth, self.threshold, run.images.read_png, run.refused)
        return self.result(graded, run.part)

    def result(self, graded: FacesResult, part: Part) -> ProblemResult:
        """The result for reports."""
        outcome = Outcome(
            "", "", graded.status == "pass", messages(graded.checks, "pass"), messages(graded.checks, "fail")
        )
        summary, complete = "", len(graded.mse_per_image) == len(graded.expected)
        if graded.mse is not None:
            limit = f"; expected less than {graded.threshold:g}" if graded.threshold is not None else ""
            of = f" of {len(graded.mse_per_image)} of {len(graded.expected)} faces" if not complete else ""
            mse = beside(graded.mse, [graded.threshold], 4)
            summary = f"The mean squared error of 0–255 values{of} is {mse}{limit}."
        return ProblemResult(
            self.number, part, self.name, self.title(part), graded.status, summary=summary,
            figures=list(_figures(graded)), outcomes=[outcome],
            cards=[_card(graded, name) for name in graded.expected], checks=graded.checks, details=plain(graded),
            complete=complete,
        )  # fmt: skip

    def explanations(self) -> Iterable[Explanation]:
        """See `Problem`."""
        return explanations(self)


def _figures(graded: FacesResult) -> Iterable[Figure]:
    yield Figure(
        "mse", "MSE", graded.mse, decimals=4, baseline=graded.threshold, higher_is_better=False,
        leaderboard="Faces MSE",
    )  # fmt: skip
    same = "identical" if graded.mse == 0 else ""
    yield Figure("psnr", "PSNR", graded.psnr, "dB", informative=True, if_none=same)
    if graded.ssim is not None:  # without scikit-image there is none
        yield Figure("ssim", "SSIM", graded.ssim, decimals=4, informative=True)
    for name in graded.expected:
        same = "identical" if graded.mse_per_image.get(name) == 0 else ""
        for column, values, unit, decimals in (
            ("MSE", graded.mse_per_image, "", 4),
            ("PSNR", graded.psnr_per_image, "dB", 2),
            ("SSIM", graded.ssim_per_image, "", 4),
        ):
            yield Figure(
                column.lower(), f"{column} of {name}", values.get(name), unit, decimals,
                higher_is_better=column != "MSE", informative=True, table="image", row=name, column=column,
                if_none=same if column == "PSNR" else "",
            )  # fmt: skip


def _card(graded: FacesResult, name: str) -> Card:
    """A face, its ground truth and their difference."""
    note = "could not be scored"
    if name in graded.mse_per_image:
        note = f"MSE {graded.mse_per_image[name]:.4g}"
        if (ratio := graded.psnr_per_image.get(name)) is not None:
            note += f", PSNR {ratio:.1f} dB"
        if (similarity := graded.ssim_per_image.get(name)) is not None:
            note += f", SSIM {similarity:.3f}"
    shown, truth = printable(name), f"{Faces.expected}/{name}"
    return Card(shown, note, frames=(
        Frame(f"Generated face {shown}", ((name,),), caption="generated"),
        Frame(f"Ground truth of {shown}", ((truth,),), "expected", caption="ground truth"),
        Frame(
            f"Difference of {shown} and its ground truth, times {AMPLIFICATION}", ((name,),), "difference", truth,
            f"difference ×{AMPLIFICATION}",
        ),
    ))  # fmt: skip


def explanations(problem: Faces) -> Iterable[Explanation]:
    """How the lines and figures of Problem 2 are computed."""
    number, threshold = problem.number, problem.threshold
    below = f" is below {threshold:g}" if threshold is not None else ""
    files = "There must be one readable image for each noise, with the size of its ground truth."
    for part, what in (("public", files), ("private", "Each image is named after its noise.")):
        points = f"Gives {problem.points[part]:g} points" if problem.points else "Passes"
        yield Explanation(
            f"{number} {part}",
            f"{number} {part}",
            f"{points} if the mean squared error of the faces made from the {part} noises"
            f"{below or ' can be computed for all of them'} (see mse). {what}",
            f"{problem.source}.",
        )
    yield Explanation(
        "mse",
        r"mse|faces mse|psnr|ssim",
        "The mean over pixels and channels of (output - ground truth)^2, averaged over the images. Values are "
        "those of the PNG files, 0-255, in float64. PSNR, 10 * log10(255^2 / mse), and SSIM are for information and "
        "give no points.",
        f"{problem.source}; no official script was published.",
    )
