"""A whole class: each submission graded once by some worker, on one machine or on many.

Finished work lies in the submissions' own folders (see `submission.grader`); nothing else has to be remembered. On a
cluster all machines must see the same files under the same names, and have this package.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from grading.cohort.find import find_submissions
from grading.cohort.ray_engine import ray_engine
from grading.cohort.screen import Screen
from grading.cohort.workers import Grades, grade_all
from grading.core.errors import GradingError
from grading.core.results import SubmissionResult
from grading.core.text import counted, printable
from grading.files.storage import locked, write_whole
from grading.points.staff import StaffEntry

if TYPE_CHECKING:
    from grading.submission.assignment import Assignment


def grade_cohort(
    submissions: Path,
    assignment: Assignment,
    output: Path,
    staff: Mapping[str, StaffEntry] | None = None,
    workers: int | None = None,
    address: str = "",
) -> list[SubmissionResult]:
    """Grade every sub-folder of `submissions`; the results are in the order of their names, without files' hashes.

    Leaves in `output`: students/NAME/ with all that `Grader.grade` writes, scores.csv and index.html. Run again, it
    keeps what is finished and resumes with the rest. staff: by name. workers: how many submissions run at a time, by
    default one for each GPU, or one. address: of a Ray cluster that this machine belongs to, "auto" or HOST:PORT; ""
    starts Ray here.
    Raises GradingError if there is nothing to grade, output is in use, Ray or a worker cannot begin, or on Ctrl-C.
    """
    from grading.reports.class_page import class_page
    from grading.reports.scores_csv import scores_csv

    submissions, output, assignment = submissions.absolute(), output.absolute(), assignment.absolute()
    found, notes = find_submissions(submissions, output, staff or {})
    wants_gpu = assignment.gpu or assignment.device != "cpu"
    must_have_gpu = assignment.gpu or assignment.device.startswith("cuda")
    try:
        with locked(output), Screen(len(found)) as screen:
            try:
                for note in notes:
                    screen.say(note.message)
                with ray_engine(address, workers, wants_gpu, must_have_gpu) as engine:
                    results = grade_all(found, functools.partial(_grader, assignment), engine, screen)
            except KeyboardInterrupt:
                done = f"{screen.outcomes.total()} of {counted(screen.total, 'submission')}"
                raise GradingError(f"interrupted after {done}; run the same command again to resume") from None
            write_whole(output / "scores.csv", scores_csv(results).encode())
            write_whole(output / "index.html", class_page(results, assignment.edition).encode())
    except OSError as error:
        name = printable(str(error.filename or output))
        raise GradingError(f"{name} cannot be used ({error.strerror}); make room or choose another folder") from None
    return results


def _grader(assignment: Assignment) -> Grades:
    """In a worker: a grader whose scripts see the GPU that Ray set aside for it, no other."""
    from grading.submission.grader import Grader

    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    if assignment.gpu and devices is not None:
        assignment = replace(assignment, environment={**assignment.environment, "CUDA_VISIBLE_DEVICES": devices})
    return Grader(assignment)
