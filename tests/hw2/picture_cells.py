"""Read the images of a report's picture back from its PNG file."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from hw2.figures import CELL, GAP, LABEL_HEIGHT, LABEL_WIDTH, TITLE_HEIGHT

Pixels = npt.NDArray[np.uint8]


def pixels_of(png: bytes) -> Pixels:
    """The pixels (H, W, 3) of a PNG file's content."""
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"))


def cell(picture: Pixels, row: int, column: int, size: int) -> Pixels:
    """The image (size, size, 3) in one cell of a picture, reduced to its own size."""
    scale = max(1, CELL // size)
    top = TITLE_HEIGHT + LABEL_HEIGHT + row * (size * scale + GAP)
    left = LABEL_WIDTH + column * (size * scale + GAP)
    return picture[top : top + size * scale : scale, left : left + size * scale : scale]
