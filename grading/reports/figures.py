"""Figures of results as text and as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from grading.core.results import Figure, ProblemResult
from grading.core.text import beside

NONE = "–"


@dataclass(frozen=True)
class FigureTable:
    """Figures that share a table. rows, columns: in the order of their first figures. cells: by (row, column)."""

    title: str
    rows: list[str]
    columns: list[str]
    cells: Mapping[tuple[str, str], Figure]


def headlines(figures: Iterable[Figure]) -> list[Figure]:
    """The figures that belong to no table."""
    return [figure for figure in figures if not figure.table]


def tables(figures: Iterable[Figure]) -> list[FigureTable]:
    """The tables that the other figures form, without columns in which no row has a value."""
    grouped: dict[str, dict[tuple[str, str], Figure]] = {}
    for figure in figures:
        if figure.table:
            grouped.setdefault(figure.table, {})[figure.row, figure.column] = figure
    found = []
    for title, cells in grouped.items():
        every = first_seen(column for _, column in cells)
        known = {figure.column for figure in cells.values() if shown_value(figure, "")}
        columns = [column for column in every if column in known] or every
        found.append(FigureTable(title, first_seen(row for row, _ in cells), columns, cells))
    return found


def first_seen(names: Iterable[str]) -> list[str]:
    """Each name once, in the order of first appearance."""
    return list(dict.fromkeys(names))


def shown_number(value: float | None, figure: Figure, none: str = NONE) -> str:
    """A value with the figure's unit and decimals, and more where these would show it as equal to the baseline."""
    if value is None:
        return none
    if figure.unit == "%":
        return beside(value, [figure.baseline], figure.decimals, "%")
    return f"{beside(value, [figure.baseline], figure.decimals)}{figure.unit and ' ' + figure.unit}"


def shown_value(figure: Figure, none: str = NONE) -> str:
    """The figure's value, such as "94.00%" or "31.20 dB"."""
    return shown_number(figure.value, figure, figure.if_none or none)


def shown_limit(figure: Figure) -> str:
    """The baseline with the decimals of the value beside it, and more where these would move it; empty if none."""
    if figure.baseline is None:
        return ""
    number = shown_number(figure.value, figure).removesuffix("%").removesuffix(f" {figure.unit}")
    decimals = figure.decimals if figure.value is None else len(number.partition(".")[2])
    return beside(figure.baseline, [figure.baseline], decimals, "%" if figure.unit == "%" else "f")


def shown_baseline(figure: Figure) -> str:
    """The expectation, such as "at least 90.00%" or "below 20.0000"; empty if there is none."""
    limit = shown_limit(figure)
    return limit and f"{'at least' if figure.higher_is_better else 'below'} {limit}"


def shown_interval(figure: Figure) -> str:
    """The 95 % confidence interval; empty if there is none."""
    if figure.interval is None:
        return ""
    low, high = (shown_number(end, figure) for end in figure.interval)
    return f"{low} to {high}"


def reached(figure: Figure) -> bool | None:
    """Whether the value reaches the baseline; None if one of them is missing."""
    if figure.value is None or figure.baseline is None:
        return None
    return figure.value >= figure.baseline if figure.higher_is_better else figure.value < figure.baseline


def run_name(result: ProblemResult) -> str:
    """A short name of the result's run, such as "2 public". Columns and rows of a class begin with it."""
    return result.part.of(str(result.problem))


def of_runs(submissions: Iterable[Sequence[ProblemResult]]) -> dict[str, list[ProblemResult]]:
    """The results of many submissions, grouped by `run_name`."""
    grouped: dict[str, list[ProblemResult]] = {}
    for each in (result for results in submissions for result in results):
        grouped.setdefault(run_name(each), []).append(each)
    return grouped
