"""The pictures of one grading: outputs, expected outputs, and the submission's own pictures."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from grading.core.arrays import ImageU8
from grading.core.errors import GradingError
from grading.core.results import Check, ProblemResult, StageResult
from grading.core.text import counted, printable
from grading.files.decode import read_digests, read_images
from grading.files.images import DecodedImages, GradedImage, ImageRefused, ImageTooCostly, read_png
from grading.files.layout import files_below
from grading.files.take import SUBMISSION_CAPS
from grading.problems.problem import Evidence
from grading.sandbox.run import Sandbox
from grading.submission.assignment import PlannedRun
from grading.submission.provenance import data_hashes

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")

MAX_OWN_PICTURES = 20_000
"""Limit on the pictures of a submission that are compared with its outputs."""

SHOWN = 3
"""Pictures that a warning names."""


class Pictures:
    """Reads pictures below `outputs` and `submission` in a sandbox. Each is read once, when it is first needed."""

    def __init__(self, outputs: Path, submission: Path, runs: Sequence[PlannedRun], sandbox: Sandbox) -> None:
        self.outputs, self.submission, self.runs, self.sandbox = outputs, submission, runs, sandbox

    @functools.cached_property
    def decoded(self) -> dict[str, GradedImage | ImageRefused]:
        """All outputs, read in one sandbox, by path below `outputs`."""
        names: dict[bool, list[str]] = {True: [], False: []}
        for run in self.runs:
            found = sorted((self.outputs / run.folder).rglob("*"))
            names[run.problem.png_only] += [str(path.relative_to(self.outputs)) for path in found if _is_picture(path)]
        return read_images(self.outputs, names[True], names[False], self.sandbox)

    @property
    def reader(self) -> DecodedImages:
        """An image reader for `outputs` that returns the decoded images."""
        return DecodedImages(self.outputs, self.decoded)

    def output(self, path: str) -> ImageU8 | None:
        """(H, W, 3) of a picture below `outputs`, None if it is missing or could not be read."""
        try:
            return self.reader.read_image(self.outputs, path)
        except (ImageRefused, GradingError):
            return None

    def expected(self, result: ProblemResult, path: str) -> ImageU8 | None:
        """The picture below a part's data that an output is compared with."""
        root = next(run.root for run in self.runs if run.folder == result.folder)
        try:
            return read_png((root / path).parent, Path(path).name).pixels_u8
        except ImageRefused:
            return None

    @functools.cached_property
    def own(self) -> dict[str, str | ImageRefused]:
        """The digests of the pictures in the submission, including its downloads, that have the size of an output."""
        files = files_below(self.submission, SUBMISSION_CAPS.depth, SUBMISSION_CAPS.entries)
        names = sorted((name for name in files if name.lower().endswith(PICTURES)), key=self._bytes_of)
        shapes = {each.pixels_u8.shape for each in self.decoded.values() if isinstance(each, GradedImage)}
        sizes = {(width, height) for height, width, _ in shapes}
        found = read_digests(self.submission, names[:MAX_OWN_PICTURES] if sizes else (), sizes, self.sandbox)
        too_many = ImageTooCostly(f"was not read, because there are more than {MAX_OWN_PICTURES} pictures")
        return found | dict.fromkeys(names[MAX_OWN_PICTURES:] if sizes else (), too_many)

    def _bytes_of(self, name: str) -> int:
        try:
            return (self.submission / name).lstat().st_size
        except OSError:
            return 0

    def not_compared(self) -> list[Check]:
        """A warning if pictures in the submission were not compared with its outputs."""
        try:
            costly = {name: str(each) for name, each in self.own.items() if isinstance(each, ImageTooCostly)}
        except GradingError:
            return []  # the warnings of each run say so
        if not costly:
            return []
        shown = "; ".join(f"{printable(name)} {reason}" for name, reason in list(costly.items())[:SHOWN])
        found = f"{counted(len(costly), 'picture')} in the submission {'was' if len(costly) == 1 else 'were'}"
        sentence = f"{found} not compared with its outputs ({shown})."
        return [Check("pictures not compared", "warning", sentence)]

    def evidence(self, run: PlannedRun, stage: StageResult, submitted: Mapping[str, str]) -> Evidence:
        """The evidence of one run, for `Problem.suspicions`. submitted: SHA-256 of the submission's files."""
        prefix = f"{run.folder}/"
        images = {
            name.removeprefix(prefix): image.pixels_u8
            for name, image in self.decoded.items()
            if name.startswith(prefix) and isinstance(image, GradedImage)
        }
        own = {name: digest for name, digest in self.own.items() if isinstance(digest, str)}
        return Evidence(run.name, stage.seconds, images, stage.files, submitted, expected_hashes(run), own)


def expected_hashes(run: PlannedRun) -> dict[str, str]:
    """SHA-256 of the PNG files that a run is compared with. Raises GradingError if one cannot be read."""
    folder = run.expected
    if folder is None:
        return {}
    return data_hashes({f"{folder.name}/{path.name}": path for path in sorted(folder.glob("*.png"))})


def _is_picture(path: Path) -> bool:
    return path.name.lower().endswith(PICTURES) and not path.is_dir()
