"""Decisions of staff about a submission: its report, what the grader could not check, late days, fixed code."""

from __future__ import annotations

import csv
import io
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.text import printable
from grading.files.leftovers import described
from grading.files.staff_files import read_bytes
from grading.homeworks.homework import Homework


def staff_columns(homework: Homework) -> tuple[str, ...]:
    """The columns of a homework's staff file."""
    reports = (f"report_{problem}" for problem in homework.report)
    settled = (f"settled_{problem}" for problem in _most_settled(homework))
    return ("submission", *reports, *settled, "late_days", "staff_fixed")


def plain_name(name: str) -> str:
    """A submission's name in the form in which names are compared: Unicode NFC, without surrounding spaces."""
    return unicodedata.normalize("NFC", name).strip()


@dataclass(frozen=True)
class StaffEntry:
    """Decisions of staff about one submission.

    report: points of the written report by problem. late_days: days late after the free days. staff_fixed: whether
    staff fixed the code. fixes: sentences on what was fixed, if the grader did it. settled: points by problem for its
    lines that the grader could not check.
    """

    report: Mapping[int, float] = field(default_factory=dict)
    late_days: int = 0
    staff_fixed: bool = False
    fixes: tuple[str, ...] = ()
    settled: Mapping[int, float] = field(default_factory=dict)


def read_staff_file(path: Path, homework: Homework) -> dict[str, StaffEntry]:
    """Submission -> entry, from a CSV with the column `submission` and any other columns of `staff_columns`.

    Names are those of `plain_name`. Empty cells set nothing. Raises GradingError for an invalid file, column or number,
    or a submission named twice.
    """
    shown = printable(str(path))
    columns = staff_columns(homework)
    content = read_bytes(path, f"a CSV with the columns {', '.join(columns)}")
    if what := described(content, path.name):
        raise GradingError(f"{shown} {what}; expected a CSV with the columns {', '.join(columns)}")
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig")), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise GradingError(
            f"{shown} is not a CSV file ({printable(str(error))}); expected the columns {', '.join(columns)}"
        ) from None
    entries: dict[str, StaffEntry] = {}
    for number, row in enumerate(rows, 2):
        where = f"{shown}, line {number},"
        if unknown := [str(column) for column in row if column not in columns]:
            raise GradingError(f"{shown} has a column {printable(unknown[0])}; expected some of {', '.join(columns)}")
        name = plain_name(row.get("submission") or "")
        if not name or name in entries:
            raise GradingError(f"{where} names {'no submission' if not name else printable(name) + ' a second time'}")
        report = _numbers(where, row, "report", homework.report)
        settled = _numbers(where, row, "settled", _most_settled(homework))
        late = _number(where, "late_days", row.get("late_days") or "0", 1000)
        if late != int(late):
            raise GradingError(f"{where} has late_days {late:g}; expected whole days")
        fixed = (row.get("staff_fixed") or "no").strip().lower()
        if fixed not in ("yes", "no"):
            raise GradingError(f"{where} has staff_fixed {printable(fixed)}; expected yes or no")
        entries[name] = StaffEntry(report, int(late), fixed == "yes", settled=settled)
    return entries


def _most_settled(homework: Homework) -> dict[int, float]:
    """The most that each problem's scripts can get; no limit for a problem that is not graded now."""
    known = {problem.number: sum(problem.points.values()) for problem in homework.problems if problem.points}
    return {**dict.fromkeys(homework.report, math.inf), **known}


def _numbers(where: str, row: Mapping[str, str], column: str, most: Mapping[int, float]) -> dict[int, float]:
    """The numbers of a row by problem. most: the largest one allowed."""
    cells = {problem: row.get(f"{column}_{problem}") for problem in most}
    return {
        problem: _number(where, f"{column}_{problem}", cell, most[problem]) for problem, cell in cells.items() if cell
    }


def _number(where: str, column: str, cell: str, most: float) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise GradingError(f"{where} has {column} {printable(cell)}; expected a number from 0 to {most:g}")
    return value
