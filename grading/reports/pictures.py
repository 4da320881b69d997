"""The pictures of a submission that staff want to see, made small enough for a page.

Nothing here opens a student's file: whoever calls hands in pixels that were decoded elsewhere.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw

from grading.core.arrays import ImageU8
from grading.core.results import ConceptsResult, FacesResult, SubmissionResult
from grading.core.spec import DATASETS, DIGITS_SIZE
from grading.core.text import printable

Reader = Callable[[str], ImageU8 | None]
"""path -> (H, W, 3), None for what is not there or could not be read."""

GRID_COLUMNS = 10
"""Of each digit's fifty images the first ten are shown."""

GAP = 2
FACE_SIZE, CONCEPT_SIZE = 192, 224
"""Longest side in pixels, about twice of what a phone shows."""

AMPLIFICATION = 8
"""Differences of faces are multiplied by this, so that one of 32 levels of 255 is as bright as can be."""

DATASET_NAMES = {"mnistm": "MNIST-M", "svhn": "SVHN"}


@dataclass(frozen=True)
class Picture:
    """One picture in a page. uri: a data: URI, empty for a picture that is not there. width, height: of its pixels."""

    uri: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class FaceRow:
    """A face beside its ground truth. difference: absolute, times AMPLIFICATION."""

    name: str
    face: Picture
    truth: Picture
    difference: Picture


@dataclass(frozen=True)
class Pictures:
    """digits: a grid by data set. faces: rows by part ("public", "private"). concepts: part -> prompt -> pictures of
    the selected images, in the order of `PromptScore.selected`.
    """

    digits: dict[str, Picture] = field(default_factory=dict)
    faces: dict[str, list[FaceRow]] = field(default_factory=dict)
    concepts: dict[str, dict[str, list[Picture]]] = field(default_factory=dict)


def make_pictures(result: SubmissionResult, read: Reader, read_truth: Reader) -> Pictures:
    """All pictures of a submission.

    read: of paths below its outputs, as problem_1/svhn/0_001.png, problem_2_private/00.png and
    problem_3_public/0/1/NAME. read_truth: ground truth of faces, as private/00.png.
    """
    return Pictures(
        _digit_grids(read) if result.digits and result.digits.status != "error" else {},
        {part: _face_rows(part, faces, read, read_truth) for part, faces in result.faces.items()},
        {part: _selected(part, concepts, read) for part, concepts in result.concepts.items()},
    )


def _digit_grids(read: Reader) -> dict[str, Picture]:
    """For each data set 10 x 10 images: a row per digit, its first ten images from left to right."""
    grids = {}
    tile = DIGITS_SIZE + GAP
    for dataset in DATASETS:
        canvas = Image.new("RGB", (GRID_COLUMNS * tile - GAP, 10 * tile - GAP), "white")
        absent = 0
        for digit in range(10):
            for column in range(GRID_COLUMNS):
                pixels = read(f"problem_1/{dataset}/{digit}_{column + 1:03d}.png")
                absent += pixels is None
                image = _absent_tile() if pixels is None else _shrunk(pixels, DIGITS_SIZE)
                canvas.paste(image, (column * tile, digit * tile))
        name = DATASET_NAMES[dataset]
        alt = f"Generated {name} digits: a row for each digit from 0 to 9, with its first {GRID_COLUMNS} images."
        if absent:
            alt += f" {absent} of them are missing or could not be read."
        # Small pixels suffer from JPEG's usual halving of the colours' resolution.
        grids[dataset] = _picture(canvas, alt, quality=90, subsampling=0)
    return grids


def _absent_tile() -> Image.Image:
    tile = Image.new("RGB", (DIGITS_SIZE, DIGITS_SIZE), (225, 225, 225))
    draw = ImageDraw.Draw(tile)
    end = DIGITS_SIZE - 1
    draw.line((0, 0, end, end), (170, 170, 170))
    draw.line((0, end, end, 0), (170, 170, 170))
    return tile


def _face_rows(part: str, result: FacesResult, read: Reader, read_truth: Reader) -> list[FaceRow]:
    rows = []
    for name in result.expected:
        shown = printable(name)
        face, truth = read(f"problem_2_{part}/{name}"), read_truth(f"{part}/{name}")
        difference = None
        if face is not None and truth is not None and face.shape == truth.shape:
            apart = np.abs(face.astype(np.int16) - truth) * AMPLIFICATION
            difference = apart.clip(0, 255).astype(np.uint8)
        rows.append(
            FaceRow(
                shown,
                _small(face, FACE_SIZE, f"Generated face {shown}"),
                _small(truth, FACE_SIZE, f"Ground truth of {shown}"),
                _small(difference, FACE_SIZE, f"Difference of {shown} and its ground truth, times {AMPLIFICATION}"),
            )
        )
    return rows


def _selected(part: str, result: ConceptsResult, read: Reader) -> dict[str, list[Picture]]:
    found: dict[str, list[Picture]] = {}
    for key, score in result.prompts.items():
        found[key] = []
        for name in score.selected:
            image_score, text_score = score.images[name]
            alt = (
                f"{printable(name)}, drawn for “{printable(score.prompt)}”: "
                f"image score {image_score:.2f}, text score {text_score:.2f}"
            )
            found[key].append(_small(read(f"problem_3_{part}/{key}/{name}"), CONCEPT_SIZE, alt))
    return found


def _small(pixels: ImageU8 | None, size: int, alt: str) -> Picture:
    if pixels is None:
        return Picture("", f"{alt}: not there, or could not be read.", size, size)
    return _picture(_shrunk(pixels, size), f"{alt}.", quality=85, subsampling=2)


def _shrunk(pixels: ImageU8, size: int) -> Image.Image:
    """An image whose longest side is at most `size`; smaller ones stay as they are, however narrow they are."""
    image = Image.fromarray(pixels)
    scale = size / max(image.size)
    if scale >= 1:
        return image
    return image.resize((max(round(image.width * scale), 1), max(round(image.height * scale), 1)), Image.Resampling.BOX)


def _picture(image: Image.Image, alt: str, quality: int, subsampling: int) -> Picture:
    """As JPEG, which is a fifth of PNG for what networks draw."""
    buffer = BytesIO()
    # Without optimize: for noise PIL's buffer is too small then.
    image.save(buffer, format="JPEG", quality=quality, subsampling=subsampling)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Picture(uri, alt, image.width, image.height)
