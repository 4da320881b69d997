"""Points from results, by the homework's rules. Everything that adds or deducts points has a separate line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from grading.core.results import Check, Outcome, Part, ProblemResult, ScoreLine, Status
from grading.core.text import counted
from grading.homeworks.homework import Homework
from grading.points.staff import StaffEntry

SHOWN = 3
"""Maximum number of reasons that a line gives."""

ROUNDING = 1e-9
"""Points by which sums of floats may differ."""

SETTLED = "settled"
"""Name of the warnings about points that staff gave for lines that could not be checked."""

UNCHECKED = "This could not be checked."
"""Beginning of the message of a line that could not be checked."""


def score_lines(homework: Homework, results: Sequence[ProblemResult], staff: StaffEntry) -> list[ScoreLine]:
    """Every line of a submission's score, in the homework's order, with what staff decided."""
    lines = _settled_lines(_script_lines(homework, results), staff)
    return [*lines, *_staff_lines(homework, lines, staff)]


def settled_warnings(homework: Homework, results: Sequence[ProblemResult], staff: StaffEntry) -> Iterator[Check]:
    """A warning for each graded problem that staff settled without effect."""
    lines = _script_lines(homework, results)
    for problem, points in staff.settled.items():
        own = [line for line in lines if line.problem == problem]
        if own and not _can_settle(own, points):
            most = sum(line.max_points for line in own if line.points is None)
            reason = f"the lines that could not be checked have {counted_points(most)} together; correct the staff file"
            if all(line.points is not None for line in own):
                reason = "all of it was checked"
            message = f"Staff settled Problem {problem} with {counted_points(points)}, without effect: {reason}."
            yield Check(SETTLED, "warning", message)


def _script_lines(homework: Homework, results: Sequence[ProblemResult]) -> list[ScoreLine]:
    """The lines of all scripts, in the homework's order."""
    order = {(problem.number, part): (i, j) for i, problem in enumerate(homework.problems)
             for j, part in enumerate(problem.parts)}  # fmt: skip
    return [
        line
        for result in sorted(results, key=lambda each: order[each.problem, each.part])
        for line in _result_lines(homework, result)
    ]


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
    """The end of a line's title, such as "simple baseline", "public noises", "private prompt “A cat.”"."""
    if not outcome.key:
        return part_title.removeprefix(", ")
    return outcome.title if part is Part.WHOLE else f"{part} {outcome.title}"


def _message(result: ProblemResult, outcome: Outcome) -> str:
    """The result in words. For a failed outcome it also says how the script ended, and gives the first reasons."""
    if result.status == "error":
        reasons = [check.message for check in result.checks if check.status == "error"]
        return " ".join([UNCHECKED, *reasons[:SHOWN]])
    if outcome.passed:
        return " ".join(outcome.met)
    failed = [result.ended, *outcome.unmet] if result.ended else list(outcome.unmet)
    more = [f"(And {counted(len(failed) - SHOWN, 'more reason')}.)"] if len(failed) > SHOWN else []
    return " ".join([*outcome.met[:1], *failed[:SHOWN], *more])


def _settled_lines(lines: Sequence[ScoreLine], staff: StaffEntry) -> list[ScoreLine]:
    """The lines, where those that could not be checked have their share of the points that staff gave for them."""
    found = list(lines)
    for problem, points in staff.settled.items():
        own = [line for line in lines if line.problem == problem]
        if _can_settle(own, points):
            most = sum(line.max_points for line in own if line.points is None)
            share = points / most if points < most - ROUNDING else 1.0
            found = [_settled(line, share) if line in own and line.points is None else line for line in found]
    return found


def _can_settle(own: Sequence[ScoreLine], points: float) -> bool:
    """Whether a problem's lines have room for these points where the grader could not check them."""
    unchecked = [line.max_points for line in own if line.points is None]
    return bool(unchecked) and points <= sum(unchecked) + ROUNDING


def _settled(line: ScoreLine, share: float) -> ScoreLine:
    points = share * line.max_points
    given = f"{_number(points)} of {counted_points(line.max_points)}"
    reason = line.message.removeprefix(UNCHECKED).strip() or "no reason is known."
    message = f"Staff settled this: {given}; the grader could not check it: {reason}"
    return replace(line, points=points, status="pass" if share == 1 else "fail", message=message)


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
    shown = _number(points)
    return f"{shown} {'point' if shown == '1' else 'points'}"


def _number(points: float) -> str:
    return f"{round(points, 2) + 0.0:g}"  # + 0.0: no -0
