"""What a student's page says to do: the one thing that costs most, and under each failed line what its script said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from grading.core.results import ScoreLine, StageResult, SubmissionResult
from grading.points.lines import counted_points


@dataclass(frozen=True)
class FirstStep:
    """The thing to do first. message: what is amiss. lost: sentence on what it costs, empty without points."""

    message: str
    lost: str


def first_step(result: SubmissionResult) -> FirstStep | None:
    """What costs the most points, a failed stage before a missed score; None if no line of a script failed.

    Lines that fail for the same cause count together, because one correction helps all of them.
    """
    failed = [line for line in result.lines if line.kind == "score" and line.status == "fail"]
    alike: dict[str, list[ScoreLine]] = {}
    for line in failed:
        alike.setdefault(_cause(line, result), []).append(line)
    if not alike:
        return None
    lost = {cause: sum(line.max_points - (line.points or 0.0) for line in lines) for cause, lines in alike.items()}
    stages = {" ".join(_said(stage)) for stage in result.stages}
    first = max(alike, key=lambda cause: (lost[cause], cause in stages, len(alike[cause])))
    dearest = max(alike[first], key=lambda line: line.max_points)
    message = first if first in stages else f"{dearest.title}: {dearest.message}"
    return FirstStep(message, f"This costs {counted_points(lost[first])}." if lost[first] else "")


def shown_logs(result: SubmissionResult) -> dict[str, Sequence[StageResult]]:
    """The stages whose logs stand under a failed line, by the line's name: each stage once, under the first line."""
    found: dict[str, Sequence[StageResult]] = {}
    shown = set[str]()
    for line in result.lines:
        if line.status == "fail":
            found[line.name] = [each for each in result.stages_of(line) if each.log and each.stage not in shown]
            shown |= {stage.stage for stage in found[line.name]}
    return found


def _cause(line: ScoreLine, result: SubmissionResult) -> str:
    """Why a line failed: what its first failed stage says, or else what was found in the output of its script.

    Two baselines of the same images differ only in what was expected.
    """
    for stage in result.stages_of(line):
        if stage.status == "fail":
            return " ".join(_said(stage))
    return " ".join([*line.stages, line.message.partition("; expected ")[0]])


def _said(stage: StageResult) -> Iterator[str]:
    yield stage.message
    if stage.cause and stage.cause.evidence not in stage.message:
        yield stage.cause.evidence
