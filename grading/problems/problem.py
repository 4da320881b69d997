"""A problem of a homework: its script, its inputs, its points, and the scoring of its outputs."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from grading.core.arrays import ImageU8
from grading.core.results import Check, Outcome, Part, ProblemResult
from grading.files.images import GradedImage
from grading.problems import suspicions

OUTPUT, DATA = "/output", "/data/"
"""Paths inside the sandbox: the folder that a script writes, and the place of its inputs."""


@dataclass(frozen=True)
class Input:
    """Something that a script is given below /data.

    name: there. path: below the part's data folder. shared: taken from the public data, for the private part too.
    option: the option that names another place for it, "" if there is none. pattern: of the names of a folder's files
    that scripts are given, such as "*.pt"; "" if they are given the whole folder, or the input is a file.
    """

    name: str
    path: str
    shared: bool = False
    option: str = ""
    pattern: str = ""


@dataclass(frozen=True)
class Explanation:
    """How something that a report names is computed.

    name: as people type it. pattern: a regular expression for all the names that it explains, in small letters.
    source: where the rule comes from.
    """

    name: str
    pattern: str
    text: str
    source: str


class ImageReader(Protocol):
    """Reads images of the outputs; both methods raise ImageRefused."""

    def read_png(self, folder: Path, name: str, size: tuple[int, int] | None = None) -> GradedImage:
        """As `files.images.read_png`."""

    def read_image(self, folder: Path, name: str) -> ImageU8:
        """As `files.images.read_image`."""


@dataclass(frozen=True)
class Run:
    """One finished run of a script, to be scored.

    output: the folder with what it wrote. data: the part's data; public: the public data. inputs: what the script was
    given, by `Input.name`. judges: by name, loaded when first asked for. refused: {path: reason} of outputs that were
    not collected; a reason continues the sentence "NAME ..".
    """

    part: Part
    output: Path
    data: Path
    public: Path
    inputs: Mapping[str, Path]
    judges: Mapping[str, Any]
    images: ImageReader
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """The material in which suspicions are searched.

    where: the stage's name. images: outputs by name. files, submitted, expected: SHA-256 by name of the outputs, of the
    submission's own files, and of what outputs are compared with. own_pictures: pictures in the submission.
    """

    where: str
    seconds: float
    images: Mapping[str, ImageU8]
    files: Mapping[str, str] = field(default_factory=dict)
    submitted: Mapping[str, str] = field(default_factory=dict)
    expected: Mapping[str, str] = field(default_factory=dict)
    own_pictures: Mapping[str, ImageU8] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Problem(ABC):
    """A problem with one homework's numbers.

    number: of its script hw2_N.sh. arguments: of the script, in the official order; those below /data are inputs.
    seconds: the official time limit. points: by outcome, or by part, whose outcomes then share them equally; empty
    where the homework's points are not known. source: where all of this comes from, for explanations.
    """

    number: int
    arguments: tuple[str, ...]
    seconds: float
    source: str
    points: Mapping[str, float] = field(default_factory=dict)

    name: ClassVar[str]
    parts: ClassVar[tuple[Part, ...]]
    inputs: ClassVar[tuple[Input, ...]] = ()
    judges: ClassVar[tuple[str, ...]]
    expected: ClassVar[str] = ""
    """Folder below a part's data with what outputs are compared with; no run may read it."""
    png_only: ClassVar[bool] = True
    """Whether only PNG files count as pictures."""
    unknown: ClassVar[tuple[tuple[str, str], ...]] = (("", ""),)
    """(key, title) of the outcomes of a run of which nothing is known."""

    @property
    def script(self) -> str:
        """Its file name."""
        return f"hw2_{self.number}.sh"

    def title(self, part: Part) -> str:
        """Such as "Problem 2: faces, public noises"."""
        return f"Problem {self.number}: {self.name}{self.part_title(part)}"

    def part_title(self, part: Part) -> str:
        """The part's addition to the title."""
        return "" if part is Part.WHOLE else f", {part} {self.inputs[0].name}"

    @abstractmethod
    def score(self, run: Run) -> ProblemResult:
        """The result of a run's output. Raises GradingError where staff's files or judges cannot be used."""

    def unchecked(self, part: Part, check: Check, traceback: str = "") -> ProblemResult:
        """The result of a run that could not be scored; check says why."""
        outcomes = [Outcome(key, title, passed=False) for key, title in self.unknown]
        return ProblemResult(
            self.number, part, self.name, self.title(part), "error", outcomes=outcomes, checks=[check],
            traceback=traceback,
        )  # fmt: skip

    def shares(self, part: Part, keys: Sequence[str]) -> list[float]:
        """The most points of each outcome; they depend on the homework's rules alone. 0 where it has no points."""
        if not self.points:
            return [0.0] * len(keys)
        if all(key in self.points for key in keys):
            return [self.points[key] for key in keys]
        return [self.points[part] / len(keys)] * len(keys)

    def groups(self, evidence: Evidence) -> dict[str, Mapping[str, ImageU8]]:
        """The outputs, in groups that should not repeat themselves, by a name for each."""
        return {evidence.where: evidence.images}

    def suspicions(self, evidence: Evidence) -> list[Check]:
        """Warnings for staff: signs that pictures were not made as they should be."""
        found = [
            c for where, images in self.groups(evidence).items() for c in suspicions.repeated_images(where, images)
        ]
        found += suspicions.copied_files(evidence.where, evidence.files, evidence.submitted, evidence.expected)
        found += suspicions.copied_pixels(evidence.where, evidence.images, evidence.own_pictures)
        return found

    def explanations(self) -> Iterable[Explanation]:
        """Explanations of its lines and figures."""
        return ()


def plain(result: Any) -> dict[str, Any]:
    """A problem's own result as JSON has it, so that it is the same before it is written and after it is read."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(result)))
    return found


def messages(checks: Iterable[Check], status: str) -> tuple[str, ...]:
    """The sentences of the checks with that status."""
    return tuple(check.message for check in checks if check.status == status)
