"""What of a submission's result is shown: how much of a log, and which part before grades are published."""

from __future__ import annotations

from dataclasses import replace

from grading.core.results import ScoreLine, StageResult, SubmissionResult
from grading.core.text import printable
from grading.points.lines import total, verdict

TAIL_LINES = 20

OUTCOMES = {"pass": "pass", "fail": "fail", "error": "could not check", "warning": "warning"}
"""How people are told a status."""


def log_tail(log: str, lines: int = TAIL_LINES) -> list[str]:
    """The last lines of what a script printed, each safe to print."""
    return [printable(line.rstrip()) for line in log.rstrip().split("\n")[-lines:]] if log.strip() else []


def stages_of(line: ScoreLine, result: SubmissionResult) -> list[StageResult]:
    """The stages that a line's points come from, with those that failed before; none for what staff enter.

    A second run of the same script is not among them: no points hang on it.
    """
    problem, _, rest = line.name.partition(" ")
    if problem not in ("1", "2", "3"):
        return []
    name = f"hw2_{problem}.sh" if problem == "1" else f"hw2_{problem}.sh {rest.split()[0]}"
    before = [stage for stage in result.stages if stage.stage in ("copy", "fetch", "freeze") and stage.status != "pass"]
    return [*before, *(stage for stage in result.stages if stage.stage == name)]


def is_private(name: str) -> bool:
    """Whether a line, stage or part of this name is about private inputs."""
    return "private" in name.split()


def is_deduction(line: ScoreLine) -> bool:
    """Whether a line only takes points off."""
    return line.max_points == 0


def tells_private(line: ScoreLine, result: SubmissionResult) -> bool:
    """Whether a line must stay hidden until grades are published: a share of all points tells the private ones."""
    return line.private or (is_deduction(line) and any(other.private for other in result.lines))


def public_part(result: SubmissionResult) -> SubmissionResult:
    """What a student may see before grades are published: nothing private, no warnings, totals over what is left.

    Of the record only versions stay: hashes and options are about private inputs, too.
    """
    lines = [line for line in result.lines if not tells_private(line, result)]
    points, max_points, unchecked = total(lines)
    return replace(
        result,
        status=verdict(lines),
        points=points,
        max_points=max_points,
        unchecked=unchecked,
        lines=lines,
        stages=[stage for stage in result.stages if not is_private(stage.stage)],
        faces={part: faces for part, faces in result.faces.items() if part != "private"},
        concepts={part: concepts for part, concepts in result.concepts.items() if part != "private"},
        warnings=[],
        record={key: value for key, value in result.record.items() if key == "versions"},
    )


def shown_points(points: float | None) -> str:
    """Points with at most two decimals, "?" for what could not be checked."""
    return "?" if points is None else f"{round(points, 2) + 0.0:g}"  # + 0.0: no -0


def shown_seconds(seconds: float) -> str:
    """Such as 4.2 s or 12:05 min."""
    whole = round(seconds)
    return f"{seconds:.1f} s" if seconds < 60 else f"{whole // 60}:{whole % 60:02d} min"


def unchecked_sentence(result: SubmissionResult) -> str:
    """What people must know before they believe the total; empty if everything could be checked."""
    names = [printable(line.title) for line in result.lines if line.points is None]
    if not names:
        return ""
    return (
        f"{shown_points(result.unchecked)} of {shown_points(result.max_points)} points could not be checked "
        f"({', '.join(names)}). They are not zero and not in the total: staff must grade this submission again."
    )
