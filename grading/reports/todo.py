"""What staff can do about submissions that could not be checked, in groups with one remedy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from grading.core.results import CAUSE, Cause, ScoreLine, StageResult, SubmissionResult
from grading.core.text import counted

FOR_STUDENTS = "The grading machine could not check this; staff will run it again."
"""The sentence that students read about a stage that the grading machine kept from running."""

SETTLED_FOR_STUDENTS = "it could not be run."
"""The same in a line that staff settled, where nothing is run again."""

FAILED = "The grader could not check this: "
"""Beginning of the sentences of `core.errors`, which a task leaves out."""


@dataclass(frozen=True)
class Task:
    """Something that staff can do. sentence: how many submissions wait for it, and what to do. submissions: names."""

    sentence: str
    submissions: tuple[str, ...]


@dataclass(frozen=True)
class Reason:
    """Why something could not be checked. cause: None where the grader itself failed, and message says all."""

    message: str
    cause: Cause | None = None

    @property
    def group(self) -> tuple[str, ...]:
        """Reasons of one group have one remedy."""
        cause = self.cause
        return (cause.rule, cause.subject, cause.remedy) if cause else ("", self.message)


def staff_tasks(results: Sequence[SubmissionResult]) -> list[Task]:
    """What staff can do, with the task that most submissions wait for first."""
    waiting: dict[tuple[str, ...], tuple[Reason, list[str]]] = {}
    for result in results:
        for group, reason in {reason.group: reason for reason in open_reasons(result)}.items():
            waiting.setdefault(group, (reason, []))[1].append(result.submission)
    tasks = [Task(_sentence(reason, len(names)), tuple(names)) for reason, names in waiting.values()]
    return sorted(tasks, key=lambda task: -len(task.submissions))


def open_reasons(result: SubmissionResult) -> Iterator[Reason]:
    """Why parts of a submission could not be checked, without repetition. Parts that staff settled are left out."""
    if result.status != "error":
        return
    reasons = [*_stage_reasons(result), *_result_reasons(result)]
    reasons += [Reason(check.message) for check in result.warnings if check.status == "error"]
    first: dict[str, Reason] = {}
    for reason in reasons:
        first.setdefault(reason.message, reason)
    yield from first.values()


def for_students(result: SubmissionResult) -> SubmissionResult:
    """The result without what is staff's alone: causes on the grading machine, and what was said about them."""
    told = [stage.message for stage in result.stages if _machine(stage) and stage.message]

    def public(text: str, sentence: str = FOR_STUDENTS) -> str:
        for message in told:
            text = text.replace(message, sentence)
        return text

    def of(line: ScoreLine) -> str:
        return public(line.message, FOR_STUDENTS if line.points is None else SETTLED_FOR_STUDENTS)

    return replace(
        result,
        lines=[replace(line, message=of(line)) for line in result.lines],
        stages=[replace(stage, message=public(stage.message), cause=_own_cause(stage)) for stage in result.stages],
        results=[
            replace(each, checks=[replace(check, message=public(check.message)) for check in each.checks])
            for each in result.results
        ],
    )


def _stage_reasons(result: SubmissionResult) -> Iterator[Reason]:
    """Those of stages. A stage that did not run has the message of the one that failed before it, and no cause."""
    for stage in result.stages:
        own = [line for line in result.lines if stage.stage in line.stages]
        settled = own and all(line.points is not None for line in own)
        if stage.status == "error" and not settled:
            yield Reason(stage.message, stage.cause if _machine(stage) else None)


def _result_reasons(result: SubmissionResult) -> Iterator[Reason]:
    """Those of scores, such as a judge that could not be loaded. A cause is that of its stage."""
    for each in result.results:
        own = [line for line in result.lines if (line.problem, line.part) == (each.problem, each.part)]
        if each.status == "error" and any(line.points is None for line in own):
            errors = (check for check in each.checks if check.status == "error")
            yield from (Reason(check.message) for check in errors if check.name != CAUSE)


def _own_cause(stage: StageResult) -> Cause | None:
    """A cause that is the submission's own doing, without what staff do about it."""
    return replace(stage.cause, remedy="") if stage.cause and not _machine(stage) else None


def _machine(stage: StageResult) -> bool:
    return stage.cause is not None and stage.cause.whose == "machine"


def _sentence(reason: Reason, count: int) -> str:
    submissions = counted(count, "submission")
    if reason.cause is None:
        return f"{submissions} could not be checked: {reason.message.removeprefix(FAILED)}"
    verb = "needs" if count == 1 else "need"
    remedy = reason.cause.remedy.rstrip(". ") or "run the same command again"
    return f"{submissions} {verb} {reason.cause.subject}: {remedy}; nothing else is graded anew."
