"""Pictures as arrays, read from files or decoded elsewhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from grading.core.bounds import MAX_PIXELS
from grading.files.picture import (
    GRADED,
    STAFF,
    Bounds,
    ImageRefused,
    ImageTooCostly,
    Picture,
    any_picture,
    check_ratio,
    check_size,
    png_picture,
)

__all__ = [
    "STAFF", "DecodedImages", "GradedImage", "ImageRefused", "ImageTooCostly", "PngReader", "read_image",
    "read_png",
]  # fmt: skip


@dataclass(frozen=True)
class GradedImage:
    """An image to grade. pixels_u8: (H, W, 3). note: what was converted, continuing "NAME ..."; empty if nothing."""

    pixels_u8: npt.NDArray[np.uint8]
    note: str = ""


class PngReader(Protocol):
    """`read_png`, or a replacement such as `DecodedImages.read_png`."""

    def __call__(self, folder: Path, name: str, size: tuple[int, int] | None = None) -> GradedImage:
        """See `read_png`."""


def followed(path: Path) -> Path:
    """Where the links of a path lead, for files of staff. Raises ImageRefused for a link that leads back to itself."""
    found = Path(os.path.realpath(path))
    if found.is_symlink():  # Path.resolve raises an error for it, or from Python 3.13 on does not
        raise ImageRefused("is a link to itself")
    return found


def read_png(
    folder: Path, name: str, size: tuple[int, int] | None = None, most_pixels: int = MAX_PIXELS
) -> GradedImage:
    """`png_picture` as an array. Raises ImageRefused as it does."""
    picture = png_picture(folder, name, size, most_pixels)
    return GradedImage(_pixels(picture), picture.note)


def read_image(folder: Path, name: str, bounds: Bounds = GRADED) -> npt.NDArray[np.uint8]:
    """`any_picture` as an array (H, W, 3). Raises ImageRefused as it does."""
    return _pixels(any_picture(folder, name, bounds))


def _pixels(picture: Picture) -> npt.NDArray[np.uint8]:
    return np.frombuffer(picture.rgb, np.uint8).reshape(picture.shape)


class DecodedImages:
    """Replaces `read_png` and `read_image` for images that were decoded elsewhere.

    decoded: the result of each image, by its path below `root`.
    """

    def __init__(self, root: Path, decoded: Mapping[str, GradedImage | ImageRefused]) -> None:
        self.root, self.decoded = root, decoded

    def read_png(self, folder: Path, name: str, size: tuple[int, int] | None = None) -> GradedImage:
        """See `read_png`. Raises ImageRefused for an image that was refused or not decoded."""
        path = str((folder / name).relative_to(self.root))
        found = self.decoded.get(path, ImageRefused("was not collected; expected a plain file"))
        if isinstance(found, ImageRefused):
            raise found
        height, width, _ = found.pixels_u8.shape
        check_size((width, height), size)
        return found

    def read_image(self, folder: Path, name: str) -> npt.NDArray[np.uint8]:
        """See `read_image`. Raises ImageRefused for an image that was refused or not decoded."""
        pixels_u8 = self.read_png(folder, name).pixels_u8
        check_ratio(pixels_u8.shape[1], pixels_u8.shape[0])
        return pixels_u8
