"""Warnings for staff about pictures that were not generated as required. They cost no points and prove nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from grading.core.arrays import ImageU8, pixel_digest
from grading.core.results import Check
from grading.core.text import counted, listed, printable
from grading.problems.metrics import near_pairs

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
        names[pixel_digest(pixels)].append(name)
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
    thumbnails = np.stack([_thumbnail(images[name]).ravel() for name in names])
    count, first = near_pairs(thumbnails, np.array([name[0] for name in names]), NEAR, SHOWN)
    if not count:
        return []
    pairs = [f"{printable(names[i])} and {printable(names[j])}" for i, j in first]
    found = f"{counted(count, 'pair')} of images of different digits {'is' if count == 1 else 'are'}"
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


def copied_pixels(where: str, images: Mapping[str, ImageU8], submitted: Mapping[str, str]) -> list[Check]:
    """A warning if the submission contains pictures with the pixels of outputs, in files of any format.

    submitted: the `pixel_digest` of each of its pictures.
    """
    owners = {digest: name for name, digest in submitted.items()}
    shown = {name: owners.get(pixel_digest(pixels)) for name, pixels in images.items()} if owners else {}
    copied = [f"{printable(name)} shows {printable(owner)}" for name, owner in shown.items() if owner is not None]
    if not copied:
        return []
    some = f"{len(copied)} of {counted(len(images), 'output')}"
    pairs = "; ".join(copied[:SHOWN])
    sentence = f"{where}: the submission contains pictures with the pixels of {some} ({pairs})."
    return [Check(f"{where} copied pictures", "warning", sentence)]


def too_fast(where: str, seconds: float, count: int) -> list[Check]:
    """A warning if `count` images took less time than loading a network and running it once."""
    if count < 100 or seconds >= FEWEST_SECONDS:
        return []
    sentence = f"{where}: {count} images took {seconds:.2f} s, which is less than loading a network takes."
    return [Check(f"{where} too fast", "warning", sentence)]


def _thumbnail(pixels: ImageU8) -> npt.NDArray[np.float32]:
    """(THUMBNAIL, THUMBNAIL, 3): means over equal parts of an image of any size."""
    values: npt.NDArray[Any] = pixels
    for axis in (0, 1):
        edges = np.linspace(0, values.shape[axis], THUMBNAIL + 1)[:-1].astype(int)
        ends = np.maximum(np.append(edges[1:], values.shape[axis]), edges + 1)
        parts = [values.take(range(edge, end), axis) for edge, end in zip(edges, ends, strict=True)]
        values = np.stack([part.mean(axis, dtype=np.float64).astype(np.float32) for part in parts], axis)
    return values
