"""The results of grading as plain data. Reports show all of it without knowing any problem."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

Status = Literal["pass", "fail", "error"]
"""error: the grader could not check it; it never counts as zero points."""


class Part(StrEnum):
    """The inputs that a script runs on. WHOLE: a problem without inputs, which has one part only."""

    WHOLE = "whole"
    PUBLIC = "public"
    PRIVATE = "private"

    def of(self, name: str) -> str:
        """`name` followed by this part; WHOLE adds nothing."""
        return name if self is Part.WHOLE else f"{name} {self}"


@dataclass(frozen=True)
class Check:
    """One question and its answer. message: a sentence for the student; status "warning" costs nothing."""

    name: str
    status: Status | Literal["warning"]
    message: str


@dataclass(frozen=True)
class Judge:
    """Which network judged.

    name: as in `grading.judges.JUDGES`. kind: "official" for the course's own weights, "embedded" for those that this
    project trained and ships, else "custom". sha256: of the weights.
    """

    name: str
    kind: Literal["official", "embedded", "custom"]
    file: str
    sha256: str


@dataclass(frozen=True)
class Figure:
    """One number of a problem's result.

    key: its name for `hw2-grade explain`. value: None where it could not be computed; with unit "%", a share from 0 to
    1. if_none: the text that is shown for None, such as "identical". decimals: how many are shown. baseline: what the
    homework expects of it, None if nothing. interval: the 95 % confidence interval. informative: gives no points.
    leaderboard: its title there, empty if it is not shown there. table, row, column: its place, if it is one of many in
    a table; headline figures have none.
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
    """Something that points can be given for: one per line of the score.

    key: unique within the result, "" for the only one. title: follows the result's own title. met, unmet: sentences for
    the student, about what was reached and what was not.
    """

    key: str
    title: str
    passed: bool
    met: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()


AMPLIFICATION = 8
"""Differences are multiplied by this, so that one of 32 levels of 255 is as bright as can be."""


@dataclass(frozen=True)
class Frame:
    """A picture on a page: images in rows, most often a single one.

    source: "output" for images of the submission, "expected" for those that they are compared with, "difference" for
    the distance of both, times AMPLIFICATION. images: rows of paths, below the run's outputs, or for "expected" below
    the part's data. against: for "difference", the path of the expected image. size: longest side of each image in
    pixels. row_labels: beside each row on the left; row_notes: on the right; low: numbers of the rows whose note is
    below the baseline.
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
    """Pictures that belong together, with a title and a sentence. status: of what they show, empty if it has none."""

    title: str
    note: str = ""
    status: Status | Literal[""] = ""
    frames: tuple[Frame, ...] = ()
    footnote: str = ""


@dataclass(frozen=True)
class ProblemResult:
    """One part of one problem.

    title: of the whole, such as "Problem 2: faces, public noises". ended: how its script ended, a sentence, empty if it
    ended well. checks: all that was found out. outcomes: what points are given for. cards: the gallery. details: the
    problem's own result, as its command writes it. traceback: of an unexpected error of the grader.
    """

    problem: int
    part: Part
    name: str
    title: str
    status: Status
    ended: str = ""
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
        """The headline figure of that key."""
        return next((figure for figure in self.figures if figure.key == key and not figure.table), None)


@dataclass(frozen=True)
class StageResult:
    """How one stage ended.

    kind: "own" for the grader's own work, "script" for a script of the submission, "repeat" for its second run.
    problem, part: of a script of a problem. message: a sentence for the student. log: beginning and end of what the
    script printed. status: "error" where the grader could not do its part. files: sha256 by path of what the stage
    leaves behind. refused: what it does not leave behind, a sentence each. traceback: of an unexpected error.
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
    kind: Literal["own", "script", "repeat"] = "own"
    problem: int | None = None
    part: Part = Part.WHOLE
    traceback: str = ""


@dataclass(frozen=True)
class ScoreLine:
    """One line of a submission's score.

    problem: None for what is about the whole submission. kind: "score" comes from a run, "report" from staff who read
    it, "deduction" only takes points off. key: of its outcome, report or deduction. stages: names of the stages that
    its points come from. points: None where it could not be checked. max_points: 0 for a deduction, and where the
    homework has no points. message: what was expected and what was found, for the student.
    name: unique, for people and for JSON, such as "1 simple" or "3 private 0/1"; no code takes it apart.
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
        """Whether it is about private inputs, so that students see it once grades are published."""
        return self.part is Part.PRIVATE


@dataclass(frozen=True)
class SubmissionResult:
    """One whole submission.

    status: "pass" if every line of the homework has its full points, "error" if any could not be checked. points: sum
    over the lines that could be checked, never below 0, of max_points; unchecked: how many of max_points could not be.
    homework: the edition's name. stages: in the order in which they ran, with the logs of the scripts. results: in the
    homework's order, those that were graded. warnings: for staff. record: what is needed to get the same again; times
    are in stages[].seconds and record["times"] alone.
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
        """The result of one part of one problem, None where it was not graded."""
        return next((each for each in self.results if (each.problem, each.part) == (problem, part)), None)

    def stages_of(self, line: ScoreLine) -> list[StageResult]:
        """The stages that a line's points come from, with those that failed before them."""
        own = [stage for stage in self.stages if stage.stage in line.stages]
        before = [
            stage
            for stage in self.stages
            if own and stage.problem is None and stage.status != "pass" and stage not in own
        ]
        return [*before, *own]
