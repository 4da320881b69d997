"""One worker: it makes its grader once, then grades one submission after another in a process of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from grading.cohort.find import Submission
from grading.core.errors import failure_sentence
from grading.core.results import Check, SubmissionResult
from grading.files.storage import locked
from grading.points.staff import StaffEntry

LOCK_WAIT = 60.0
"""Seconds to wait for a folder that a worker of an earlier call, or on a lost machine, still uses."""


class Grades(Protocol):
    """The grader of a worker, such as a `Grader`."""

    def grade(self, source: Path, folder: Path, staff: StaffEntry, on_stage: Callable[[str], None]) -> SubmissionResult:
        """See `Grader.grade`."""


class Worker:
    """Runs in a process of its own, on any machine. Its grader, with the judges, is made once."""

    def __init__(self, make_grader: Callable[[], Grades]) -> None:
        self.make_grader = make_grader

    def prepare(self) -> str:
        """Make the grader. Return the reason if that fails, otherwise ""."""
        try:
            self.grader = self.make_grader()
        except Exception as error:
            return failure_sentence(error)
        return ""

    def grade(self, submission: Submission) -> SubmissionResult:
        """Grade a submission. The result has no hashes of files, because those of a class would not fit into memory."""
        try:
            with locked(submission.folder, LOCK_WAIT):
                pass
            on_stage = functools.partial(_tell_stage, submission.folder)
            result = self.grader.grade(submission.source, submission.folder, submission.staff, on_stage)
        except Exception as error:
            return ungraded(submission.name, failure_sentence(error))
        finally:
            with suppress(OSError):
                _stage_file(submission.folder).unlink(missing_ok=True)
        return without_hashes(result, submission.name)


def without_hashes(result: SubmissionResult, name: str) -> SubmissionResult:
    """The result as a class keeps it: named as its folder, without the hashes of its files."""
    return replace(result, submission=name, stages=[replace(stage, files={}) for stage in result.stages])


def ungraded(name: str, sentence: str) -> SubmissionResult:
    """The result of a submission that could not be graded; it never counts as zero points."""
    return SubmissionResult(name, "error", 0, 0, 0, warnings=[Check("grading", "error", sentence)])


def current_stage(folder: Path) -> str:
    """The stage that a worker is at with the submission of this folder; "" before the first one."""
    try:
        return _stage_file(folder).read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _stage_file(folder: Path) -> Path:
    return folder / "stage"


def _tell_stage(folder: Path, stage: str) -> None:
    with suppress(OSError):  # a grading must not fail because of the screen
        _stage_file(folder).write_text(stage)
