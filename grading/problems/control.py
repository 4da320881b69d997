"""Scores of pictures that follow control images: IoU * CLIP, computed as in grade_hw2_3.py of Fall 2025.

The data are in fill50k of the homework's hw2_data. `fill50k/testing/prompt.json` has one JSON object per line with
source, target and prompt. `fill50k/testing/source/` has the control images. Scripts of public solutions name both.

The official script silently skips lines with a target that is missing, unreadable or of another size than its source,
and averages the rest. This one names such lines. The judges' modules describe how their networks are run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from statistics import fmean
from typing import Any, Literal

import numpy as np

from grading.core.arrays import ImageU8
from grading.core.errors import GradingError
from grading.core.results import Card, Check, Figure, Frame, Judge, Outcome, Part, ProblemResult, Status
from grading.core.text import SHOWN, counted, ignored, listed, printable
from grading.files.images import STAFF, ImageRefused, followed, read_image
from grading.files.layout import check_layout
from grading.files.leftovers import described
from grading.files.staff_files import read_bytes
from grading.judges.protocols import ClipJudge, Mask, MaskJudge
from grading.problems.missing import UNKNOWN, missing_reasons
from grading.problems.problem import Explanation, Input, Problem, Run, messages, plain

SOURCES = "fill50k/testing/source"
PROMPTS = "fill50k/testing/prompt.json"

ImageReader = Callable[[Path, str], ImageU8]


@dataclass(frozen=True)
class Line:
    """One line of the prompt file, and its scores.

    number: number of the line in the file, from 1. source: path of the control image below the input folder. target:
    path of the picture below the output folder. iou, clip: 0 to 1. score: their product. All three are None if the line
    could not be scored. failure: a sentence that says why.
    """

    number: int
    source: str
    target: str
    prompt: str
    iou: float | None = None
    clip: float | None = None
    score: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class ControlResult:
    """One part of the problem. score: the mean over the best lines, None if none could be scored.

    best: numbers of those lines, the best first.
    """

    status: Status
    score: float | None = None
    lines: list[Line] = field(default_factory=list)
    best: list[int] = field(default_factory=list)
    judges: list[Judge] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    problem: Literal["control"] = "control"


def read_lines(path: Path) -> list[Line]:
    """The lines of a prompt file. Empty ones are skipped.

    Raises GradingError for a line that is not a JSON object with the three texts, or has a path outside its folder.
    """
    shown = printable(str(path))
    expected = "one JSON object per line, with source, target and prompt"
    read = read_bytes(path, expected)
    if what := described(read, path.name):
        raise GradingError(f"{shown} {what}; expected {expected}")
    try:
        content = read.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GradingError(f"{shown} is not UTF-8 text ({error.reason}); expected {expected}") from None
    lines = []
    for number, text in enumerate(content.split("\n"), 1):
        if not text.strip():
            continue
        where = f"{shown}, line {number},"
        try:
            entry = json.loads(text)
            json.dumps(entry, ensure_ascii=False).encode()  # half a surrogate pair fails here: it cannot be printed
        except (ValueError, RecursionError) as error:
            raise GradingError(f"{where} is not valid JSON ({printable(str(error))}); expected {expected}") from None
        lines.append(_line(where, number, entry))
    if not lines:
        raise GradingError(f"{shown} has no lines; expected {expected}")
    return lines


def _line(where: str, number: int, entry: Any) -> Line:
    texts = {}
    for key in ("source", "target", "prompt"):
        value = entry.get(key) if isinstance(entry, dict) else None
        if not isinstance(value, str) or not value.strip():
            raise GradingError(f"{where} has no text under {key}; expected source, target and prompt")
        texts[key] = value
    for key in ("source", "target"):
        if not _stays_below(texts[key]):
            raise GradingError(
                f"{where} has the {key} '{printable(texts[key]):.80}', which is not a path below its folder; expected "
                "a path such as 0.png"
            )
    return Line(number, texts["source"], texts["target"], texts["prompt"])


def _stays_below(path: str) -> bool:
    pure = PurePosixPath(path)
    short = all(len(part.encode()) <= 255 for part in pure.parts)
    return bool(pure.parts) and short and not pure.is_absolute() and ".." not in pure.parts and "\0" not in path


def iou(one: Mask, other: Mask) -> float:
    """Intersection over union of two masks of one shape; 1 if both are empty."""
    union = int(np.logical_or(one, other).sum())
    return int(np.logical_and(one, other).sum()) / union if union else 1.0


def grade_control(
    output: Path,
    lines: Sequence[Line],
    sources: Path,
    clip: ClipJudge,
    sam: MaskJudge,
    best: int,
    read: ImageReader = read_image,
    refused: Mapping[str, str] | None = None,
) -> ControlResult:
    """Score `output/TARGET` against `sources/SOURCE` and the prompt of each line.

    The score is the mean of the `best` largest IoU * CLIP, or of all if there are fewer. The result passes if every
    line could be scored. read: the function that reads the output. refused: {path: reason} of outputs that were not
    collected.
    Raises GradingError if output is a file or cannot be listed, or a source cannot be read.
    """
    shown = printable(str(output))
    if output.exists() and not output.is_dir():
        raise GradingError(f"{shown} is a file; expected the folder with the pictures")
    try:
        unexpected = check_layout(output, {PurePosixPath(line.target).parts[0] for line in lines}).unexpected
    except OSError as error:
        raise GradingError(f"{shown} cannot be listed ({error.strerror}); check its rights") from None
    checks: list[Check] = []
    if not output.exists():
        checks.append(Check("folder", "fail", f"The folder {shown} does not exist."))
    found: list[Line] = []
    copied: list[str] = []
    features = clip.image_features(_targets(output, lines, sources, sam, read, found, copied))  # fills found and copied
    scored = [line for line in found if line.iou is not None]
    if scored:
        texts = clip.text_features([line.prompt for line in scored])
        cosines = (features.astype(np.float64) * texts.astype(np.float64)).sum(axis=1)
        scored = [_with_clip(line, float(cosine)) for line, cosine in zip(scored, cosines, strict=True)]
    by_number = {line.number: line for line in scored}
    found = [by_number.get(line.number, line) for line in found]
    found = _explained(output, found, refused or {})
    taken = sorted(scored, key=_score)[-best:]
    score = fmean(map(_score, taken)) if taken else None
    checks += _failures([line for line in found if line.failure])
    checks.append(_score_check(score, len(taken), len(lines), best))
    if copied:
        checks.append(
            Check("copied", "warning", f"These pictures are copies of their control images: {listed(copied)}.")
        )
    if unexpected:
        checks.append(Check("unexpected", "warning", ignored(unexpected)))
    return ControlResult(
        status="fail" if any(check.status == "fail" for check in checks) else "pass",
        score=score,
        lines=found,
        best=[line.number for line in reversed(taken)],
        judges=[clip.identity, sam.identity],
        unexpected=unexpected,
        checks=checks,
    )


def _targets(
    output: Path,
    lines: Sequence[Line],
    sources: Path,
    sam: MaskJudge,
    read: ImageReader,
    found: list[Line],
    copied: list[str],
) -> Iterator[ImageU8]:
    """The pictures that can be scored, one at a time. Adds each line to found, with its IoU or its failure."""
    for line in lines:
        source = _read_source(sources, line.source)
        try:
            target = _read_target(output, line.target, source.shape, read)
        except ImageRefused as refusal:
            sentence = f"Line {line.number}: {printable(line.target)} {printable(str(refusal))}."
            found.append(replace(line, failure=sentence))
            continue
        if np.array_equal(source, target):
            copied.append(line.target)
        found.append(replace(line, iou=iou(sam.mask(source), sam.mask(target))))
        yield target


def _explained(output: Path, lines: Sequence[Line], refused: Mapping[str, str]) -> list[Line]:
    """The lines, those without a picture with the reason why there is none."""
    absent = [line.target for line in lines if line.failure.endswith(f" {UNKNOWN}.")]
    reasons = missing_reasons(output, absent, [line.target for line in lines], refused)
    texts = {name: reason.text for reason in reasons if reason.known for name in reason.names}
    return [
        replace(line, failure=f"Line {line.number}: {printable(line.target)} {printable(texts[line.target])}.")
        if line.target in texts
        else line
        for line in lines
    ]


def _read_source(folder: Path, name: str) -> ImageU8:
    shown = printable(str(folder / name))
    try:
        path = followed(folder / name)  # staff may link to their pictures
        return read_image(path.parent, path.name, STAFF)
    except ImageRefused as refusal:
        raise GradingError(f"the control image {shown} {printable(str(refusal))}; expected a picture") from None
    except OSError as error:
        raise GradingError(f"the control image {shown} cannot be opened ({error.strerror}); check its rights") from None


def _read_target(output: Path, name: str, shape: tuple[int, ...], read: ImageReader) -> ImageU8:
    """Read a picture of the output. Raises ImageRefused if it cannot be scored."""
    path = output / name
    try:
        if any((output / parent).is_symlink() for parent in PurePosixPath(name).parents[:-1]):
            raise ImageRefused("is in a folder that is a link; expected the folder itself")
        if not path.exists() and not path.is_symlink():
            raise ImageRefused(UNKNOWN)
        image = read(output, name)
    except OSError as error:
        raise ImageRefused(f"cannot be opened ({error.strerror})") from None
    if image.shape != shape:  # masks of two sizes cannot be compared
        expected = f"expected {shape[1]}x{shape[0]}, the size of its control image"
        raise ImageRefused(f"is {image.shape[1]}x{image.shape[0]} pixels; {expected}")
    return image


def _with_clip(line: Line, cosine: float) -> Line:
    assert line.iou is not None
    clip = (cosine + 1) / 2
    return replace(line, clip=clip, score=line.iou * clip)


def _score(line: Line) -> float:
    assert line.score is not None
    return line.score


def _failures(lines: Sequence[Line]) -> Iterator[Check]:
    """A check for each of the first lines that could not be scored, and one for the rest."""
    for line in lines[:SHOWN]:
        yield Check(f"line {line.number}", "fail", line.failure)
    if more := [line.target for line in lines[SHOWN:]]:
        yield Check("lines", "fail", f"{counted(len(more), 'more line')} could not be scored ({listed(more)}).")


def _score_check(score: float | None, taken: int, asked: int, best: int) -> Check:
    if score is None:
        return Check("score", "fail", "No line could be scored.")
    return Check("score", "pass", f"The mean of IoU * CLIP over {_over(taken, asked, best)} is {score:.4f}.")


def _over(taken: int, asked: int, best: int) -> str:
    fewer = f" ({best} are averaged if there are as many)" if taken < best else ""
    return f"the best {taken} of {counted(asked, 'line')}{fewer}"


@dataclass(frozen=True, kw_only=True)
class Control(Problem):
    """Pictures generated from control images, judged by SAM2 and CLIP. best: number of lines that are averaged."""

    best: int

    name = "control"
    parts = (Part.PUBLIC, Part.PRIVATE)
    inputs = (
        Input("prompt.json", PROMPTS),
        Input("source", SOURCES),
        Input("model.ckpt", "model.ckpt", shared=True, option="stable_diffusion"),
    )
    judges = ("clip", "sam")
    png_only = False
    unknown = (("", "lines"),)

    def part_title(self, part: Part) -> str:
        """See `Problem`."""
        return f", {part} lines"

    def score(self, run: Run) -> ProblemResult:
        """See `Problem`."""
        lines = read_lines(run.inputs["prompt.json"])
        graded = grade_control(
            run.output, lines, run.inputs["source"], run.judges["clip"], run.judges["sam"], self.best,
            read=run.images.read_image, refused=run.refused,
        )  # fmt: skip
        return self.result(graded, run.part)

    def result(self, graded: ControlResult, part: Part) -> ProblemResult:
        """The result for reports."""
        checks, by_number = graded.checks, {line.number: line for line in graded.lines}
        outcome = Outcome("", "lines", graded.status == "pass", messages(checks, "pass"), messages(checks, "fail"))
        summary = ""
        if graded.score is not None:
            over = _over(len(graded.best), len(graded.lines), self.best)
            summary = (
                f"The score {graded.score:.4f} is the mean of IoU × CLIP over {over}. They are shown, the best first."
            )
        return ProblemResult(
            self.number, part, self.name, self.title(part), graded.status, summary=summary,
            figures=list(_figures(graded)), outcomes=[outcome],
            cards=[_card(by_number[number]) for number in graded.best], checks=checks, judges=graded.judges,
            details=plain(graded), complete=not any(line.failure for line in graded.lines),
        )  # fmt: skip

    def explanations(self) -> Iterable[Explanation]:
        """See `Problem`."""
        return explanations(self)


def _figures(graded: ControlResult) -> Iterable[Figure]:
    yield Figure("control_score", "score", graded.score, decimals=4, leaderboard="Control score")
    for line in graded.lines:
        row = f"{line.number} {printable(line.prompt)}"
        for column, value in (("IoU", line.iou), ("CLIP", line.clip), ("product", line.score)):
            yield Figure(
                column.lower(), f"{column} of line {line.number}", value, decimals=4, informative=True, table="line",
                row=row, column=column,
            )  # fmt: skip


def _card(line: Line) -> Card:
    """A control image and the picture that was generated from it."""
    target, prompt = printable(line.target), printable(line.prompt)
    return Card(
        f"{target} {prompt}", f"IoU {line.iou:.4f} · CLIP {line.clip:.4f} · product {line.score:.4f}",
        frames=(
            Frame(f"Control image of {target}", ((f"{SOURCES}/{line.source}",),), "expected", caption="control image"),
            Frame(f"{target}, drawn for “{prompt}”", ((line.target,),), caption="generated"),
        ),
    )  # fmt: skip


def explanations(problem: Control) -> Iterable[Explanation]:
    """How the lines and figures of the problem are computed."""
    source = f"grade_hw2_3.py; {problem.source}."
    for part in problem.parts:
        points = f"Gives {problem.points[part]:g} points" if problem.points else "Passes"
        yield Explanation(
            f"{problem.number} {part}",
            f"{problem.number} {part}",
            f"{points} if every line of the {part} prompt.json has a picture that can be read and is as large as its "
            "control image. The official script skips the other lines; this grader names them. See control_score.",
            f"{problem.source}; the rule for passing is ours.",
        )
    yield Explanation(
        "control_score",
        r"(control[ _])?score",
        f"The mean of IoU * CLIP over the {problem.best} lines of prompt.json with the largest values, or over all "
        "lines if there are fewer. Lines that cannot be scored are left out.",
        source,
    )
    yield Explanation(
        "iou",
        r"iou",
        "IoU measures how well the picture keeps the shape in its control image. It is intersection / union of the "
        "masks that SAM2 finds in both from one positive point in the middle. Of three masks the one with the best "
        "predicted score is taken. Two empty masks have an IoU of 1. The model is facebook/sam2.1-hiera-large.",
        source,
    )
    yield Explanation(
        "clip",
        r"clip( score)?",
        "This measures how well the picture shows its prompt. It is (cosine of their CLIP features + 1) / 2, from 0 to "
        "1. The model is openai/clip-vit-base-patch32.",
        source,
    )
    yield Explanation(
        "product", r"product", "IoU * CLIP of one line, from 0 to 1. See iou, clip and control_score.", source
    )
