"""A submission's result as Gradescope's results.json.

Gradescope's "Autograder Specifications" define the format. `schemas/gradescope.schema.json` is its schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from grading.core.results import Check, Part, ScoreLine, SubmissionResult
from grading.core.text import printable
from grading.points.lines import counted_points
from grading.reports.conditions import as_sentence, conditions
from grading.reports.todo import for_students
from grading.reports.visibility import (
    NO_POINTS,
    has_points,
    is_deduction,
    log_tail,
    passed_lines,
    tells_private,
    unchecked_sentence,
)


def gradescope_json(result: SubmissionResult) -> str:
    """The text of results.json."""
    return json.dumps(gradescope_results(result), indent=2, allow_nan=False) + "\n"


def gradescope_results(result: SubmissionResult) -> dict[str, Any]:
    """The content of results.json, as a JSON object without NaN.

    Students see private lines once grades are published. Only staff see warnings. The leaderboard, which classmates
    see, is about public inputs only. A line without points, or one that could not be checked, has neither score nor
    status. Gradescope shows it as neither passed nor failed, and the text at the top says so.
    """
    result = for_students(result)
    numbers = _numbers(result.lines)
    return {
        "score": _plain(result.points),
        "execution_time": round(sum(stage.seconds for stage in result.stages), 1),
        "output": " ".join(_summary(result)),
        "output_format": "text",
        "stdout_visibility": "hidden",
        "extra_data": {
            "submission": printable(result.submission),
            "homework": printable(result.homework),
            "status": result.status,
            "max_points": _plain(result.max_points),
            "unchecked_points": _plain(result.unchecked),
            "conditions": conditions(result),
        },
        "tests": [
            *(_test(line, number, result) for line, number in zip(result.lines, numbers, strict=True)),
            *(_warning(check) for check in result.warnings),
        ],
        "leaderboard": list(_leaderboard(result)),
    }


def _summary(result: SubmissionResult) -> Iterator[str]:
    """The text that students read first. It contains nothing private."""
    unchecked = unchecked_sentence(result)
    if not has_points(result):
        yield NO_POINTS
        if not any(line.private for line in result.lines):
            yield "Passed: {} of {}.".format(*passed_lines(result))
    elif not unchecked:
        yield f"Everything was checked. The maximum is {counted_points(result.max_points)}."
    if unchecked:
        yield unchecked
    if said := conditions(result):
        yield as_sentence(said)


def _test(line: ScoreLine, number: str, result: SubmissionResult) -> dict[str, Any]:
    test: dict[str, Any] = {
        "name": printable(line.title),
        "number": number,
        "output": _output(line, result),
        "output_format": "text",
        "tags": [f"problem {line.problem}" if line.kind == "score" else "staff"],
        "visibility": "after_published" if tells_private(line, result) else "visible",
        "extra_data": {
            "line": printable(line.name),
            "status": line.status,
            "points": None if line.points is None else _plain(line.points),
            "max_points": _plain(line.max_points),
        },
    }
    pointed = has_points(result)
    if line.points is None:
        # Without a score, a max_score would make Gradescope show some other number as the score.
        test["name"] += f" (could not be checked{f', {counted_points(line.max_points)}' if pointed else ''})"
        return test
    if not pointed:
        test["name"] += " (passed)" if line.status == "pass" else " (failed)"
        return test
    passed = line.status == "pass" and not is_deduction(line)
    return test | {
        "score": _plain(line.points),
        "max_score": _plain(line.max_points),
        "status": "passed" if passed else "failed",
    }


def _output(line: ScoreLine, result: SubmissionResult) -> str:
    """The line's message. If it did not pass, its stages' messages and the end of their logs follow."""
    said = [printable(line.message)]
    for stage in result.stages_of(line) if line.status != "pass" else []:
        said += ["", f"{printable(stage.stage)}: {printable(stage.message)}"]
        if tail := log_tail(stage.log):
            said += ["These are the last lines that it printed:", *(f"    {text}" for text in tail)]
    return "\n".join(said)


def _warning(check: Check) -> dict[str, Any]:
    """A test that only staff see. It has no score, because students could not see why."""
    return {
        "name": f"For staff: {printable(check.name)}",
        "output": printable(check.message),
        "output_format": "text",
        "tags": ["warning"],
        "visibility": "hidden",
        "extra_data": {"status": check.status},
    }


def _leaderboard(result: SubmissionResult) -> Iterator[dict[str, Any]]:
    """The figures of public inputs that have a leaderboard title."""
    for each in result.results:
        for figure in each.figures if each.part is not Part.PRIVATE else []:
            if figure.leaderboard and figure.value is not None:
                share = figure.unit == "%"
                value = round(100 * figure.value, figure.decimals) if share else round(figure.value, figure.decimals)
                order = "desc" if figure.higher_is_better else "asc"
                yield {"name": printable(figure.leaderboard), "value": value, "order": order}


def _numbers(lines: list[ScoreLine]) -> list[str]:
    """The numbers 1.1, 1.2, 2.1, .. of the lines. Lines that staff enter come after the last problem."""
    staff = 1 + max((line.problem for line in lines if line.problem is not None), default=0)
    counts: dict[int, int] = {}
    numbers = []
    for line in lines:
        group = line.problem if line.kind == "score" and line.problem is not None else staff
        counts[group] = counts.get(group, 0) + 1
        numbers.append(f"{group}.{counts[group]}")
    return numbers


def _plain(points: float) -> float:
    return round(points, 6) + 0.0  # + 0.0: no -0
