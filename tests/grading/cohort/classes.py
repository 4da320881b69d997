"""Small classes, graded by whatever engine."""

from __future__ import annotations

import io

from rich.console import Console

from grading.cohort.engine import Engine
from grading.cohort.find import Submission
from grading.cohort.screen import Screen
from grading.cohort.workers import grade_all
from tests.grading.graders import Fake


def quiet(total: int) -> Screen:
    return Screen(total, Console(file=io.StringIO()))


def graded(submissions: list[Submission], engine: Engine, make_grader=Fake, screen: Screen | None = None):
    with screen or quiet(len(submissions)) as shown:
        return grade_all(submissions, make_grader, engine, shown)


def tries(submission: Submission) -> list[str]:
    return (submission.folder / "tries").read_text().splitlines()
