"""The scores of a class as a table for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from grading.core.results import SubmissionResult
from grading.core.text import printable
from grading.reports.class_statistics import script_runs
from grading.reports.conditions import judge_names
from grading.reports.figures import headlines, run_name
from grading.reports.roster import Student
from grading.reports.todo import open_reasons
from grading.reports.visibility import has_points, is_deduction

UNKNOWN = "not known"

KINDS = ("line", "figure", "seconds")
"""The kinds of columns, in their order."""

LAST = ("warnings", "could_not_check", "lost_points", "judges")
"""The last columns."""

Cell = str | float


def scores_csv(results: Sequence[SubmissionResult], students: Mapping[str, Student] = MappingProxyType({})) -> str:
    """A CSV with one row per submission.

    students: by the name of their submission. Their ids are the column student_id, which stands last. The other
    columns are submission, status, points, max_points, unchecked, one per line, one per headline figure, seconds of
    scripts, warnings, could_not_check (why), lost_points (the sentence of each line that failed), judges (the networks
    that scored images, with their kind: official, embedded or custom). The cell of a line that could not be checked is
    "not checked". It is empty for a line or figure that the submission does not have. If the homework's points are not
    known, points are "not known", and lines are "pass" or "fail". No text begins like a formula.
    """
    rows = [_row(result) for result in results]
    fixed = ["submission", "status", "points", "max_points", "unchecked"]
    columns = sorted(dict.fromkeys(name for row in rows for name in row), key=lambda column: KINDS.index(column[0]))
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    ids = [[safe_cell(students[each.submission].id) if each.submission in students else ""] for each in results]
    header = [*fixed, *(safe_cell(_heading(*column)) for column in columns), *LAST]
    writer.writerow([*header, "student_id"] if students else header)
    for result, row, id_cell in zip(results, rows, ids, strict=True):
        first = [safe_cell(result.submission), result.status, *_points(result)]
        last = [len(result.warnings), *map(safe_cell, (_reasons(result), _lost(result), _judges(result)))]
        writer.writerow([*first, *(row.get(column, "") for column in columns), *last, *(id_cell if students else [])])
    return text.getvalue()


def _lost(result: SubmissionResult) -> str:
    """Why points were lost, as the pages say it."""
    return " | ".join(f"{line.name}: {line.message}" for line in result.lines if line.status == "fail")


def _judges(result: SubmissionResult) -> str:
    """Each judge with its kind, such as "clip (embedded)"; empty if nobody judged."""
    return ", ".join(judge_names(judge for each in result.results for judge in each.judges))


def _row(result: SubmissionResult) -> dict[tuple[str, str], Cell]:
    """The cells of a submission, by (kind, name) of their columns."""
    pointed = has_points(result)
    row: dict[tuple[str, str], Cell] = {}
    for line in result.lines:
        cell: Cell = "not checked"
        if line.points is not None:
            cell = _round(line.points) if pointed or is_deduction(line) else line.status
        row["line", line.name] = cell
    for each in result.results:
        for figure in headlines(each.figures):
            if figure.value is not None:
                row["figure", f"{run_name(each)} {figure.title}"] = _round(figure.value, 6)
    for stage in script_runs(result):
        row["seconds", stage.stage] = _round(stage.seconds)
    return row


def _reasons(result: SubmissionResult) -> str:
    """Why parts of it could not be checked; empty if all was checked."""
    reasons = (reason.cause.evidence if reason.cause else reason.message for reason in open_reasons(result))
    return " ".join(dict.fromkeys(reasons))


def _points(result: SubmissionResult) -> list[Cell]:
    if not has_points(result):
        return [UNKNOWN] * 3
    return [_round(result.points), _round(result.max_points), _round(result.unchecked)]


def _heading(kind: str, name: str) -> str:
    return f"seconds {name}" if kind == "seconds" else name


def safe_cell(text: str) -> str:
    """Text from a submission. An apostrophe stops spreadsheets from running it (OWASP, CSV injection)."""
    shown = printable(text)
    return f"'{shown}" if shown.lstrip()[:1] in tuple("=+-@＝＋－＠") else shown


def _round(value: float, decimals: int = 4) -> float:
    return round(value, decimals) + 0.0  # + 0.0: no -0
