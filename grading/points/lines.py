"""Points from results, by the homework's rules. Everything that adds or deducts points has a separate line."""

from __future__ import annotations

from collections.abc import Sequence

from grading.core.results import Outcome, Part, ProblemResult, ScoreLine, Status
from grading.core.text import counted
from grading.homeworks.homework import Homework
from grading.points.staff import StaffEntry

SHOWN = 3
"""Maximum number of reasons that a line gives."""


def score_lines(homework: Homework, results: Sequence[ProblemResult], staff: StaffEntry) -> list[ScoreLine]:
    """Every line of a submission's score, in the homework's order."""
    order = {(problem.number, part): (i, j) for i, problem in enumerate(homework.problems)
             for j, part in enumerate(problem.parts)}  # fmt: skip
    lines = [
        line
        for result in sorted(results, key=lambda each: order[each.problem, each.part])
        for line in _result_lines(homework, result)
    ]
    return [*lines, *_staff_lines(homework, lines, staff)]


def total(lines: Sequence[ScoreLine]) -> tuple[float, float, float]:
    """(points, max_points, the part of max_points that could not be checked). Points are never below 0."""
    points = sum(line.points for line in lines if line.points is not None)
    unchecked = sum(line.max_points for line in lines if line.points is None)
    return max(points, 0.0), sum(line.max_points for line in lines), unchecked


def verdict(lines: Sequence[ScoreLine]) -> Status:
    """The status of all lines together: "error" if one could not be checked, "pass" if none failed."""
    found = {line.status for line in lines}
    return "error" if "error" in found else "fail" if "fail" in found else "pass"


def _result_lines(homework: Homework, result: ProblemResult) -> list[ScoreLine]:
    """One line for each outcome. The maximum points depend on the homework's rules, not on the result."""
    problem = homework.problem(result.problem)
    outcomes = result.outcomes
    shares = problem.shares(result.part, [outcome.key for outcome in outcomes])
    stages = (result.part.of(problem.script),)
    lines = []
    for outcome, most in zip(outcomes, shares, strict=True):
        title = f"Problem {result.problem}, {_line_title(problem.part_title(result.part), outcome, result.part)}"
        status: Status = "error" if result.status == "error" else "pass" if outcome.passed else "fail"
        points = None if status == "error" else most if outcome.passed else 0.0
        said = _message(result, outcome)
        lines.append(
            ScoreLine(result.problem, result.part, outcome.key, "score", title, points, most, status, said, stages)
        )
    return lines


def _line_title(part_title: str, outcome: Outcome, part: Part) -> str:
    """The end of a line's title, such as "simple baseline", "public noises", "private prompt 0/1"."""
    if not outcome.key:
        return part_title.removeprefix(", ")
    return outcome.title if part is Part.WHOLE else f"{part} {outcome.title}"


def _message(result: ProblemResult, outcome: Outcome) -> str:
    """The result in words. For a failed outcome it also says how the script ended, and gives the first reasons."""
    if result.status == "error":
        reasons = [check.message for check in result.checks if check.status == "error"]
        return " ".join(["This could not be checked.", *reasons[:SHOWN]])
    if outcome.passed:
        return " ".join(outcome.met)
    failed = [result.ended, *outcome.unmet] if result.ended else list(outcome.unmet)
    more = [f"(And {counted(len(failed) - SHOWN, 'more reason')}.)"] if len(failed) > SHOWN else []
    return " ".join([*outcome.met[:1], *failed[:SHOWN], *more])


def _staff_lines(homework: Homework, lines: Sequence[ScoreLine], staff: StaffEntry) -> list[ScoreLine]:
    found = []
    for problem, points in sorted(staff.report.items()):
        most = homework.report[problem]
        message = f"Staff gave {points:g} of {counted_points(most)}."
        title = f"Report, problem {problem}"
        found.append(ScoreLine(problem, Part.WHOLE, "", "report", title, points, most, "pass", message))
    performance, written = total(lines)[0], total(found)[0]
    fixed = performance * homework.staff_fixed_share if staff.staff_fixed else 0.0
    if staff.staff_fixed:
        share = f"{100 * homework.staff_fixed_share:g} %"
        message = f"Staff fixed the code: {share} of {counted_points(performance)} for performance deducted."
        found.append(_deduction("staff fixed", "Code fixed by staff", fixed, " ".join([message, *staff.fixes])))
    if staff.late_days:
        late = min(staff.late_days * homework.late_share_per_day, 1.0)
        left = performance + written - fixed
        days = counted(staff.late_days, "day")
        message = f"{days} late after the free days: {100 * late:g} % of {counted_points(left)} deducted."
        found.append(_deduction("late", "Late", left * late, message))
    return found


def _deduction(key: str, title: str, points: float, message: str) -> ScoreLine:
    return ScoreLine(None, Part.WHOLE, key, "deduction", title, -points, 0.0, "pass", message)


def counted_points(points: float) -> str:
    """Points with at most two decimals and their noun, such as "34.5 points"."""
    shown = f"{round(points, 2) + 0.0:g}"  # + 0.0: no -0
    return f"{shown} {'point' if shown == '1' else 'points'}"
