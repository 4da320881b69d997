"""Grades a whole class. A worker grades each submission once, on one machine or on many.

Finished work is kept in the submissions' own folders (see `submission.grader`); there is no other state. On a cluster,
all machines need this package, and the same files under the same paths.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from grading.cohort.class_files import write_class
from grading.cohort.engine import Engine
from grading.cohort.find import find_submissions
from grading.cohort.process_engine import process_engine
from grading.cohort.ray_engine import ray_engine
from grading.cohort.screen import Screen
from grading.cohort.worker import Grades
from grading.cohort.workers import grade_all
from grading.core.errors import GradingError
from grading.core.results import SubmissionResult
from grading.core.text import counted, printable
from grading.files.storage import locked
from grading.points.staff import StaffEntry
from grading.reports.roster import Student, match_students

if TYPE_CHECKING:
    from grading.submission.assignment import Assignment


def grade_cohort(
    submissions: Path,
    assignment: Assignment,
    output: Path,
    staff: Mapping[str, StaffEntry] | None = None,
    workers: int | None = None,
    address: str = "",
    roster: Sequence[Student] = (),
) -> list[SubmissionResult]:
    """Grade every sub-folder of `submissions`. The results are in the order of their names, without files' hashes.

    Writes to `output`: students/NAME/ with all that `Grader.grade` writes, scores.csv and index.html. Run again to
    resume: finished submissions are kept. staff: entries by submission name. workers: number of submissions graded at
    the same time; by default one for each GPU, or one. address: "auto" or HOST:PORT of a Ray cluster that this machine
    belongs to; "" uses processes of this machine, without Ray. roster: the students, for the tables of scores.
    Raises GradingError if there is nothing to grade, output is in use, Ray or a worker cannot start, or on Ctrl-C.
    """
    submissions, output, assignment = submissions.absolute(), output.absolute(), assignment.absolute()
    found, notes = find_submissions(submissions, output, staff or {})
    students, strangers = match_students(roster, [each.name for each in found])
    wants_gpu = assignment.gpu or assignment.device != "cpu"
    must_have_gpu = assignment.gpu or assignment.device.startswith("cuda")
    place: Callable[..., AbstractContextManager[Engine]] = process_engine
    if address:
        place = functools.partial(ray_engine, address)
    try:
        with locked(output), Screen(len(found)) as screen:
            try:
                for note in (*notes, *strangers):
                    screen.say(note.message)
                with place(workers, wants_gpu, must_have_gpu) as engine:
                    results = grade_all(found, functools.partial(_grader, assignment), engine, screen)
            except KeyboardInterrupt:
                done = f"{screen.outcomes.total()} of {counted(screen.total, 'submission')}"
                raise GradingError(f"interrupted after {done}; run the same command again to resume") from None
            write_class(output, results, {each.name: each.folder for each in found}, assignment.edition, students)
    except OSError as error:
        name = printable(str(error.filename or output))
        reason = f"({error.strerror}); free some space or choose another folder"
        raise GradingError(f"{name} cannot be used {reason}") from None
    return results


def _grader(assignment: Assignment) -> Grades:
    """The grader of a worker. Its scripts see only the worker's own GPU, because the sandbox passes on the worker's
    CUDA_VISIBLE_DEVICES.
    """
    from grading.submission.grader import Grader

    return Grader(assignment)
