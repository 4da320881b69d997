"""A submission's result as Gradescope's results.json.

The format is that of Gradescope's "Autograder Specifications"; `schemas/gradescope.schema.json` states it.
"""

from __future__ import annotations

from typing import Any

from grading.core.results import Check, ScoreLine, SubmissionResult
from grading.core.text import printable
from grading.reports.visibility import (
    is_deduction,
    log_tail,
    shown_points,
    stages_of,
    tells_private,
    unchecked_sentence,
)


def gradescope_results(result: SubmissionResult) -> dict[str, Any]:
    """What Gradescope expects in results.json, as a JSON object; safe to dump with allow_nan=False.

    Private lines are shown once grades are published, warnings to staff alone. The leaderboard, which classmates see,
    is about public inputs only. A line that could not be checked has neither score nor status, which Gradescope shows
    as neither passed nor failed; the total is stated at the top, where it says so, too.
    """
    unchecked = unchecked_sentence(result)
    numbers = _numbers(result.lines)
    return {
        "score": _plain(result.points),
        "execution_time": round(sum(stage.seconds for stage in result.stages), 1),
        "output": unchecked or f"Every one of the {shown_points(result.max_points)} points was checked.",
        "output_format": "text",
        "stdout_visibility": "hidden",
        "extra_data": {
            "submission": printable(result.submission),
            "status": result.status,
            "max_points": _plain(result.max_points),
            "unchecked_points": _plain(result.unchecked),
        },
        "tests": [
            *(_test(line, number, result) for line, number in zip(result.lines, numbers, strict=True)),
            *(_warning(check) for check in result.warnings),
        ],
        "leaderboard": _leaderboard(result),
    }


def _test(line: ScoreLine, number: str, result: SubmissionResult) -> dict[str, Any]:
    test: dict[str, Any] = {
        "name": printable(line.title),
        "number": number,
        "output": _output(line, result),
        "output_format": "text",
        "tags": [tag for tag in (f"problem {line.name[0]}" if line.name[0].isdecimal() else "staff",) if tag],
        "visibility": "after_published" if tells_private(line, result) else "visible",
        "extra_data": {
            "line": printable(line.name),
            "status": line.status,
            "points": None if line.points is None else _plain(line.points),
            "max_points": _plain(line.max_points),
        },
    }
    if line.points is None:
        # With max_score and without score Gradescope would have to show something for the score.
        test["name"] += f" (could not be checked, {shown_points(line.max_points)} points)"
        return test
    passed = line.status == "pass" and not is_deduction(line)
    return test | {
        "score": _plain(line.points),
        "max_score": _plain(line.max_points),
        "status": "passed" if passed else "failed",
    }


def _output(line: ScoreLine, result: SubmissionResult) -> str:
    """The line's sentence; for what did not pass also what its stages say, with the end of their logs."""
    said = [printable(line.message)]
    for stage in stages_of(line, result) if line.status != "pass" else []:
        said += ["", f"{printable(stage.stage)}: {printable(stage.message)}"]
        if tail := log_tail(stage.log):
            said += ["The last lines that it printed:", *(f"    {text}" for text in tail)]
    return "\n".join(said)


def _warning(check: Check) -> dict[str, Any]:
    """A test for staff's eyes: students never see it, so it may not count either."""
    return {
        "name": f"For staff: {printable(check.name)}",
        "output": printable(check.message),
        "output_format": "text",
        "tags": ["warning"],
        "visibility": "hidden",
        "extra_data": {"status": check.status},
    }


def _leaderboard(result: SubmissionResult) -> list[dict[str, Any]]:
    """About public inputs alone."""
    board: list[dict[str, Any]] = []
    if result.digits and result.digits.accuracy is not None:
        board.append({"name": "Digits accuracy %", "value": round(100 * result.digits.accuracy, 2), "order": "desc"})
    if (faces := result.faces.get("public")) and faces.mse is not None:
        board.append({"name": "Faces MSE", "value": round(faces.mse, 4), "order": "asc"})
    if (concepts := result.concepts.get("public")) and concepts.status != "error":
        board.append({"name": "Prompts passed", "value": concepts.passed, "order": "desc"})
    return board


def _numbers(lines: list[ScoreLine]) -> list[str]:
    """1.1, 1.2, 2.1, ..; what staff enter is 4.1, 4.2, .."""
    counts: dict[str, int] = {}
    numbers = []
    for line in lines:
        group = line.name[0] if line.name[0] in "123" else "4"
        counts[group] = counts.get(group, 0) + 1
        numbers.append(f"{group}.{counts[group]}")
    return numbers


def _plain(points: float) -> float:
    return round(points, 6) + 0.0  # + 0.0: no -0
