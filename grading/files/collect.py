"""Takes files over from a hostile folder, and has images decoded where a broken decoder does no harm."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from grading.core.errors import GradingError
from grading.core.spec import MAX_FILE_BYTES, MAX_PIXELS
from grading.core.text import printable
from grading.sandbox.run import OUTPUT, SUBMISSION, Limits, RunResult, Sandbox, run_sandboxed

if TYPE_CHECKING:
    from grading.files.images import GradedImage, ImageRefused

DECODE_LIMITS = Limits(seconds=120.0, memory_bytes=2 * 2**30, processes=64)

DECODE = """
import os, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
from grading.files.collect import decode
decode(*sys.argv[2:])
"""

MAX_BROKEN = 5
"""So many images may break the image reader; then something else is wrong."""

MAX_DECODED_BYTES = 768 * 2**20
"""Of pixels, of one run; the homework's own have 75 MiB. Less than what the sandbox has room for."""

MAX_SENTENCES = 100
"""So many refusals are told one by one."""


@dataclass(frozen=True)
class Caps:
    """What is taken at most, known before a file is read. depth: of folders. links: take them, as links, unfollowed."""

    entries: int = 20_000
    file_bytes: int = MAX_FILE_BYTES
    total_bytes: int = 2**30
    depth: int = 4
    links: bool = False


@dataclass
class Collected:
    """files: sha256 by path, in a fixed order. refused: what was not taken, a sentence each."""

    files: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


def collect_folder(source: int | Path, into: Path | None, caps: Caps | None = None) -> Collected:
    """Copy the regular files below an open folder into a new one; with `into` None, only hash them.

    Nothing may be running in the source any more. Refused, each with its sentence: links, pipes, sockets, devices,
    files of several names, names that cannot be shown, and what is larger or deeper than `caps`; with too many entries
    or bytes, all of them. Raises GradingError if the copies cannot be written.
    """
    collector = _Collector(into, caps or Caps())
    if isinstance(source, int):
        descriptor = os.dup(source)
    else:
        try:
            descriptor = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise GradingError(f"{printable(str(source))} cannot be opened ({error.strerror})") from None
    try:
        if into:
            into.mkdir(parents=True)
        collector.folder(descriptor, "")
    except _TooMuchError as error:
        if into:
            shutil.rmtree(into)
            into.mkdir()
        collector.done = Collected(refused=[str(error)])
    except OSError as error:
        raise GradingError(f"{printable(str(error.filename or into))} cannot be written ({error.strerror})") from None
    finally:
        os.close(descriptor)
    return collector.done


class _TooMuchError(Exception):
    """The message is the whole sentence."""


class _Refused(Exception):  # noqa: N818 - a verdict on the entry, not an error of ours
    """The message continues the sentence "NAME ..."."""


class _Collector:
    def __init__(self, into: Path | None, caps: Caps) -> None:
        self.into, self.caps, self.done = into, caps, Collected()
        self.entries = self.bytes = self.untold = 0

    def folder(self, descriptor: int, prefix: str, depth: int = 1) -> None:
        with os.scandir(descriptor) as listing:
            names = sorted(e.name for e in itertools.islice(listing, self.caps.entries - self.entries + 1))
        self.entries += len(names)
        if self.entries > self.caps.entries:
            raise _TooMuchError(f"There are more than {self.caps.entries} files and folders; nothing was taken.")
        for name in names:
            path = prefix + name
            try:
                self.entry(descriptor, name, path, depth)
            except _Refused as refusal:
                self.refuse(f"{printable(path)} {refusal}.")

    def entry(self, folder: int, name: str, path: str, depth: int) -> None:
        if not name.isprintable():
            raise _Refused("has a name with characters that cannot be shown; expected plain letters and digits")
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            raise _Refused(f"cannot be opened ({error.strerror})") from None
        if stat.S_ISLNK(status.st_mode):
            if not self.caps.links:
                raise _Refused("is a link; expected the file itself")
            self.link(path, os.readlink(name, dir_fd=folder))
        elif stat.S_ISDIR(status.st_mode):
            if depth > self.caps.depth:
                raise _Refused(f"is a folder in a folder, {depth} deep; at most {self.caps.depth} are looked into")
            descriptor = _open(name, folder, os.O_DIRECTORY)
            try:
                if self.into:
                    (self.into / path).mkdir()
                    (self.into / path).chmod(0o755)
                self.folder(descriptor, f"{path}/", depth + 1)
            finally:
                os.close(descriptor)
        elif not stat.S_ISREG(status.st_mode):
            raise _Refused("is a pipe, socket or device; expected a file")
        else:
            self.file(folder, name, path)

    def link(self, path: str, target: str) -> None:
        if self.into:
            (self.into / path).symlink_to(target)
        self.done.files[path] = hashlib.sha256(b"link to " + os.fsencode(target)).hexdigest()

    def file(self, folder: int, name: str, path: str) -> None:
        descriptor = _open(name, folder, os.O_NONBLOCK)  # what has become a pipe in the meantime must not block
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _Refused("is a pipe, socket or device; expected a file")
            if status.st_nlink > 1 and not self.caps.links:
                raise _Refused(f"is one of {status.st_nlink} names of a file (a hard link); expected a file of its own")
            if status.st_size > self.caps.file_bytes:
                raise _Refused(f"has {status.st_size} bytes; at most {self.caps.file_bytes} are read")
            self.bytes += status.st_size
            if self.bytes > self.caps.total_bytes:
                raise _TooMuchError(f"The files have more than {self.caps.total_bytes} bytes; nothing was taken.")
            digest, left = hashlib.sha256(), status.st_size
            with self.copy(path, executable=bool(status.st_mode & 0o100)) as copy:
                while left > 0 and (piece := file.read(min(left, 2**20))):
                    copy.write(piece)
                    digest.update(piece)
                    left -= len(piece)
        self.done.files[path] = digest.hexdigest()

    def copy(self, path: str, executable: bool) -> BinaryIO:
        if self.into is None:
            return Path(os.devnull).open("wb")
        copy = (self.into / path).open("xb")
        os.fchmod(copy.fileno(), 0o755 if executable else 0o644)
        return copy

    def refuse(self, sentence: str) -> None:
        if len(self.done.refused) < MAX_SENTENCES:
            self.done.refused.append(sentence)
            return
        self.untold += 1
        self.done.refused[MAX_SENTENCES:] = [f"{self.untold} more were refused."]


def _open(name: str, folder: int, flags: int) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=folder)
    except OSError as error:
        raise _Refused(f"cannot be opened ({error.strerror})") from None


def read_images(
    folder: Path,
    pngs: Sequence[str],
    others: Sequence[str] = (),
    sandbox: Sandbox | None = None,
    limits: Limits = DECODE_LIMITS,
) -> dict[str, GradedImage | ImageRefused]:
    """What `grading.files.images` says of each path below `folder`, from a sandbox of its own.

    pngs are read by `read_png`, others by `read_image`.
    One process reads all of them; an image that breaks it is refused, and the next process goes on behind it. Images
    beyond MAX_DECODED_BYTES of pixels in all are refused.
    Raises GradingError if images are not what breaks it.
    """
    from grading.files.images import ImageRefused

    sandbox = replace(sandbox or Sandbox(), python=Path(sys.prefix), gpu=False, environment={"OMP_NUM_THREADS": "1"})
    results: dict[str, GradedImage | ImageRefused] = {}
    broken = 0
    names = [*pngs, *others]
    while left := [name for name in names if name not in results]:
        if broken > MAX_BROKEN:
            raise GradingError(f"the images in {printable(str(folder))} break the image reader again and again")
        with tempfile.TemporaryDirectory(prefix="hw2-grade-") as scratch:
            request = Path(scratch, "request.json")
            request.write_text(
                json.dumps({"names": left, "others": list(others), "taken": sum(map(_size, results.values()))})
            )
            request.chmod(0o644)
            package = Path(__file__).parents[1]
            with run_sandboxed(
                [sys.executable, "-I", "-B", "-c", DECODE, "/grader/grading", SUBMISSION, "/request.json", OUTPUT],
                submission=folder,
                inputs={"/grader/grading": package, "/request.json": request},
                limits=limits,
                sandbox=sandbox,
            ) as run:
                results |= _decoded(run, left)
        culprit = next((name for name in left if name not in results), None)
        if culprit is not None:
            broken += 1
            results[culprit] = ImageRefused("breaks the image reader; expected a plain PNG image")
    return results


def _size(image: GradedImage | ImageRefused) -> int:
    pixels = getattr(image, "pixels_u8", None)
    return 0 if pixels is None else int(pixels.nbytes)


def decode(folder: str, request: str, output: str) -> None:
    """The part of `read_images` that runs in the sandbox: pixels one after the other, and a line about each image."""
    from grading.files.images import GradedImage, ImageRefused, read_image, read_png

    asked = json.loads(Path(request).read_text())
    taken, others = int(asked["taken"]), set(asked["others"])
    with Path(output, "pixels").open("wb") as pixels, Path(output, "index").open("w", buffering=1) as index:
        index.write(json.dumps("ready") + "\n")
        for name in asked["names"]:
            try:
                if taken > MAX_DECODED_BYTES:
                    raise ImageRefused(f"is not read any more: the images before it have {taken} bytes of pixels")
                where = Path(folder)
                image = GradedImage(read_image(where, name)) if name in others else read_png(where, name)
            except ImageRefused as refusal:
                line: dict[str, object] = {"refused": str(refusal)}
            else:
                taken += image.pixels_u8.nbytes
                pixels.write(image.pixels_u8.tobytes())
                pixels.flush()
                line = {"shape": image.pixels_u8.shape, "note": image.note}
            index.write(json.dumps(line) + "\n")


def _decoded(run: RunResult, names: Sequence[str]) -> dict[str, GradedImage | ImageRefused]:
    """What the process says of the first names, all or some. A broken decoder may write anything: it is checked."""
    import numpy as np

    from grading.files.images import GradedImage, ImageRefused

    results: dict[str, GradedImage | ImageRefused] = {}
    try:
        index, pixels, position = _read(run.output, "index"), _read(run.output, "pixels"), 0
        _ready, *lines = [json.loads(line) for line in index.splitlines(keepends=True) if line.endswith(b"\n")]
        for name, line in zip(names, lines, strict=False):
            if "refused" in line:
                results[name] = ImageRefused(str(line["refused"])[:200])
                continue
            height, width, channels = map(int, line["shape"])
            if min(height, width) < 1 or height * width > MAX_PIXELS or channels != 3:
                raise ValueError("an impossible shape")
            count = height * width * channels
            pixels_u8 = np.frombuffer(pixels, np.uint8, count, position).reshape(height, width, channels)
            results[name] = GradedImage(pixels_u8, str(line["note"])[:200])
            position += count
    except (_Refused, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = run.log.splitlines()[-1] if run.log else error
        raise GradingError(f"the image reader did not start or spoke nonsense ({reason}); grade again") from None
    return results


def _read(folder: int, name: str) -> bytes:
    with os.fdopen(_open(name, folder, os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _Refused("is no file")
        return file.read()
