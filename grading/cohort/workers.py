"""Gives the submissions of a class to workers, one at a time to each, and replaces workers that die."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from grading.cohort.engine import Engine, Hired, LostError
from grading.cohort.find import Submission
from grading.cohort.screen import Running, Screen
from grading.cohort.worker import Grades, current_stage, ungraded
from grading.core.errors import GradingError
from grading.core.results import SubmissionResult
from grading.core.text import counted

MAX_TRIES = 3
"""Number of workers that die on one submission, or in a row before they are ready, until the grader gives up."""

LOOK = 0.5
"""Seconds between two checks of the workers."""


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
    """One call of `grade_all`. Workers are preparing, idle or running."""

    def __init__(
        self, submissions: Sequence[Submission], make_grader: Callable[[], Grades], engine: Engine, screen: Screen
    ) -> None:
        self.engine, self.make_grader, self.screen = engine, make_grader, screen
        self.wanted = min(engine.workers, len(submissions))
        self.waiting = deque(submissions)
        self.preparing: list[Hired] = []
        self.idle: list[Hired] = []
        self.running: dict[Hired, tuple[Submission, float]] = {}
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
                self.running[worker] = submission, time.monotonic()
                worker.grade(submission)
            for worker in self.engine.answered([*self.preparing, *self.running], LOOK):
                (self.ended if worker in self.running else self.prepared)(worker)
            self.screen.workers = len(self.idle) + len(self.running)
            self.screen.running = [
                Running(submission.name, began, current_stage(submission.folder))
                for submission, began in self.running.values()
            ]

    def hire(self) -> None:
        self.preparing.append(self.engine.hire(self.make_grader))

    def prepared(self, worker: Hired) -> None:
        self.preparing.remove(worker)
        try:
            unfit = worker.answer()
        except LostError as reason:
            worker.end()
            self.stillborn += 1
            if self.stillborn >= MAX_TRIES:
                said = f"{counted(MAX_TRIES, 'worker')} in a row died before they were ready ({reason})"
                raise GradingError(f"{said}; check that the machine has memory left, and grade again") from None
            self.hire()
            return
        self.idle.append(worker)
        if unfit:
            raise GradingError(f"a worker cannot grade: {unfit.rstrip('.')}")
        self.stillborn = 0

    def ended(self, worker: Hired) -> None:
        submission, began = self.running.pop(worker)
        try:
            result = worker.answer()
        except LostError as reason:
            worker.end()  # it may be alive but unreachable
            self.hire()
            self.deaths[submission.name] += 1
            said = f"{submission.name}: its worker died ({reason})"
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
        """End the workers now, whatever they do."""
        for worker in (*self.preparing, *self.idle, *self.running):
            worker.end()
