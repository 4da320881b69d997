"""Decodes a submission's images in a sandbox, where an image that attacks the decoder does no harm."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from grading.core.bounds import MAX_PIXELS
from grading.core.errors import GradingError
from grading.core.text import printable
from grading.files.decoder import CRASHES, MAX_MESSAGE, Request
from grading.files.images import GradedImage, ImageRefused, ImageTooCostly
from grading.sandbox.run import OUTPUT, SUBMISSION, Limits, RunResult, Sandbox, run_sandboxed
from grading.sandbox.temporary import prefix

DECODE_LIMITS = Limits(seconds=600.0, memory_bytes=2 * 2**30, processes=64)
"""Limits on one sandbox. `Request` has those on processor time, which an image reaches first."""

DECODE = """
import os, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
from grading.files.decoder import decode
decode(*sys.argv[2:])
"""

MAX_BREAKS = 6
"""Sandboxes that a folder's images may break. An image that breaks only its own process does not count."""

Decoded = GradedImage | ImageRefused | str
"""The result of one image. A str is the digest of its pixels."""

ANY = Request(())
"""The usual limits on what reading images may take."""

PROBE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
"""The pixels of our own image, which shows whether the reader works."""


def read_images(
    folder: Path,
    pngs: Sequence[str],
    others: Sequence[str] = (),
    sandbox: Sandbox | None = None,
    limits: Limits = DECODE_LIMITS,
    request: Request = ANY,
) -> dict[str, GradedImage | ImageRefused]:
    """Read images below `folder` in a sandbox of their own, and return the result of each by its path.

    pngs are read by `png_picture`, others by `any_picture`. request: what they may take. An image that breaks the
    reader, or for which too little time or memory is left, is refused as ImageTooCostly. Smaller ones are read first.
    Raises GradingError if the reader fails for another reason than the images: it cannot read our own image, either.
    """
    asked = replace(request, names=[*pngs, *others], others=others)
    found = _Reading(folder, asked, sandbox or Sandbox(), limits).results()
    return {name: each for name, each in found.items() if not isinstance(each, str)}


def read_digests(
    folder: Path,
    names: Sequence[str],
    sizes: Collection[tuple[int, int]],
    sandbox: Sandbox | None = None,
    limits: Limits = DECODE_LIMITS,
    request: Request = ANY,
) -> dict[str, str | ImageRefused]:
    """The `pixel_digest` of images below `folder` that have one of the (width, height) in sizes, by path.

    Images of other sizes are refused by their headers. All else is as in `read_images`, but no pixels are kept.
    """
    asked = replace(request, names=names, others=names, digests=True, sizes=sorted(sizes))
    found = _Reading(folder, asked, sandbox or Sandbox(), limits).results()
    return {name: each for name, each in found.items() if not isinstance(each, GradedImage)}


@dataclass
class _Answer:
    """What one sandbox returned: results by number, the seconds spent, and the image that was being read last."""

    results: dict[int, Decoded] = field(default_factory=dict)
    spent: float = 0.0
    begun: int | None = None
    problem: str = ""


class _Reading:
    """The reading of one folder's images, in one sandbox or, if images break it, in several."""

    def __init__(self, folder: Path, asked: Request, sandbox: Sandbox, limits: Limits) -> None:
        few = {"OMP_NUM_THREADS": "1"}
        self.sandbox = replace(sandbox, python=Path(sys.prefix), visible=(), gpu=False, environment=few)
        self.folder, self.asked, self.limits = folder, asked, limits
        self.found: dict[str, Decoded] = {}
        self.spent, self.deadline = 0.0, time.monotonic() + limits.seconds

    def results(self) -> dict[str, Decoded]:
        """The results of all images, in the request's order. Raises GradingError as `read_images` does."""
        breaks, suspect = 0, ""
        while left := [name for name in self.asked.names if name not in self.found]:
            answer = self.ask(left)
            self.found |= {left[number]: each for number, each in answer.results.items()}
            self.spent = max(self.spent, answer.spent)
            if len(answer.results) == len(left):
                break
            self.check_reader(answer.problem)
            breaks += 1
            culprit = left[answer.begun or 0]
            if culprit == suspect:  # it broke the reader twice
                self.found[culprit] = ImageTooCostly(CRASHES)
            suspect = culprit
            if breaks == MAX_BREAKS:
                reason = ImageTooCostly(f"was not read, because other images break the image reader {breaks} times")
                return {name: self.found.get(name, reason) for name in self.asked.names}
        return {name: self.found[name] for name in self.asked.names}

    def ask(self, names: Sequence[str]) -> _Answer:
        """What a new sandbox answers about these images. Raises GradingError if it gets too little of the processor."""
        taken = sum(each.pixels_u8.nbytes for each in self.found.values() if isinstance(each, GradedImage))
        others = [name for name in names if name in set(self.asked.others)]
        asked = replace(self.asked, names=names, others=others, taken=taken, spent=self.spent)
        limits = replace(self.limits, seconds=max(self.deadline - time.monotonic(), 0.0))
        with tempfile.TemporaryDirectory(prefix=prefix("grade")) as scratch:
            request = Path(scratch, "request.json")
            request.write_text(json.dumps(asdict(asked)))
            request.chmod(0o644)
            package = Path(__file__).parents[1]
            with run_sandboxed(
                [sys.executable, "-I", "-B", "-c", DECODE, "/grader/grading", SUBMISSION, "/request.json", OUTPUT],
                submission=self.folder,
                inputs={"/grader/grading": package, "/request.json": request},
                limits=limits,
                sandbox=self.sandbox,
            ) as run:
                if run.limit == "seconds":
                    raise GradingError(
                        f"the images in {printable(str(self.folder))} were not read within {self.limits.seconds:g} "
                        "seconds, because other processes kept the machine busy; grade fewer submissions at a time"
                    )
                return _answer(run, len(names))

    def check_reader(self, problem: str) -> None:
        """Raises GradingError if the reader cannot read our own image, either. problem: what it did before."""
        with tempfile.TemporaryDirectory(prefix=prefix("grade")) as scratch:
            own = Path(scratch)
            Image.fromarray(PROBE).save(own / "probe.png")
            own.chmod(0o755)
            (own / "probe.png").chmod(0o644)
            probe = _Reading(own, Request(["probe.png"]), self.sandbox, self.limits).ask(["probe.png"])
        image = probe.results.get(0)
        if not isinstance(image, GradedImage) or not np.array_equal(image.pixels_u8, PROBE):
            raise GradingError(
                f"the image reader failed to start or returned invalid data ({probe.problem or problem}); grade again"
            )


def _answer(run: RunResult, count: int) -> _Answer:
    """What a run says about `count` images, up to the first thing that it cannot say.

    An attacker may control the reader, so all data is checked.
    """
    answer = _Answer()
    try:
        index, pixels = _read(run.output, "index"), _read(run.output, "pixels")
        for line in index.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            said = json.loads(line)
            if "begin" in said:
                answer.begun = _number(said["begin"], count)
                continue
            number = _number(said["of"], count)
            answer.results[number] = _result(said, pixels)
            answer.spent, answer.begun = float(said["spent"]), None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        answer.problem = printable(str(error))[:MAX_MESSAGE]
    if len(answer.results) < count:
        answer.problem = run.log.splitlines()[-1] if run.log else answer.problem or "it ended early"
    return answer


def _number(said: Any, count: int) -> int:
    number = int(said)
    if not 0 <= number < count:
        raise ValueError("invalid number of an image")
    return number


def _result(said: dict[str, Any], pixels: bytes) -> Decoded:
    """The result in one line of the reader. Raises one of many exceptions if it is invalid."""
    if "refused" in said:
        kind = ImageTooCostly if said["costly"] else ImageRefused
        return kind(printable(str(said["refused"])[:MAX_MESSAGE]))
    if "digest" in said:
        if not re.fullmatch(r"[0-9a-f]{64}", said["digest"]):
            raise ValueError("invalid digest")
        return str(said["digest"])
    height, width, channels = map(int, said["shape"])
    if min(height, width) < 1 or height * width > MAX_PIXELS or channels != 3:
        raise ValueError("invalid shape")
    pixels_u8 = np.frombuffer(pixels, np.uint8, height * width * channels, _number(said["offset"], len(pixels)))
    return GradedImage(pixels_u8.reshape(height, width, channels), printable(str(said["note"])[:MAX_MESSAGE]))


def _read(folder: int, name: str) -> bytes:
    """Read a regular file of an open folder. Raises OSError or ValueError for anything else."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{name} is not a file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)
