"""A problem of a homework, with its script, its inputs, its points, and the scoring of its outputs."""

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
"""Paths inside the sandbox: the folder that a script writes to, and the folder of its inputs."""


@dataclass(frozen=True)
class Input:
    """A file or folder that a script gets below /data.

    name: its name below /data. path: its path below the part's data folder. shared: whether the private part takes it
    from the public data, too. option: the option that sets another path for it, "" if there is none. pattern: of the
    names of a folder's files that scripts get, such as "*.pt"; "" if they get the whole folder, or for a file.
    """

    name: str
    path: str
    shared: bool = False
    option: str = ""
    pattern: str = ""


@dataclass(frozen=True)
class Explanation:
    """How a thing that a report names is computed.

    name: what people type. pattern: a regular expression for all names that it explains, in lower case.
    source: where the rule comes from.
    """

    name: str
    pattern: str
    text: str
    source: str


class ImageReader(Protocol):
    """A reader of output images. Both methods raise ImageRefused."""

    def read_png(self, folder: Path, name: str, size: tuple[int, int] | None = None) -> GradedImage:
        """See `files.images.read_png`."""

    def read_image(self, folder: Path, name: str) -> ImageU8:
        """See `files.images.read_image`."""


@dataclass(frozen=True)
class Run:
    """One finished run of a script, ready for scoring.

    output: the folder that it wrote. data: the part's data. public: the public data. inputs: paths of the script's
    inputs, by `Input.name`. judges: by name, each loaded at its first use. refused: {path: reason} of outputs that were
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
    """The material that is searched for suspicions.

    where: the stage's name. images: outputs by name. files, submitted, expected: SHA-256 by name of the outputs, of the
    submission's files, and of the files that outputs are compared with. own_pictures: the `pixel_digest` of pictures
    in the submission by name, as far as they have the size of an output and could be read.
    """

    where: str
    seconds: float
    images: Mapping[str, ImageU8]
    files: Mapping[str, str] = field(default_factory=dict)
    submitted: Mapping[str, str] = field(default_factory=dict)
    expected: Mapping[str, str] = field(default_factory=dict)
    own_pictures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Problem(ABC):
    """A problem with one homework's numbers.

    number: the N of its script hw2_N.sh. arguments: the script's arguments, in the official order; paths below /data
    are inputs. seconds: the official time limit. points: by outcome, or by part and then shared equally by the part's
    outcomes; empty if the homework's points are not known. source: the source of all this, for explanations.
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
    """Folder below a part's data with the files that outputs are compared with. No run may read it."""
    references: ClassVar[str] = ""
    """Folder below a part's data with more files that the scoring reads."""
    png_only: ClassVar[bool] = True
    """Whether only PNG files count as pictures."""
    unknown: ClassVar[tuple[tuple[str, str], ...]] = (("", ""),)
    """(key, title) of the outcomes of a run that could not be scored."""

    @property
    def script(self) -> str:
        """The file name of its script."""
        return f"hw2_{self.number}.sh"

    def title(self, part: Part) -> str:
        """The title of a part, such as "Problem 2: faces, public noises"."""
        return f"Problem {self.number}: {self.name}{self.part_title(part)}"

    def part_title(self, part: Part) -> str:
        """The part's addition to the title."""
        return "" if part is Part.WHOLE else f", {part} {self.inputs[0].name}"

    @abstractmethod
    def score(self, run: Run) -> ProblemResult:
        """The result of a run's output. Raises GradingError if staff's files or judges cannot be used."""

    def unchecked(self, part: Part, check: Check, traceback: str = "") -> ProblemResult:
        """The result of a run that could not be scored. check: the reason."""
        outcomes = [Outcome(key, title, passed=False) for key, title in self.unknown]
        return ProblemResult(
            self.number, part, self.name, self.title(part), "error", outcomes=outcomes, checks=[check],
            traceback=traceback,
        )  # fmt: skip

    def shares(self, part: Part, keys: Sequence[str]) -> list[float]:
        """The maximum points of each outcome. They depend only on the homework's rules. 0 if it has no points."""
        if not self.points:
            return [0.0] * len(keys)
        if all(key in self.points for key in keys):
            return [self.points[key] for key in keys]
        return [self.points[part] / len(keys)] * len(keys)

    def groups(self, evidence: Evidence) -> dict[str, Mapping[str, ImageU8]]:
        """Groups of outputs, by name. Within a group, images should differ."""
        return {evidence.where: evidence.images}

    def suspicions(self, evidence: Evidence) -> list[Check]:
        """Warnings for staff about signs that pictures were not generated as required."""
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
    """A problem's own result as JSON data, so that it is the same before it is written and after it is read."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(result)))
    return found


def messages(checks: Iterable[Check], status: str) -> tuple[str, ...]:
    """The sentences of the checks with that status."""
    return tuple(check.message for check in checks if check.status == status)
