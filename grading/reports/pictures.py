"""Small versions of a submission's pictures for its pages.

This module never opens a student's file. The caller passes pixels that were decoded elsewhere.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw

from grading.core.arrays import ImageU8
from grading.core.results import AMPLIFICATION, Frame, ProblemResult, SubmissionResult
from grading.core.text import counted

OutputReader = Callable[[str], ImageU8 | None]
"""Path below the submission's outputs -> (H, W, 3); None if the image is missing or could not be read."""

ExpectedReader = Callable[[ProblemResult, str], ImageU8 | None]
"""Result, path below its part's data -> (H, W, 3); None if the image is missing or could not be read."""

GAP = 2
"""Pixels between two images of a grid."""


@dataclass(frozen=True)
class Picture:
    """One picture on a page. uri: a data: URI, empty if there is no picture. width, height: in pixels."""

    uri: str
    alt: str
    width: int
    height: int


Pictures = Mapping[tuple[str, Frame], Picture]
"""(the result's folder, frame) -> its picture."""


def make_pictures(result: SubmissionResult, output: OutputReader, expected: ExpectedReader) -> Pictures:
    """The picture of every frame of a submission's results."""
    return {
        (each.folder, frame): _rendered(each, frame, output, expected)
        for each in result.results
        for card in each.cards
        for frame in card.frames
    }


def _rendered(result: ProblemResult, frame: Frame, output: OutputReader, expected: ExpectedReader) -> Picture:
    def read(path: str) -> ImageU8 | None:
        return expected(result, path) if frame.source == "expected" else output(f"{result.folder}/{path}")

    if len(frame.images) != 1 or len(frame.images[0]) != 1:
        return _grid(frame, read)
    pixels = read(frame.images[0][0])
    if frame.source == "difference":
        pixels = _difference(pixels, expected(result, frame.against))
    return _single(pixels, frame)


def _difference(pixels: ImageU8 | None, reference: ImageU8 | None) -> ImageU8 | None:
    """The absolute difference times AMPLIFICATION; None if one image is missing or the sizes differ."""
    if pixels is None or reference is None or pixels.shape != reference.shape:
        return None
    apart = np.abs(pixels.astype(np.int16) - reference) * AMPLIFICATION
    bright: ImageU8 = apart.clip(0, 255).astype(np.uint8)
    return bright


def _single(pixels: ImageU8 | None, frame: Frame) -> Picture:
    if pixels is None:
        return Picture("", f"{frame.alt}: this image is missing or could not be read.", frame.size, frame.size)
    alt = frame.alt if frame.alt.endswith(".") else f"{frame.alt}."
    return _picture(_shrunk(pixels, frame.size), alt, quality=85, subsampling=2)


def _grid(frame: Frame, read: OutputReader) -> Picture:
    """All images of a frame in rows, each in a square of the frame's size. Missing ones are crossed squares."""
    tile = frame.size + GAP
    width, height = max((len(row) for row in frame.images), default=0), len(frame.images)
    canvas = Image.new("RGB", (max(width * tile - GAP, 1), max(height * tile - GAP, 1)), "white")
    absent = 0
    for i, row in enumerate(frame.images):
        for j, path in enumerate(row):
            pixels = read(path)
            absent += pixels is None
            image = _absent_tile(frame.size) if pixels is None else _shrunk(pixels, frame.size)
            canvas.paste(image, (j * tile, i * tile))
    alt = frame.alt
    if absent:
        alt += f" {counted(absent, 'image')} {'is' if absent == 1 else 'are'} missing or could not be read."
    # By default JPEG halves the resolution of colours, which spoils small images.
    return _picture(canvas, alt, quality=90, subsampling=0)


def _absent_tile(size: int) -> Image.Image:
    tile = Image.new("RGB", (size, size), (225, 225, 225))
    draw = ImageDraw.Draw(tile)
    draw.line((0, 0, size - 1, size - 1), (170, 170, 170))
    draw.line((0, size - 1, size - 1, 0), (170, 170, 170))
    return tile


def _shrunk(pixels: ImageU8, size: int) -> Image.Image:
    """The image with its longest side reduced to `size`. Smaller images keep their size."""
    image = Image.fromarray(pixels)
    scale = size / max(image.size)
    if scale >= 1:
        return image
    return image.resize((max(round(image.width * scale), 1), max(round(image.height * scale), 1)), Image.Resampling.BOX)


def _picture(image: Image.Image, alt: str, quality: int, subsampling: int) -> Picture:
    """The image as JPEG. For generated images it takes a fifth of the bytes of PNG."""
    buffer = BytesIO()
    # optimize is off, because PIL's buffer for it is too small for noise.
    image.save(buffer, format="JPEG", quality=quality, subsampling=subsampling)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Picture(uri, alt, image.width, image.height)
