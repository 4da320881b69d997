"""The side of `grading.files.decode` that runs in the sandbox. Images are read in processes that they may break."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from grading.core.bounds import MAX_PIXELS
from grading.files.picture import Bounds, ImageRefused, ImageTooCostly, TooManyPixels, any_picture, png_picture

PASSES = (2**18, 2**22, MAX_PIXELS)
"""Images of at most so many pixels are read first, so that a few large ones cannot use up what all may take."""

MAX_MESSAGE = 200
"""Characters kept of each message of the image reader, which an attacker may control."""

MEMORY_BYTES = 2**30
"""Limit on what reading adds to a process. The largest image needs half of it."""

CLOCK_TICK = 0.1
"""Seconds by which two clocks of processor time may differ."""

CRASHES = "crashes the image reader; expected a plain image"


@dataclass(frozen=True)
class Request:
    """The images to read, by path below a folder, and what reading them may take.

    others: those that `any_picture` reads, not `png_picture`. digests: return the digests of the pixels instead of the
    pixels. sizes: (width, height) of the others that are read; None reads all. picture_seconds, seconds: processor time
    for one image and for all. pixel_bytes: limit on the pixels that are returned. taken, spent: bytes and seconds of
    the images that were read before.
    """

    names: Sequence[str]
    others: Sequence[str] = ()
    digests: bool = False
    sizes: Sequence[tuple[int, int]] | None = None
    picture_seconds: float = 5.0
    seconds: float = 30.0
    pixel_bytes: int = 768 * 2**20
    taken: int = 0
    spent: float = 0.0


def decode(folder: str, request: str, output: str) -> None:
    """Read the images of a request. Write all pixels to one file, and lines about each image to another.

    A line {"begin": N} precedes the reading of image N, and {"of": N, ..} is its result. An image that breaks its
    process or takes too long is refused, and another process continues with the next one.
    """
    asked = Request(**json.loads(Path(request).read_text()))
    reader = _Reader(Path(folder), asked, Path(output))
    for most_pixels in PASSES:
        done = {line["of"] for line in reader.lines() if "of" in line}
        left = [i for i in reader.smallest_first() if i not in done]
        while left:
            status = _in_a_process(partial(reader.read_all, left, most_pixels, reader.spent()))
            if status == 0:
                break
            culprit = reader.refuse_begun(status)
            left = left[left.index(culprit) + 1 :]


class _Reader:
    """Reads the images of one request. Its methods run in the first process, but `read_all` in one of its own."""

    def __init__(self, folder: Path, asked: Request, output: Path) -> None:
        self.folder, self.asked, self.output = folder, asked, output
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self.index, self.pixels = (os.open(output / name, flags, 0o644) for name in ("index", "pixels"))

    def spent(self) -> float:
        """Seconds of processor time of all processes that have ended, and of this one."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return self.asked.spent + time.process_time() + children.ru_utime + children.ru_stime

    def smallest_first(self) -> list[int]:
        """The numbers of all images, those with the smallest files first."""
        sizes: dict[int, int] = {}
        for number, name in enumerate(self.asked.names):
            try:
                sizes[number] = (self.folder / name).lstat().st_size
            except OSError:  # it is refused when it is read
                sizes[number] = 0
        return sorted(sizes, key=lambda number: sizes[number])

    def lines(self) -> Iterator[dict[str, Any]]:
        """All lines that were written until now."""
        with (self.output / "index").open() as index:
            yield from map(json.loads, index)

    def write(self, line: Mapping[str, object]) -> None:
        """Write one line, whole."""
        os.write(self.index, json.dumps(line).encode() + b"\n")

    def refuse(self, number: int, refusal: ImageRefused, spent: float) -> None:
        """Write that an image is refused."""
        costly = isinstance(refusal, ImageTooCostly)
        self.write({"of": number, "spent": spent, "refused": str(refusal)[:MAX_MESSAGE], "costly": costly})

    def refuse_begun(self, status: int) -> int:
        """Refuse the image that ended its process with this status, and return its number.

        Ends this process, too, if no image was being read or the system may have ended the other one, so that the
        sandbox finds out why.
        """
        last = list(self.lines())[-1:]
        if not last or "begin" not in last[0] or status in (1, -signal.SIGKILL):
            os.kill(os.getpid(), signal.SIGKILL)
        culprit, spent = int(last[0]["begin"]), self.spent()
        if status != -signal.SIGPROF:
            refusal = ImageTooCostly(CRASHES)
        elif spent + CLOCK_TICK > self.asked.seconds:
            refusal = self.too_late()
        else:
            limit = f"{self.asked.picture_seconds:g} seconds"
            refusal = ImageTooCostly(f"takes more than {limit} of computing to be read; expected a plain image")
        self.refuse(culprit, refusal, spent)
        return culprit

    def read_all(self, numbers: Sequence[int], most_pixels: int, before: float) -> None:
        """Read the images of these numbers, except those with more pixels, which a later pass reads.

        before: the seconds that were spent before this process began.
        """
        _limit_memory()
        taken = self.asked.taken + sum(math.prod(line["shape"]) for line in self.lines() if "shape" in line)
        for number in numbers:
            left = self.asked.seconds - before - time.process_time()
            if left <= 0:
                self.refuse(number, self.too_late(), self.asked.seconds)
                continue
            self.write({"begin": number})
            signal.setitimer(signal.ITIMER_PROF, min(self.asked.picture_seconds, left))  # ends this process
            try:
                found = self.read(self.asked.names[number], most_pixels, taken)
            except ImageRefused as refusal:
                signal.setitimer(signal.ITIMER_PROF, 0)
                if not isinstance(refusal, TooManyPixels) or most_pixels == PASSES[-1]:
                    self.refuse(number, refusal, before + time.process_time())
            else:
                signal.setitimer(signal.ITIMER_PROF, 0)
                taken += math.prod(found.get("shape", (0,)))
                self.write({"of": number, "spent": before + time.process_time(), **found})

    def read(self, name: str, most_pixels: int, taken: int) -> dict[str, Any]:
        """The line about one image, whose pixels are written. Raises ImageRefused."""
        asked = self.asked
        if taken > asked.pixel_bytes:
            raise ImageTooCostly(
                f"was not read, because the images read before it have {taken} bytes of pixels; the limit is "
                f"{asked.pixel_bytes}"
            )
        if name in self.others:
            picture = any_picture(self.folder, name, Bounds(pixels=most_pixels, sizes=self.sizes))
        else:
            picture = png_picture(self.folder, name, most_pixels=most_pixels)
        if asked.digests:
            return {"digest": picture.digest()}
        with open(self.pixels, "ab", closefd=False) as pixels:
            offset = pixels.tell()
            pixels.write(picture.rgb)
        return {"shape": picture.shape, "offset": offset, "note": picture.note[:MAX_MESSAGE]}

    def too_late(self) -> ImageTooCostly:
        """The refusal of images for which no time is left."""
        limit = f"{self.asked.seconds:g} seconds"
        return ImageTooCostly(f"was not read, because the images together take more than {limit} of computing")

    @cached_property
    def others(self) -> frozenset[str]:
        """The names that `any_picture` reads."""
        return frozenset(self.asked.others)

    @cached_property
    def sizes(self) -> frozenset[tuple[int, int]] | None:
        """The sizes that are read."""
        return None if self.asked.sizes is None else frozenset((w, h) for w, h in self.asked.sizes)


def _in_a_process(work: Callable[[], None]) -> int:
    """Call `work` in a process of its own, and return its exit status: 1 if it raised, -N if signal N ended it."""
    process = os.fork()
    if process == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _limit_memory() -> None:
    """Let this process take MEMORY_BYTES more than it has, and leave no core file when it breaks."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = used + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (wanted if most < 0 else min(wanted, most), most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
