"""A submission's result as one self-contained HTML page. It needs no script, font or picture from elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from grading.core.results import Card, Check, Frame, ProblemResult, SubmissionResult
from grading.core.text import counted, listed, printable
from grading.homeworks.homework import Homework
from grading.reports import figures
from grading.reports.conditions import as_sentence, banner, conditions, line_judges
from grading.reports.first_step import first_step, shown_logs
from grading.reports.pictures import Picture, Pictures
from grading.reports.visibility import (
    NO_POINTS,
    OUTCOMES,
    has_points,
    has_private,
    is_deduction,
    log_tail,
    passed_lines,
    public_part,
    shown_cpu_time,
    shown_gpu_memory,
    shown_points,
    shown_seconds,
    tracebacks,
    unchecked_sentence,
)

MARKS = {"pass": "✓", "fail": "✗", "error": "?", "warning": "!"}

ORDER = {"error": 0, "fail": 1, "pass": 2, "warning": 3}
"""The order in which a page shows checks."""

LISTED = 20
"""Entries of a list in the record that are shown. The JSON has all."""

ACROSS = 3
"""Maximum number of pictures in one row. A card with more pictures is as wide as the page."""


def submission_page(result: SubmissionResult, pictures: Pictures, homework: Homework) -> str:
    """The page for staff. It is readable on a phone, on paper, and in light and dark mode.

    All text of a submission is shown as plain text, with unprintable characters escaped.
    """
    return _page(result, pictures, homework, public_only=False)


def student_page(result: SubmissionResult, pictures: Pictures, homework: Homework) -> str:
    """The page for students before grades are published. See `public_part`."""
    return _page(public_part(result), pictures, homework, public_only=True)


def _page(result: SubmissionResult, pictures: Pictures, homework: Homework, public_only: bool) -> str:
    def picture(run: ProblemResult, frame: Frame) -> Picture | None:
        return pictures.get((run.folder, frame))

    logs = shown_logs(result) if public_only else {}
    return environment().get_template("submission.html").render(
        result=result,
        first=first_step(result) if public_only else None,
        logs=logs,
        logged={stage.stage for stages in logs.values() for stage in stages},
        homework=homework,
        public_only=public_only,
        private=has_private(result),
        has_points=has_points(result),
        passed=passed_lines(result),
        unchecked=unchecked_sentence(result),
        conditions=as_sentence(conditions(result)),
        banner=banner(result),
        line_judges=functools.partial(line_judges, result),
        picture=picture,
        has_pictures=bool(pictures),
        tracebacks=list(tracebacks(result)),
        record=list(_flat(_with_dates(result.record))),
    )  # fmt: skip


@functools.cache
def environment() -> Environment:
    """The Jinja environment. It applies `printable` and then autoescape to everything."""
    found = Environment(
        loader=PackageLoader("grading.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=False,
    )
    found.filters |= {
        "points": shown_points,
        "seconds": shown_seconds,
        "cpu_time": shown_cpu_time,
        "gpu_memory": shown_gpu_memory,
        "tail": log_tail,
        "sort_checks": _sorted_checks,
        "headlines": figures.headlines,
        "tables": figures.tables,
        "value": figures.shown_value,
        "limit": figures.shown_limit,
        "baseline": figures.shown_baseline,
        "interval": figures.shown_interval,
        "reached": figures.reached,
    }
    found.tests |= {"deduction": is_deduction, "wide": _is_wide, "grid": _is_grid}
    found.globals |= {
        "outcomes": OUTCOMES,
        "marks": MARKS,
        "counted": counted,
        "no_points": NO_POINTS,
    }
    return found


def _printable(value: Any) -> Any:
    """Make text of a template safe to print. Markup comes from the templates themselves and stays."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _is_wide(card: Card) -> bool:
    return len(card.frames) > ACROSS


def _is_grid(frame: Frame) -> bool:
    return bool(frame.row_labels or frame.row_notes)


def _sorted_checks(checks: list[Check]) -> list[Check]:
    return sorted(checks, key=lambda check: ORDER[check.status])


def _with_dates(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with dates in place of seconds since 1970."""
    times = record.get("times")
    if not isinstance(times, Mapping):
        return dict(record)
    dates = {key: datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") for key, value in times.items()}
    return {**record, "times": dates}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, text) of each value in nested dicts."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        text = listed([str(each) for each in value], LISTED) if isinstance(value, list | tuple) else str(value)
        yield name, text or "–"
