"""Statistics of a class: pass rates, means of figures, a histogram of points, and outliers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from grading.core.results import Figure, Part, StageResult, SubmissionResult
from grading.reports.conditions import line_judges
from grading.reports.figures import FigureTable, first_seen, headlines, of_runs, tables
from grading.reports.visibility import is_deduction

OUTLIER, FEWEST = 3.5, 5
"""A value is an outlier if its modified z-score is above OUTLIER (Iglewicz and Hoaglin 1993, How to Detect and Handle
Outliers) and there are at least FEWEST values."""

BINS = 20


@dataclass(frozen=True)
class Bin:
    """A bar of the histogram. count: submissions with low <= points < high. The last bar includes high."""

    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Rate:
    """The class's results on one line.

    points: mean over the submissions that could be checked. share: share of these that passed, None if there are none
    or the line cannot be passed. judges: those that are not official, see `line_judges`.
    """

    name: str
    title: str
    private: bool
    passed: int
    failed: int
    unchecked: int
    share: float | None
    points: float | None
    max_points: float
    judges: str


@dataclass(frozen=True)
class MeanTable:
    """The class's means of the figures in one table of one run."""

    run: str
    private: bool
    table: FigureTable

    @property
    def bars(self) -> bool:
        """Whether all means are shares. Then the page shows them as bars."""
        return all(figure.unit == "%" for figure in self.table.cells.values())


@dataclass(frozen=True)
class Outlier:
    """A number that is far from the class's median."""

    submission: str
    figure: str
    value: float
    median: float


@dataclass(frozen=True)
class Likeness:
    """Submissions that share something.

    kind: "outputs", "large files" (such as weights) or "code". shared: what it is, for staff.
    """

    kind: str
    submissions: tuple[str, ...]
    shared: str


def points_summary(results: Sequence[SubmissionResult]) -> dict[str, float]:
    """Mean, median, lowest and highest; empty for an empty class."""
    points = [result.points for result in results]
    if not points:
        return {}
    return {"mean": fmean(points), "median": median(points), "lowest": min(points), "highest": max(points)}


def bins(results: Sequence[SubmissionResult]) -> list[Bin]:
    """Bars from 0 to max_points, of equal width but for the last. If there are few points, each point has a bar."""
    most = max((result.max_points for result in results), default=0.0)
    if not most:
        return []
    width = max(math.ceil(most / BINS), 1)
    count = math.ceil(most / width)
    counts = [0] * count
    for result in results:
        counts[min(int(result.points / width), count - 1)] += 1
    return [Bin(index * width, min((index + 1) * width, most), each) for index, each in enumerate(counts)]


def line_rates(results: Sequence[SubmissionResult]) -> list[Rate]:
    """The rate of every line that any submission has, without deductions."""
    rates = []
    for name in first_seen(line.name for result in results for line in result.lines if not is_deduction(line)):
        pairs = [(result, line) for result in results for line in result.lines if line.name == name]
        lines = [line for _, line in pairs]
        judges = " or ".join(first_seen(filter(None, (line_judges(*pair) for pair in pairs))))
        passed, failed, unchecked = (sum(line.status == each for line in lines) for each in ("pass", "fail", "error"))
        known = [line.points for line in lines if line.points is not None]
        share = passed / (passed + failed) if passed + failed and lines[0].kind == "score" else None
        most = max(line.max_points for line in lines)
        points = fmean(known) if known else None
        own = (lines[0].title, lines[0].private, passed, failed, unchecked, share, points, most, judges)
        rates.append(Rate(name, *own))
    return rates


def mean_tables(results: Sequence[SubmissionResult]) -> list[MeanTable]:
    """The class's means for each table of each run, over the submissions that have a value."""
    found = []
    for runs in of_runs(result.results for result in results).values():
        places: dict[tuple[str, str, str], list[Figure]] = {}
        for figure in (figure for run in runs for figure in run.figures if figure.table):
            places.setdefault((figure.table, figure.row, figure.column), []).append(figure)
        private = runs[0].part is Part.PRIVATE
        found += [MeanTable(runs[0].title, private, table) for table in tables(map(_mean, places.values()))]
    return found


def _mean(figures: Sequence[Figure]) -> Figure:
    """The same figure of several submissions, with their mean."""
    known = [figure.value for figure in figures if figure.value is not None]
    return replace(figures[0], value=fmean(known) if known else None)


def script_runs(result: SubmissionResult) -> list[StageResult]:
    """The stages that ran a script of a problem, without second runs."""
    return [stage for stage in result.stages if stage.kind == "script"]


def slowest(results: Sequence[SubmissionResult], shown: int) -> list[tuple[SubmissionResult, StageResult]]:
    """The runs that took longest, at most `shown`."""
    runs = [(result, stage) for result in results for stage in script_runs(result) if stage.seconds > 0]
    return sorted(runs, key=lambda run: -run[1].seconds)[:shown]


def outliers(results: Sequence[SubmissionResult]) -> list[Outlier]:
    """Numbers with a modified z-score, 0.6745 * |x - median| / MAD, above 3.5.

    MAD is the median absolute deviation from the median. It is 0 if more than half of the values are equal. Then the
    score is |x - median| / (1.2533 * mean absolute deviation).
    """
    columns: dict[str, dict[int, float]] = {}
    for index, result in enumerate(results):
        for name, value in _numbers(result):
            columns.setdefault(name, {})[index] = value
    found = []
    for name, values in columns.items():
        for index in far_values(values):
            found.append(Outlier(results[index].submission, name, values[index], median(values.values())))
    return found


def _numbers(result: SubmissionResult) -> Iterator[tuple[str, float]]:
    """The numbers compared within a class: points, headline figures that can give points, and times of scripts."""
    if not result.unchecked:
        yield "points", result.points
    for each in result.results:
        for figure in headlines(each.figures):
            if figure.value is not None and not figure.informative:
                yield f"{each.title}: {figure.title}", figure.value
    for stage in script_runs(result):
        if stage.status != "error":
            yield f"seconds of {stage.stage}", stage.seconds


def far_values(values: Mapping[int, float]) -> list[int]:
    """Keys of the values that are outliers. See `outliers` for the rule."""
    if len(values) < FEWEST:
        return []
    middle = median(values.values())
    apart = {key: abs(value - middle) for key, value in values.items()}
    spread = median(apart.values()) / 0.6745 or 1.2533 * fmean(apart.values())
    return [key for key, distance in apart.items() if spread and distance / spread > OUTLIER]
