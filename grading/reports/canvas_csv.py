"""The scores of a class as the CSV that Canvas imports, such as NTU COOL."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from grading.core.results import SubmissionResult
from grading.homeworks.homework import Homework
from grading.reports.roster import Student
from grading.reports.scores_csv import safe_cell
from grading.reports.visibility import has_points, shown_points


def canvas_csv(results: Sequence[SubmissionResult], students: Mapping[str, Student], homework: Homework) -> str:
    """One row for each submission of a student in the roster. students: by the name of their submission.

    A score that is not complete, because something could not be checked, is left empty: Canvas then keeps what it has.
    No text begins like a formula.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["Student", "ID", "SIS Login ID", "Section", homework.title])
    for result in results:
        if student := students.get(result.submission):
            complete = result.status != "error" and has_points(result)
            cells = (student.name, student.course_id, student.id, student.section)
            writer.writerow([*map(safe_cell, cells), shown_points(result.points) if complete else ""])
    return text.getvalue()
