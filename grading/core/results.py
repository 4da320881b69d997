"""The results of grading as plain data. Reports show all of it and depend on no problem."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

Status = Literal["pass", "fail", "error"]
"""error: the grader could not check it; it never counts as zero points."""


class Part(StrEnum):
    """The inputs that a script runs on. WHOLE: the only part of a problem without inputs."""

    WHOLE = "whole"
    PUBLIC = "public"
    PRIVATE = "private"

    def of(self, name: str) -> str:
        """`name` followed by this part; WHOLE adds nothing."""
        return name if self is Part.WHOLE else f"{name} {self}"


@dataclass(frozen=True)
class Check:
    """One check and its result. message: a sentence for the student. A warning deducts no points."""

    name: str
    status: Status | Literal["warning"]
    message: str


@dataclass(frozen=True)
class Judge:
    """The network that judged the images.

    name: a key of `grading.judges.JUDGES`. kind: "official" for the course's weights, "embedded" for weights that this
    project trained and ships, "custom" for all others. sha256: the hash of the weights.
    """

    name: str
    kind: Literal["official", "embedded", "custom"]
    file: str
    sha256: str


@dataclass(frozen=True)
class Figure:
    """One number of a problem's result.

    key: its name for `hw2-grade explain`. value: None if it could not be computed; with unit "%", a share from 0 to 1.
    if_none: the text that is shown for None, such as "identical". decimals: number of decimals shown. baseline: the
    value that the homework expects, None if it expects none. interval: the 95 % confidence interval. informative: True
    if it gives no points. leaderboard: its title on the leaderboard, empty if it is not shown there. table, row,
    column: its place in a table, empty for headline figures.
    """

    key: str
    title: str
    value: float | None
    unit: str = ""
    decimals: int = 2
    baseline: float | None = None
    higher_is_better: bool = True
    interval: tuple[float, float] | None = None
    informative: bool = False
    leaderboard: str = ""
    table: str = ""
    row: str = ""
    column: str = ""
    if_none: str = ""


@dataclass(frozen=True)
class Outcome:
    """One result that can earn points. Each line of the score has one.

    key: unique within the result, "" for the only one. title: is shown after the result's title. met, unmet: sentences
    for the student about what was reached and what was not.
    """

    key: str
    title: str
    passed: bool
    met: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()


AMPLIFICATION = 8
"""Factor of the differences that a picture shows. A difference of 32 of 255 levels has full brightness."""


@dataclass(frozen=True)
class Frame:
    """A picture on a page: images in rows, usually a single image.

    source: "output" for images of the submission, "expected" for the images that they are compared with, "difference"
    for the difference of both, times AMPLIFICATION. images: rows of paths, below the run's outputs, or for "expected"
    below the part's data. against: for "difference", the path of the expected image. size: longest side of each image
    in pixels. row_labels, row_notes: text to the left and to the right of each row. low: indices of the rows with a
    note below the baseline.
    """

    alt: str
    images: tuple[tuple[str, ...], ...]
    source: Literal["output", "expected", "difference"] = "output"
    against: str = ""
    caption: str = ""
    size: int = 192
    row_labels: tuple[str, ...] = ()
    row_notes: tuple[str, ...] = ()
    low: tuple[int, ...] = ()


@dataclass(frozen=True)
class Card:
    """Pictures that belong together, with a title and a sentence. status: the result that they show, or empty."""

    title: str
    note: str = ""
    status: Status | Literal[""] = ""
    frames: tuple[Frame, ...] = ()
    footnote: str = ""


@dataclass(frozen=True)
class ProblemResult:
    """One part of one problem.

    title: the full title, such as "Problem 2: faces, public noises". ended: a sentence on how its script ended, empty
    if nothing was amiss. complete: whether every output was there and could be read. checks: all checks. outcomes: the
    results that earn points. cards: the gallery. details: the problem's own result, as its command writes it.
    traceback: that of an unexpected error of the grader.
    """

    problem: int
    part: Part
    name: str
    title: str
    status: Status
    ended: str = ""
    complete: bool = True
    summary: str = ""
    figures: list[Figure] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    judges: list[Judge] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    traceback: str = ""

    @property
    def folder(self) -> str:
        """The name of the folder with the run's outputs."""
        return self.part.of(f"problem_{self.problem}").replace(" ", "_")

    def figure(self, key: str) -> Figure | None:
        """The headline figure with that key."""
        return next((figure for figure in self.figures if figure.key == key and not figure.table), None)


CAUSE = "cause"
"""Name of the check that says why a result could not be checked, if its stage has a cause."""


@dataclass(frozen=True)
class Cause:
    """Why a stage failed, and whose doing that was.

    whose: "submission", or "machine" for the grading machine: its network, its packages, its devices. rule: the rule
    that found it (`submission.causes.RULES`). subject: what is missing, such as a package. evidence: a sentence with
    what the log said and what the grader's own probe found. remedy: what staff do about it, empty if nothing.
    """

    whose: Literal["submission", "machine"]
    rule: str
    subject: str
    evidence: str
    remedy: str = ""


@dataclass(frozen=True)
class StageResult:
    """How one stage ended.

    kind: "own" for the grader's own work, "script" for a script of the submission, "repeat" for its second run.
    problem, part: those of a problem's script. message: a sentence for the student. log: beginning and end of what the
    script printed. status: "error" if the grader itself failed. files: SHA-256 by path of the files that the stage
    recorded. refused: a sentence for each entry that it left out; reasons: {path: reason} of those, continuing "NAME
    ..". hints: sentences on near misses, such as a script with another name; the message has them too. traceback: that
    of an unexpected error. cause: why it failed, None if it did not fail or no rule applies. gpu_bytes: the most GPU
    memory that a script was found to use, None if it was not measured. cpu_seconds: CPU time of all its processes, None
    if it was not measured. cpu_lost: seconds of it that the script waited for in vain while others used the CPUs, 0 if
    it got its share. seal: for "freeze", the hash of the home's listing, empty if it could not be listed.
    """

    stage: str
    status: Status
    message: str
    log: str = ""
    seconds: float = 0.0
    exit_status: int | None = None
    limit: str = ""
    files: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    hints: list[str] = field(default_factory=list)
    kind: Literal["own", "script", "repeat"] = "own"
    problem: int | None = None
    part: Part = Part.WHOLE
    traceback: str = ""
    cause: Cause | None = None
    gpu_bytes: int | None = None
    cpu_seconds: float | None = None
    cpu_lost: float = 0.0
    seal: str = ""


@dataclass(frozen=True)
class ScoreLine:
    """One line of a submission's score.

    problem: None for a line about the whole submission. kind: "score" for a run, "report" for the written report that
    staff read, "deduction" for deducted points. key: the key of its outcome, report or deduction. stages: names of the
    stages that its points come from. points: None if it could not be checked. max_points: 0 for a deduction, and if
    the homework has no points. message: what was expected and what was found, for the student.
    name: a unique name for people and for JSON, such as "1 simple" or "3 private 0/1". No code parses it.
    """

    problem: int | None
    part: Part
    key: str
    kind: Literal["score", "report", "deduction"]
    title: str
    points: float | None
    max_points: float
    status: Status
    message: str
    stages: tuple[str, ...] = ()
    name: str = field(init=False)

    def __post_init__(self) -> None:
        words = {
            "score": [self.part.of(str(self.problem)), self.key],
            "report": ["report", str(self.problem)],
            "deduction": [self.key],
        }[self.kind]
        object.__setattr__(self, "name", " ".join(word for word in words if word))

    @property
    def private(self) -> bool:
        """Whether it is about private inputs. Students see such lines once grades are published."""
        return self.part is Part.PRIVATE


@dataclass(frozen=True)
class SubmissionResult:
    """One whole submission. grade.json has these fields, and the digest of `submission.written`.

    status: "pass" if every line of the homework has its full points, "error" if any could not be checked. points: sum
    over the lines that could be checked, never below 0. max_points: sum over all lines. unchecked: the part of
    max_points that could not be checked. homework: the edition's name. stages: in the order in which they ran, with the
    logs of the scripts. results: the graded results, in the homework's order. warnings: for staff. record: the facts
    that are needed to reproduce the result. Only seconds, gpu_bytes, cpu_seconds, cpu_lost and seal of stages, and
    record["times"], hold what differs from run to run.
    """

    submission: str
    status: Status
    points: float
    max_points: float
    unchecked: float
    homework: str = ""
    lines: list[ScoreLine] = field(default_factory=list)
    stages: list[StageResult] = field(default_factory=list)
    results: list[ProblemResult] = field(default_factory=list)
    warnings: list[Check] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)

    def of(self, problem: int, part: Part = Part.WHOLE) -> ProblemResult | None:
        """The result of one part of one problem, None if it was not graded."""
        return next((each for each in self.results if (each.problem, each.part) == (problem, part)), None)

    def stages_of(self, line: ScoreLine) -> list[StageResult]:
        """The stages that a line's points come from, after the general stages that did not pass."""
        own = [stage for stage in self.stages if stage.stage in line.stages]
        before = [
            stage
            for stage in self.stages
            if own and stage.problem is None and stage.status != "pass" and stage not in own
        ]
        return [*before, *own]
