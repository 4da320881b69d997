"""What runs workers: processes of this machine, or Ray on several machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from grading.cohort.find import Submission
from grading.cohort.worker import Grades
from grading.core.errors import GradingError


class LostError(Exception):
    """A worker died. The message says how, in a few words."""


class Hired(Protocol):
    """A worker as its employer sees it. It prepares once it is hired, and then does one thing at a time."""

    def grade(self, submission: Submission) -> None:
        """Begin to grade a submission. If the worker is dead, `answer` says so."""

    def answer(self) -> Any:
        """The result of `Worker.prepare`, then of each `Worker.grade`, once the engine says that it is there.

        Raises LostError if the worker died.
        """

    def end(self) -> None:
        """End the worker now, whatever it does."""


class Engine(Protocol):
    """A place for workers. workers: how many there are to be."""

    @property
    def workers(self) -> int:
        """How many submissions are graded at the same time."""

    def hire(self, make_grader: Callable[[], Grades]) -> Hired:
        """Start a worker, which prepares at once. make_grader: runs in the worker."""

    def answered(self, hired: Sequence[Any], seconds: float) -> Sequence[Any]:
        """Those of the workers that have an answer or are dead. Waits for the first one, `seconds` at most."""


def check_workers(workers: int | None) -> None:
    """Raises GradingError for a number of workers that is none."""
    if workers is not None and workers < 1:
        raise GradingError(f"the number of workers is {workers}; expected 1 or more", option="workers")
