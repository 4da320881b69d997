"""All reports of a submission. To add one, add a file here and a row in the table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from grading.core.results import SubmissionResult
from grading.files.storage import write_whole
from grading.homeworks.homework import Homework
from grading.reports.gradescope import gradescope_json
from grading.reports.junit import junit_xml
from grading.reports.pictures import Pictures
from grading.reports.submission_page import student_page, submission_page

Writer = Callable[[SubmissionResult, Pictures, Homework], str]

REPORTS: dict[str, Writer] = {
    "report.html": submission_page,
    "student.html": student_page,
    "results.json": lambda result, _pictures, _homework: gradescope_json(result),
    "junit.xml": lambda result, _pictures, _homework: junit_xml(result),
}
"""File name -> function that makes its text. student.html is what students get before grades are published."""


def write_reports(result: SubmissionResult, folder: Path, pictures: Pictures, homework: Homework) -> None:
    """Write a submission's reports into its folder, each either completely or not at all."""
    for name, text_of in REPORTS.items():
        write_whole(folder / name, text_of(result, pictures, homework).encode())
