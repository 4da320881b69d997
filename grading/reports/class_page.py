"""All submissions of a class: one page for staff, and a table for spreadsheets."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from urllib.parse import quote

from grading.core.results import StageResult, SubmissionResult
from grading.core.spec import DATASETS
from grading.core.text import printable
from grading.reports.submission_page import environment
from grading.reports.visibility import is_deduction, log_tail

OUTLIER, FEWEST = 3.5, 5
"""A value is an outlier if its modified z-score is beyond OUTLIER (Iglewicz and Hoaglin 1993, How to Detect and Handle
Outliers), among at least FEWEST values."""

BINS = 20
SHOWN = 10


@dataclass(frozen=True)
class Bin:
    """A bar of the histogram: how many have low <= points < high; the last one includes high."""

    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Rate:
    """How the class did on one line. points: mean over those that could be checked."""

    name: str
    title: str
    private: bool
    passed: int
    failed: int
    unchecked: int
    points: float | None
    max_points: float

    @property
    def share(self) -> float | None:
        """Passed among the checked ones; None for what staff read, where there is nothing to pass."""
        checked = self.passed + self.failed
        return self.passed / checked if checked and not self.name.startswith("report ") else None


@dataclass(frozen=True)
class PromptRate:
    """How the class did on one prompt: pass rate and mean scores."""

    name: str
    prompt: str
    threshold: tuple[float, float]
    share: float
    image_score: float | None
    text_score: float | None


@dataclass(frozen=True)
class Outlier:
    """A number that is far from the class's median."""

    submission: str
    figure: str
    value: float
    median: float


def class_page(results: Sequence[SubmissionResult]) -> str:
    """The page of a class, as self-contained as `submission_page`; links lead to students/NAME/report.html."""
    return environment().get_template("class.html").render(
        results=sorted(results, key=lambda result: -result.points),
        points=_summary(results),
        bins=_bins(results),
        rates=line_rates(results),
        digits=digit_rates(results),
        prompts=prompt_rates(results),
        slowest=_slowest(results),
        failed=[(result, stage) for result in results for stage in result.stages if stage.status != "pass"],
        outliers=outliers(results),
        warned=[result for result in results if result.warnings],
        link=report_link,
        last_words=lambda stage: log_tail(stage.log, 3),
        shown=SHOWN,
        rule=OUTLIER,
        fewest=FEWEST,
    )  # fmt: skip


def report_link(result: SubmissionResult) -> str:
    """Where a submission's page lies, as a relative URL."""
    # surrogateescape: the bytes of a folder's name that are no UTF-8
    return f"students/{quote(result.submission.encode(errors='surrogateescape'), safe='')}/report.html"


def scores_csv(results: Sequence[SubmissionResult]) -> str:
    """One row per submission: submission, status, points, max_points, unchecked, a column per line, seconds, warnings.

    A line that could not be checked says so; one that a submission does not have is empty. Text never begins as a
    spreadsheet's formula does.
    """
    lines = _ordered((line.name for line in result.lines) for result in results)
    scripts = _ordered((stage.stage for stage in result.stages if _is_run(stage)) for result in results)
    columns = ["submission", "status", "points", "max_points", "unchecked", *lines]
    columns += [f"seconds {script}" for script in scripts]
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow([_cell(column) for column in (*columns, "warnings")])
    for result in results:
        points = {line.name: "not checked" if line.points is None else _round(line.points) for line in result.lines}
        seconds = {stage.stage: _round(stage.seconds) for stage in result.stages}
        row: list[str | float] = [_cell(result.submission), result.status]
        row += [_round(result.points), _round(result.max_points), _round(result.unchecked)]
        row += [points.get(line, "") for line in lines]
        row += [seconds.get(script, "") for script in scripts]
        writer.writerow([*row, len(result.warnings)])
    return text.getvalue()


def _cell(text: str) -> str:
    """Text from a stranger; an apostrophe keeps spreadsheets from computing it (OWASP, CSV injection)."""
    shown = printable(text)
    return f"'{shown}" if shown.lstrip()[:1] in tuple("=+-@＝＋－＠") else shown


def _round(value: float) -> float:
    return round(value, 4) + 0.0  # + 0.0: no -0


def _ordered(groups: Iterable[Iterable[str]]) -> list[str]:
    """All names, in the order in which they are first seen."""
    return list(dict.fromkeys(name for group in groups for name in group))


def _is_run(stage: StageResult) -> bool:
    return stage.stage not in ("copy", "freeze") and not stage.stage.endswith(" twice")


def _summary(results: Sequence[SubmissionResult]) -> dict[str, float]:
    points = [result.points for result in results]
    if not points:
        return {}
    return {"mean": fmean(points), "median": median(points), "lowest": min(points), "highest": max(points)}


def _bins(results: Sequence[SubmissionResult]) -> list[Bin]:
    """Equal parts from 0 to the most that can be had; whole points each where there are few."""
    most = max((result.max_points for result in results), default=0.0)
    if not most:
        return []
    width = max(math.ceil(most / BINS), 1)
    count = math.ceil(most / width)
    counts = [0] * count
    for result in results:
        counts[min(int(result.points / width), count - 1)] += 1
    return [Bin(index * width, (index + 1) * width, each) for index, each in enumerate(counts)]


def line_rates(results: Sequence[SubmissionResult]) -> list[Rate]:
    """Of every line that any submission has."""
    rates = []
    for name in _ordered((line.name for line in result.lines) for result in results):
        lines = [line for result in results for line in result.lines if line.name == name]
        if is_deduction(lines[0]):
            continue
        known = [line.points for line in lines if line.points is not None]
        counts = {status: sum(line.status == status for line in lines) for status in ("pass", "fail", "error")}
        mean = fmean(known) if known else None
        first = lines[0]
        rates.append(
            Rate(
                name,
                first.title,
                first.private,
                counts["pass"],
                counts["fail"],
                counts["error"],
                mean,
                max(line.max_points for line in lines),
            )
        )
    return rates


def digit_rates(results: Sequence[SubmissionResult]) -> dict[str, list[float | None]]:
    """Data set -> for each digit the class's mean accuracy, over the submissions that have images of it."""
    graded = [result.digits for result in results if result.digits and result.digits.per_digit]
    return {
        dataset: [
            _mean(digits.per_digit.get(dataset, {}).get(str(digit)) for digits in graded) for digit in range(10)
        ]
        for dataset in DATASETS
    } if graded else {}  # fmt: skip


def prompt_rates(results: Sequence[SubmissionResult]) -> list[PromptRate]:
    """Of every prompt; scores over the submissions that have them."""
    names = _ordered((f"{part} {key}" for part in r.concepts for key in r.concepts[part].prompts) for r in results)
    rates = []
    for name in names:
        part, _, key = name.partition(" ")
        scores = [
            r.concepts[part].prompts[key] for r in results if part in r.concepts and key in r.concepts[part].prompts
        ]
        rates.append(
            PromptRate(
                name,
                scores[0].prompt,
                scores[0].threshold,
                fmean(score.passed for score in scores),
                _mean(score.clip_image_score for score in scores),
                _mean(score.clip_text_score for score in scores),
            )
        )
    return rates


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _slowest(results: Sequence[SubmissionResult]) -> list[tuple[SubmissionResult, StageResult]]:
    runs = [(result, stage) for result in results for stage in result.stages if _is_run(stage) and stage.seconds > 0]
    return sorted(runs, key=lambda run: -run[1].seconds)[:SHOWN]


def outliers(results: Sequence[SubmissionResult]) -> list[Outlier]:
    """Numbers with a modified z-score beyond 3.5: 0.6745 * |x - median| / MAD.

    MAD: median absolute deviation from the median. Where that is 0, as more than half of the values are equal, the mean
    absolute deviation takes its place, and |x - median| / (1.2533 * mean deviation) is the score.
    """
    figures: dict[str, Callable[[SubmissionResult], float | None]] = {
        "points": lambda r: None if r.unchecked else r.points,
        "MNIST-M accuracy": lambda r: r.digits.accuracy_mnistm if r.digits else None,
        "SVHN accuracy": lambda r: r.digits.accuracy_svhn if r.digits else None,
    }
    for part in ("public", "private"):
        figures[f"MSE, {part}"] = lambda r, part=part: r.faces[part].mse if part in r.faces else None  # type: ignore[misc]
    for script in _ordered((stage.stage for stage in result.stages if _is_run(stage)) for result in results):
        figures[f"seconds of {script}"] = lambda r, script=script: next(  # type: ignore[misc]
            (stage.seconds for stage in r.stages if stage.stage == script and stage.status != "error"), None
        )
    found = []
    for figure, value_of in figures.items():
        values = {index: value for index, result in enumerate(results) if (value := value_of(result)) is not None}
        for index in far_values(values):
            found.append(Outlier(results[index].submission, figure, values[index], median(values.values())))
    return found


def far_values(values: dict[int, float]) -> list[int]:
    """Keys of the outliers by the rule of `outliers`."""
    if len(values) < FEWEST:
        return []
    middle = median(values.values())
    apart = {key: abs(value - middle) for key, value in values.items()}
    spread = median(apart.values()) / 0.6745 or 1.2533 * fmean(apart.values())
    return [key for key, distance in apart.items() if spread and distance / spread > OUTLIER]
