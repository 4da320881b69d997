"""A homework, with the numbers of its problems and its rules about points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from grading.core.errors import GradingError
from grading.core.results import Part
from grading.problems.problem import Problem

CHANGEABLE = ("report", "late_share_per_day", "staff_fixed_share")
"""Numbers that an assignment may change, besides the points of problems."""


@dataclass(frozen=True)
class Homework:
    """One edition. Official numbers are written down in its values and nowhere else.

    report: maximum points of the written report, by problem. staff_fixed_share: share of the performance points that is
    deducted if staff fixed the code. late_share_per_day: share of all points that is deducted for each day late after
    the free_days of a term.
    """

    name: str
    title: str
    problems: tuple[Problem, ...]
    report: Mapping[int, float] = field(default_factory=dict)
    staff_fixed_share: float = 0.0
    late_share_per_day: float = 0.0
    free_days: int = 0
    note: str = ""

    def problem(self, number: int) -> Problem:
        """The problem of that number. Raises KeyError if there is none."""
        return {problem.number: problem for problem in self.problems}[number]

    @property
    def has_points(self) -> bool:
        """Whether the homework's points are known."""
        return any(problem.points for problem in self.problems)

    def points_of(self, *parts: Part) -> float:
        """The most that scripts can get in these parts; in all parts, if none is named."""
        return sum(
            points
            for problem in self.problems
            for key, points in problem.points.items()
            if not parts or key in map(str, parts)
        )

    def with_points(self, changes: Mapping[str, Any]) -> Homework:
        """The same homework with other points.

        changes: report, staff_fixed_share, late_share_per_day, and problem_N with points by outcome or part.
        Raises GradingError for a name or an outcome that this homework does not have.
        """
        own = {key: value for key, value in changes.items() if not key.startswith("problem_")}
        if wrong := sorted(set(own) - set(CHANGEABLE)):
            raise GradingError(f"points has {wrong[0]}; expected {', '.join(CHANGEABLE)} or problem_N")
        if "report" in own:
            own["report"] = dict.fromkeys((problem.number for problem in self.problems), float(own["report"]))
        problems = []
        for problem in self.problems:
            points = changes.get(f"problem_{problem.number}") or {}
            known = {key for key, _ in problem.unknown if key} or {str(part) for part in problem.parts}
            if wrong := sorted(set(points) - known):
                raise GradingError(
                    f"points.problem_{problem.number} has {wrong[0]}; expected {' or '.join(sorted(known))}"
                )
            filled = {**dict.fromkeys(known, 0.0), **problem.points, **points}  # all others get 0
            problems.append(replace(problem, points=filled) if points else problem)
        numbers = {f"problem_{problem.number}" for problem in self.problems}
        if wrong := sorted(key for key in changes if key.startswith("problem_") and key not in numbers):
            raise GradingError(f"points has {wrong[0]}; {self.name} has {', '.join(sorted(numbers))}")
        return replace(self, problems=tuple(problems), **own)
