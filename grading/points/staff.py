"""Decisions of staff about a submission: points of the report, late days, fixed code."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.text import printable
from grading.files.staff_files import read_bytes
from grading.homeworks.homework import Homework


def staff_columns(homework: Homework) -> tuple[str, ...]:
    """The columns of a homework's staff file."""
    return ("submission", *(f"report_{problem}" for problem in homework.report), "late_days", "staff_fixed")


@dataclass(frozen=True)
class StaffEntry:
    """Decisions of staff about one submission.

    report: points of the written report by problem. late_days: days late after the free days. staff_fixed: whether
    staff fixed the code. fixes: sentences on what was fixed, if the grader did it.
    """

    report: Mapping[int, float] = field(default_factory=dict)
    late_days: int = 0
    staff_fixed: bool = False
    fixes: tuple[str, ...] = ()


def read_staff_file(path: Path, homework: Homework) -> dict[str, StaffEntry]:
    """Submission -> entry, from a CSV with the column `submission` and any other columns of `staff_columns`.

    Empty cells set nothing. Raises GradingError for an invalid file, column or number, or a submission named twice.
    """
    shown = printable(str(path))
    columns = staff_columns(homework)
    content = read_bytes(path, f"a CSV with the columns {', '.join(columns)}")
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
        name = row.get("submission") or ""
        if not name or name in entries:
            raise GradingError(f"{where} names {'no submission' if not name else printable(name) + ' a second time'}")
        report = {
            problem: _number(where, f"report_{problem}", cell, most)
            for problem, most in homework.report.items()
            if (cell := row.get(f"report_{problem}"))
        }
        late = _number(where, "late_days", row.get("late_days") or "0", 1000)
        if late != int(late):
            raise GradingError(f"{where} has late_days {late:g}; expected whole days")
        fixed = (row.get("staff_fixed") or "no").strip().lower()
        if fixed not in ("yes", "no"):
            raise GradingError(f"{where} has staff_fixed {printable(fixed)}; expected yes or no")
        entries[name] = StaffEntry(report, int(late), fixed == "yes")
    return entries


def _number(where: str, column: str, cell: str, most: float) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise GradingError(f"{where} has {column} {printable(cell)}; expected a number from 0 to {most:g}")
    return value
