"""The visibility of a submission's result, the length of a log, and the format of points and times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from grading.core.pythonlog import excerpt
from grading.core.results import Part, ProblemResult, ScoreLine, StageResult, SubmissionResult
from grading.core.text import counted, listed, printable
from grading.points.lines import counted_points, total, verdict
from grading.reports.todo import for_students

TAIL_LINES = 20

OUTCOMES = {"pass": "pass", "fail": "fail", "error": "could not check", "warning": "warning"}
"""Status -> the words for it in reports."""

NO_POINTS = "The points of this homework are not known, so only scores are shown."


def log_tail(log: str, lines: int = TAIL_LINES) -> list[str]:
    """Lines of what a script printed, each safe to print: around its last exception, else the last ones."""
    return [printable(line.rstrip()) for line in excerpt(log, lines)]


def is_deduction(line: ScoreLine) -> bool:
    """Whether a line only deducts points."""
    return line.kind == "deduction"


def has_private(result: SubmissionResult) -> bool:
    """Whether anything in it is about private inputs."""
    parts = {line.part for line in result.lines} | {stage.part for stage in result.stages}
    return Part.PRIVATE in parts | {each.part for each in result.results}


def tells_private(line: ScoreLine, result: SubmissionResult) -> bool:
    """Whether a line is hidden until grades are published. A deduction from all points reveals private ones."""
    return line.private or (is_deduction(line) and any(other.private for other in result.lines))


def public_part(result: SubmissionResult) -> SubmissionResult:
    """The part that a student may see before grades are published, with totals over that part.

    It has no private lines, stages and results, no warnings and tracebacks, and no problems' own results. The record
    keeps only versions, the time scale and whether the data were embedded, because hashes and options are also about
    private inputs. Causes on the grading machine are for staff.
    """
    result = for_students(result)
    lines = [line for line in result.lines if not tells_private(line, result)]
    points, max_points, unchecked = total(lines)
    return replace(
        result,
        status=verdict(lines),
        points=points,
        max_points=max_points,
        unchecked=unchecked,
        lines=lines,
        stages=[replace(stage, traceback="") for stage in result.stages if stage.part is not Part.PRIVATE],
        results=[_public(each) for each in result.results if each.part is not Part.PRIVATE],
        warnings=[],
        record={key: value for key, value in result.record.items() if key in ("versions", "time_scale", "embedded")},
    )


def _public(result: ProblemResult) -> ProblemResult:
    return replace(result, details={}, traceback="")


def has_points(result: SubmissionResult) -> bool:
    """Whether the homework has points. If not, pages show only scores."""
    scored = [line for line in result.lines if not is_deduction(line)]
    return not scored or any(line.max_points for line in scored)


def passed_lines(result: SubmissionResult) -> tuple[int, int]:
    """(number of script lines that passed, number of script lines)."""
    lines = [line for line in result.lines if line.kind == "score"]
    return sum(line.status == "pass" for line in lines), len(lines)


def tracebacks(result: SubmissionResult) -> Iterator[tuple[str, str]]:
    """(where, traceback) of each unexpected error of the grader."""
    for stage in result.stages:
        if stage.traceback:
            yield stage.stage, stage.traceback
    for each in result.results:
        if each.traceback:
            yield each.title, each.traceback


def shown_points(points: float | None) -> str:
    """Points with at most two decimals, "?" if they could not be checked."""
    return "?" if points is None else f"{round(points, 2) + 0.0:g}"  # + 0.0: no -0


def shown_seconds(seconds: float) -> str:
    """A time such as 4.2 s or 12:05 min."""
    whole = round(seconds)
    return f"{seconds:.1f} s" if seconds < 60 else f"{whole // 60}:{whole % 60:02d} min"


def shown_gpu_memory(stage: StageResult) -> str:
    """The GPU memory of a script such as 3.4 GiB on the GPU; empty if none was found in use."""
    return f"{stage.gpu_bytes / 2**30:.1f} GiB on the GPU" if stage.gpu_bytes else ""


def shown_cpu_time(stage: StageResult) -> str:
    """The CPU time of a script such as 4.2 s of CPU time; empty if it was not measured."""
    return f"{shown_seconds(stage.cpu_seconds)} of CPU time" if stage.cpu_seconds is not None else ""


def unchecked_sentence(result: SubmissionResult) -> str:
    """A warning about the points that could not be checked; empty if there are none."""
    names = [line.title for line in result.lines if line.points is None]
    if not names:
        return ""
    found = f"{shown_points(result.unchecked)} of {counted_points(result.max_points)}"
    counts = "They do not count as zero and are not in the total"
    if not has_points(result):
        found, counts = counted(len(names), "score"), "This does not count as failed"
    return (
        f"{found} could not be checked ({listed(names, len(names))}). {counts}. Staff must grade this submission again."
    )
