"""Decodes a submission's images in a sandbox, where an image that attacks the decoder does no harm."""

from __future__ import annotations

import json
import os
import stat
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from grading.core.bounds import MAX_PIXELS
from grading.core.errors import GradingError
from grading.core.text import counted, printable
from grading.files.images import GradedImage, ImageRefused, read_image, read_png
from grading.sandbox.run import OUTPUT, SUBMISSION, Limits, RunResult, Sandbox, run_sandboxed
from grading.sandbox.temporary import prefix

DECODE_LIMITS = Limits(seconds=120.0, memory_bytes=2 * 2**30, processes=64)

DECODE = """
import os, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
from grading.files.decode import decode
decode(*sys.argv[2:])
"""

MAX_CRASHES = 5
"""Images of one folder that may crash the image reader. With more, the reader itself is at fault."""

MAX_DECODED_BYTES = 768 * 2**20
"""Limit on the pixel bytes of one folder's images. The homework's have 75 MiB; the sandbox's memory fits more."""

MAX_MESSAGE = 200
"""Characters kept of each message of the image reader, which an attacker may control."""


def read_images(
    folder: Path,
    pngs: Sequence[str],
    others: Sequence[str] = (),
    sandbox: Sandbox | None = None,
    limits: Limits = DECODE_LIMITS,
) -> dict[str, GradedImage | ImageRefused]:
    """Read images below `folder` in a sandbox of their own, and return the result of each by its path.

    pngs are read by `read_png`, others by `read_image`. One process reads all of them. An image that crashes it is
    refused, and a new process continues after it. Images after the first MAX_DECODED_BYTES of pixels are refused.
    Raises GradingError if the reader fails for another reason than the images.
    """
    few = {"OMP_NUM_THREADS": "1"}
    sandbox = replace(sandbox or Sandbox(), python=Path(sys.prefix), visible=(), gpu=False, environment=few)
    results: dict[str, GradedImage | ImageRefused] = {}
    crashes = 0
    names = [*pngs, *others]
    while left := [name for name in names if name not in results]:
        if crashes > MAX_CRASHES:
            raise GradingError(
                f"the image reader crashed {counted(crashes, 'time')} on the images in {printable(str(folder))}; check "
                "that the machine has memory and disk space left, and grade again"
            )
        with tempfile.TemporaryDirectory(prefix=prefix("grade")) as scratch:
            request = Path(scratch, "request.json")
            taken = sum(map(_size, results.values()))
            request.write_text(json.dumps({"names": left, "others": list(others), "taken": taken}))
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
            crashes += 1
            results[culprit] = ImageRefused("crashes the image reader; expected a plain image")
    return results


def _size(image: GradedImage | ImageRefused) -> int:
    return image.pixels_u8.nbytes if isinstance(image, GradedImage) else 0


def decode(folder: str, request: str, output: str) -> None:
    """Run in the sandbox for `read_images`. Write all pixels to one file, and one line for each image to another."""
    asked = json.loads(Path(request).read_text())
    taken, others = int(asked["taken"]), set(asked["others"])
    with Path(output, "pixels").open("wb") as pixels, Path(output, "index").open("w", buffering=1) as index:
        index.write(json.dumps("ready") + "\n")
        for name in asked["names"]:
            try:
                if taken > MAX_DECODED_BYTES:
                    raise ImageRefused(
                        f"was not read, because the images before it have {taken} bytes of pixels; the limit is "
                        f"{MAX_DECODED_BYTES}"
                    )
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
    """The results of all names, or of the first ones. An attacker may control the reader, so all data is checked."""
    results: dict[str, GradedImage | ImageRefused] = {}
    try:
        index, pixels, position = _read(run.output, "index"), _read(run.output, "pixels"), 0
        _ready, *lines = [json.loads(line) for line in index.splitlines(keepends=True) if line.endswith(b"\n")]
        for name, line in zip(names, lines, strict=False):
            if "refused" in line:
                results[name] = ImageRefused(printable(str(line["refused"])[:MAX_MESSAGE]))
                continue
            height, width, channels = map(int, line["shape"])
            if min(height, width) < 1 or height * width > MAX_PIXELS or channels != 3:
                raise ValueError("invalid shape")
            count = height * width * channels
            pixels_u8 = np.frombuffer(pixels, np.uint8, count, position).reshape(height, width, channels)
            results[name] = GradedImage(pixels_u8, printable(str(line["note"])[:MAX_MESSAGE]))
            position += count
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        reason = run.log.splitlines()[-1] if run.log else printable(str(error))[:MAX_MESSAGE]
        raise GradingError(
            f"the image reader failed to start or returned invalid data ({reason}); grade again"
        ) from None
    return results


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
