"""Workers that each grade one submission at a time, in their own process, on this machine or another."""

from __future__ import annotations

import functools
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from grading.cohort.find import Submission
from grading.cohort.ray_engine import Engine, ray_reason
from grading.cohort.screen import Running, Screen
from grading.core.errors import GradingError, failure_sentence
from grading.core.results import Check, SubmissionResult
from grading.core.text import counted
from grading.files.storage import locked
from grading.points.staff import StaffEntry

MAX_TRIES = 3
"""Number of workers that die on one submission, or in a row before they are ready, until the grader gives up."""

LOCK_WAIT = 60.0
"""Seconds to wait for a folder that a worker of an earlier call, or on a lost machine, still uses."""

LOOK = 0.5
"""Seconds between two checks of the workers."""


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
        stages = [replace(stage, files={}) for stage in result.stages]
        return replace(result, submission=submission.name, stages=stages)


def grade_all(
    submissions: Sequence[Submission], make_grader: Callable[[], Grades], engine: Engine, screen: Screen
) -> list[SubmissionResult]:
    """One result for each submission, in the same order. make_grader: runs in each worker, once.

    Raises GradingError if a worker cannot grade at all, or if MAX_TRIES workers in a row die before they are ready.
    """
    shift = _Shift(submissions, make_grader, engine, screen)
    try:
        shift.work()
    finally:
        shift.end()
    return [shift.results[submission.name] for submission in submissions]


class _Shift:
    """One call of `grade_all`. Workers are preparing, idle or running. The keys are Ray's handles of their results."""

    def __init__(
        self, submissions: Sequence[Submission], make_grader: Callable[[], Grades], engine: Engine, screen: Screen
    ) -> None:
        import ray

        self.ray: Any = ray
        self.actor: Any = ray.remote(**engine.resources, max_restarts=0, max_task_retries=0)(Worker)
        self.make_grader, self.screen = make_grader, screen
        self.wanted = min(engine.workers, len(submissions))
        self.waiting = deque(submissions)
        self.workers: list[Any] = []
        self.preparing: dict[Any, Any] = {}
        self.idle: list[Any] = []
        self.running: dict[Any, tuple[Any, Submission, float]] = {}
        self.deaths = Counter[str]()
        self.stillborn = 0
        self.results: dict[str, SubmissionResult] = {}

    def work(self) -> None:
        for _ in range(self.wanted):
            self.hire()
        while self.waiting or self.running:
            # only ready workers get a submission; others may wait for a machine forever
            while self.waiting and self.idle:
                worker, submission = self.idle.pop(), self.waiting.popleft()
                self.running[worker.grade.remote(submission)] = worker, submission, time.monotonic()
            for told in self.ray.wait([*self.preparing, *self.running], timeout=LOOK)[0]:
                (self.prepared if told in self.preparing else self.ended)(told)
            self.screen.workers = len(self.idle) + len(self.running)
            self.screen.running = [
                Running(submission.name, began, _stage(submission.folder))
                for _, submission, began in self.running.values()
            ]

    def hire(self) -> None:
        worker = self.actor.remote(self.make_grader)
        self.workers.append(worker)
        self.preparing[worker.prepare.remote()] = worker

    def prepared(self, told: Any) -> None:
        worker = self.preparing.pop(told)
        try:
            unfit = self.ray.get(told)
        except self.ray.exceptions.RayError as error:
            self.stillborn += 1
            if self.stillborn >= MAX_TRIES:
                said = f"{counted(MAX_TRIES, 'worker')} in a row died before they were ready ({ray_reason(error)})"
                raise GradingError(f"{said}; check that the machine has memory left, and grade again") from None
            self.hire()
            return
        if unfit:
            raise GradingError(f"a worker cannot grade: {unfit.rstrip('.')}")
        self.stillborn = 0
        self.idle.append(worker)

    def ended(self, told: Any) -> None:
        worker, submission, began = self.running.pop(told)
        try:
            result = self.ray.get(told)
        except self.ray.exceptions.RayError as error:
            self.ray.kill(worker)  # it may be alive but unreachable
            self.hire()
            self.deaths[submission.name] += 1
            said = f"{submission.name}: its worker died ({ray_reason(error)})"
            if self.deaths[submission.name] < MAX_TRIES:
                self.screen.say(f"{said}; the submission will be graded again.")
                self.waiting.append(submission)
                return
            self.screen.say(f"{said} {counted(MAX_TRIES, 'time')}; the submission could not be checked.")
            sentence = (
                f"The grader could not check this: {counted(MAX_TRIES, 'worker')} died while grading this submission."
            )
            result = ungraded(submission.name, sentence)
        else:
            self.idle.append(worker)
        self.results[submission.name] = result
        self.screen.finished(result, time.monotonic() - began)

    def end(self) -> None:
        """End the workers now. Ray itself would end them later."""
        for worker in self.workers:
            self.ray.kill(worker)


def ungraded(name: str, sentence: str) -> SubmissionResult:
    """The result of a submission that could not be graded; it never counts as zero points."""
    return SubmissionResult(name, "error", 0, 0, 0, warnings=[Check("grading", "error", sentence)])


def _stage_file(folder: Path) -> Path:
    return folder / "stage"


def _tell_stage(folder: Path, stage: str) -> None:
    with suppress(OSError):  # a grading must not fail because of the screen
        _stage_file(folder).write_text(stage)


def _stage(folder: Path) -> str:
    try:
        return _stage_file(folder).read_text()
    except (OSError, UnicodeDecodeError):
        return ""
