"""Warnings for staff about pictures that were not generated as required. They cost no points and prove nothing."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from grading.core.arrays import ImageU8
from grading.core.results import Check
from grading.core.text import counted, listed, printable

FEWEST_SECONDS = 1.0
"""Importing PyTorch alone takes longer than this, even before a network generates 1000 digits."""

MANY, THUMBNAIL, NEAR = 3, 16, 4.0
"""MANY equal images cause a warning. Two images are near-duplicates if their thumbnails of THUMBNAIL pixels a side
differ by less than NEAR of 255, root mean square. Noise of that strength is hardly visible."""

SHOWN = 3


def repeated_images(where: str, images: Mapping[str, ImageU8]) -> list[Check]:
    """A warning if at least MANY of the images (by name) have exactly the same pixels."""
    names = defaultdict(list)
    for name, pixels in images.items():
        names[_digest(pixels)].append(name)
    repeated = sorted((each for each in names.values() if len(each) >= MANY), key=len, reverse=True)
    if not repeated:
        return []
    count = sum(map(len, repeated))
    pictures = "one picture" if len(repeated) == 1 else f"{len(repeated)} pictures"
    shown = listed(repeated[0], SHOWN)
    sentence = f"{where}: {count} of {counted(len(images), 'image')} are copies of {pictures} ({shown})."
    return [Check(f"{where} repeated", "warning", sentence)]


def near_duplicates_across_digits(where: str, images: Mapping[str, ImageU8]) -> list[Check]:
    """A warning if images of different digits, by the first character of their names, are nearly identical."""
    names = list(images)
    if len(names) < 2:
        return []
    thumbnails = np.stack([_thumbnail(images[name]) for name in names]).reshape(len(names), -1)
    squares = (thumbnails**2).sum(axis=1)
    distances = squares[:, None] + squares[None] - 2 * thumbnails @ thumbnails.T
    near = np.sqrt(np.maximum(distances, 0) / thumbnails.shape[1]) < NEAR
    labels = np.array([name[0] for name in names])
    rows, columns = np.nonzero(np.triu(near & (labels[:, None] != labels[None])))
    if len(rows) == 0:
        return []
    pairs = [f"{printable(names[i])} and {printable(names[j])}" for i, j in zip(rows[:SHOWN], columns, strict=False)]
    found = f"{counted(len(rows), 'pair')} of images of different digits {'is' if len(rows) == 1 else 'are'}"
    sentence = f"{where}: {found} nearly identical ({'; '.join(pairs)})."
    return [Check(f"{where} near-duplicates", "warning", sentence)]


def copied_files(
    where: str, outputs: Mapping[str, str], submitted: Mapping[str, str], truth: Mapping[str, str]
) -> list[Check]:
    """Warnings if the submission contains outputs or ground truth as files. All three: name -> SHA-256."""
    owners = {digest: name for name, digest in submitted.items()}
    found = []
    if copied := [name for name, digest in outputs.items() if digest in owners]:
        pairs = [f"{printable(name)} is {printable(owners[outputs[name]])}" for name in copied[:SHOWN]]
        some = f"{len(copied)} of {counted(len(outputs), 'output')}"
        sentence = f"{where}: the submission contains exact copies of {some} ({'; '.join(pairs)})."
        found.append(Check(f"{where} copied", "warning", sentence))
    if known := [name for name, digest in truth.items() if digest in owners]:
        pairs = [f"{printable(owners[truth[name]])} is {printable(name)}" for name in known[:SHOWN]]
        files = counted(len(known), "file")
        sentence = f"{where}: the submission contains {files} of the ground truth ({'; '.join(pairs)})."
        found.append(Check(f"{where} truth", "warning", sentence))
    return found


def copied_pixels(where: str, images: Mapping[str, ImageU8], submitted: Mapping[str, ImageU8]) -> list[Check]:
    """A warning if the submission contains pictures with the pixels of outputs, in files of any format."""
    owners = {_digest(pixels): name for name, pixels in submitted.items()}
    copied = [name for name, pixels in images.items() if _digest(pixels) in owners]
    if not copied:
        return []
    pairs = [f"{printable(name)} shows {printable(owners[_digest(images[name])])}" for name in copied[:SHOWN]]
    some = f"{len(copied)} of {counted(len(images), 'output')}"
    sentence = f"{where}: the submission contains pictures with the pixels of {some} ({'; '.join(pairs)})."
    return [Check(f"{where} copied pictures", "warning", sentence)]


def too_fast(where: str, seconds: float, count: int) -> list[Check]:
    """A warning if `count` images took less time than loading a network and running it once."""
    if count < 100 or seconds >= FEWEST_SECONDS:
        return []
    sentence = f"{where}: {count} images took {seconds:.2f} s, which is less than loading a network takes."
    return [Check(f"{where} too fast", "warning", sentence)]


def _digest(pixels: ImageU8) -> str:
    return hashlib.sha256(f"{pixels.shape}".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _thumbnail(pixels: ImageU8) -> npt.NDArray[np.float32]:
    """(THUMBNAIL, THUMBNAIL, 3): means over equal parts of an image of any size."""
    values = pixels.astype(np.float32)
    for axis in (0, 1):
        edges = np.linspace(0, values.shape[axis], THUMBNAIL + 1)[:-1].astype(int)
        ends = np.maximum(np.append(edges[1:], values.shape[axis]), edges + 1)
        sums = np.concatenate([np.zeros_like(values.take([0], axis)), values.cumsum(axis, dtype=np.float64)], axis)
        counts = (ends - edges).reshape([-1 if a == axis else 1 for a in range(3)])
        values = ((sums.take(ends, axis) - sums.take(edges, axis)) / counts).astype(np.float32)
    return values
