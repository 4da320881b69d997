"""From results to points, as the slides count them; whatever adds or takes points has a line of its own."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.results import Check, ConceptsResult, DigitsResult, FacesResult, ScoreLine, Status
from grading.core.spec import (
    CONCEPTS_POINTS,
    DIGITS_SIMPLE_POINTS,
    DIGITS_STRONG_POINTS,
    FACES_POINTS,
    LATE_SHARE_PER_DAY,
    PROMPT_POINTS,
    REPORT_POINTS,
    STAFF_FIXED_SHARE,
)
from grading.core.text import printable
from grading.files.staff_files import read_bytes

STAFF_COLUMNS = ("submission", "report_1", "report_2", "report_3", "late_days", "staff_fixed")

SHOWN = 3
"""Reasons that a line gives."""


@dataclass(frozen=True)
class StaffEntry:
    """What people decide about a submission.

    report: points of the written report by problem, 0 to 15. late_days: beyond the free ones. staff_fixed: whether
    staff had to mend the code.
    """

    report: Mapping[int, float] = field(default_factory=dict)
    late_days: int = 0
    staff_fixed: bool = False


def read_staff_file(path: Path) -> dict[str, StaffEntry]:
    """Submission -> entry, from a CSV with a column `submission` and any of the others of STAFF_COLUMNS.

    Empty cells say nothing. Raises GradingError for another file, column, number, or a submission named twice.
    """
    shown = printable(str(path))
    content = read_bytes(path, f"a CSV with the columns {', '.join(STAFF_COLUMNS)}")
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig")), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise GradingError(f"{shown} is no CSV file ({printable(str(error))}); expected {STAFF_COLUMNS}") from None
    entries: dict[str, StaffEntry] = {}
    for number, row in enumerate(rows, 2):
        where = f"{shown}, line {number},"
        if unknown := [str(column) for column in row if column not in STAFF_COLUMNS]:
            raise GradingError(
                f"{shown} has a column {printable(unknown[0])}; expected some of {', '.join(STAFF_COLUMNS)}"
            )
        name = row.get("submission") or ""
        if not name or name in entries:
            raise GradingError(f"{where} names {'no submission' if not name else printable(name) + ' a second time'}")
        report = {
            problem: _number(where, f"report_{problem}", cell, REPORT_POINTS)
            for problem in (1, 2, 3)
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


def score_lines(
    digits: DigitsResult | None,
    faces: Mapping[str, FacesResult],
    concepts: Mapping[str, ConceptsResult],
    staff: StaffEntry,
) -> list[ScoreLine]:
    """Every line of a submission's score, in the homework's order. faces, concepts: under "public" and "private"."""
    lines = [*_digits_lines(digits)] if digits else []
    for part, of_faces in faces.items():
        lines.append(_line(f"2 {part}", f"Problem 2, {part} noises", FACES_POINTS, of_faces.status == "pass", of_faces))
    public = concepts.get("public")
    for part, of_concepts in concepts.items():
        lines += _concepts_lines(part, of_concepts, public.total if public else 0)
    return [*lines, *_staff_lines(lines, staff)]


def total(lines: Sequence[ScoreLine]) -> tuple[float, float, float]:
    """(points, max_points, how many of those could not be checked); points never below 0."""
    points = sum(line.points for line in lines if line.points is not None)
    unchecked = sum(line.max_points for line in lines if line.points is None)
    return max(points, 0.0), sum(line.max_points for line in lines), unchecked


def verdict(lines: Sequence[ScoreLine]) -> Status:
    """Of the whole: "error" if a line could not be checked, "pass" if none failed."""
    found = {line.status for line in lines}
    return "error" if "error" in found else "fail" if "fail" in found else "pass"


def _digits_lines(result: DigitsResult) -> list[ScoreLine]:
    baselines = {check.name.split()[0]: check for check in result.checks if check.name.endswith(" baseline")}
    others = [check for check in result.checks if check not in baselines.values()]
    complete = all(check.status != "fail" for check in others)
    lines = []
    for name, points in (("simple", DIGITS_SIMPLE_POINTS), ("strong", DIGITS_STRONG_POINTS)):
        checks = [*([baselines[name]] if name in baselines else []), *others]
        passed = complete and name in baselines and baselines[name].status == "pass"
        lines.append(_line(f"1 {name}", f"Problem 1, {name} baseline", points, passed, result, checks))
    return lines


def _concepts_lines(part: str, result: ConceptsResult, public_prompts: int) -> list[ScoreLine]:
    if not result.prompts:
        points = PROMPT_POINTS * 4 if part == "public" else CONCEPTS_POINTS - PROMPT_POINTS * 4
        return [_line(f"3 {part}", f"Problem 3, {part} prompts", points, False, result)]
    each = PROMPT_POINTS
    if part == "private":
        each = max(CONCEPTS_POINTS - PROMPT_POINTS * public_prompts, 0) / len(result.prompts)
    lines = []
    for key, score in result.prompts.items():
        own = [check for check in result.checks if check.name.startswith((f"{key} ", f"{key}/"))]
        title = f"Problem 3, {part} prompt {printable(key)}"
        lines.append(_line(f"3 {part} {key}", title, each, score.passed, result, own))
    return lines


def _line(
    name: str,
    title: str,
    points: float,
    passed: bool,
    result: DigitsResult | FacesResult | ConceptsResult,
    checks: Sequence[Check] | None = None,
) -> ScoreLine:
    private = name.split()[1] == "private"
    checks = result.checks if checks is None else checks
    if result.status == "error":
        reasons = [check.message for check in result.checks if check.status == "error"]
        return ScoreLine(
            name, title, None, points, "error", " ".join(["Could not be checked.", *reasons[:SHOWN]]), private
        )
    run = [check.message for check in result.checks if check.name == "run"]  # how the script ended, if not well
    failed = [*run, *(check.message for check in checks if check.status == "fail")]
    if passed:
        message = " ".join(check.message for check in checks if check.status == "pass")
    else:
        met = [check.message for check in checks if check.status == "pass"]
        more = [f"(And {len(failed) - SHOWN} more.)"] if len(failed) > SHOWN else []
        message = " ".join([*met[:1], *failed[:SHOWN], *more])
    return ScoreLine(name, title, points if passed else 0.0, points, "pass" if passed else "fail", message, private)


def _staff_lines(lines: Sequence[ScoreLine], staff: StaffEntry) -> list[ScoreLine]:
    found = []
    for problem, points in sorted(staff.report.items()):
        message = f"Staff gave {points:g} of {REPORT_POINTS:g} points."
        found.append(
            ScoreLine(f"report {problem}", f"Report, problem {problem}", points, REPORT_POINTS, "pass", message)
        )
    performance, written = total(lines)[0], total(found)[0]
    fixed = performance * STAFF_FIXED_SHARE if staff.staff_fixed else 0.0
    if staff.staff_fixed:
        message = f"Staff had to mend the code: {STAFF_FIXED_SHARE:.0%} of {performance:g} performance points are lost."
        found.append(ScoreLine("staff fixed", "Code mended by staff", -fixed, 0.0, "pass", message))
    if staff.late_days:
        share = min(staff.late_days * LATE_SHARE_PER_DAY, 1.0)
        left = performance + written - fixed
        message = f"{staff.late_days} days late beyond the free ones: {share:.0%} of {left:g} points are lost."
        found.append(ScoreLine("late", "Late", -left * share, 0.0, "pass", message))
    return found
