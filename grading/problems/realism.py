"""Comparison of generated digits with real ones. It shows what the score cannot show.

Five hundred copies of one perfect digit get a perfect score, and so do copied training images.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import track

from grading.core.arrays import ImageU8
from grading.core.errors import GradingError
from grading.core.results import Figure
from grading.core.text import printable
from grading.files.images import ImageRefused, read_png
from grading.files.leftovers import leftover
from grading.judges.protocols import DIGIT_SIZE, DigitJudge, Predictions
from grading.problems.metrics import frechet_distance, mean_pairwise_distance, nearest

SAMPLE = 500
"""Number of real images for figures that depend on this number. A submission has as many."""
SHOWN = 10
ENLARGED = 4


@dataclass(frozen=True)
class Realism:
    """Comparison of one data set's digits with each other and with real ones. It does not change the score.

    diversity: mean Euclidean distance between two images of a digit, in the judge's features, by digit; None for fewer
    than two images. All others are None if no real images were given. diversity_real: the diversity of real images.
    frechet_distance: between generated and real images of all digits, in the same features. nearest_rms: root mean
    squared difference of 0-255 values to the nearest real image, median over the images. nearest_rms_real: the same
    between real images; a copied digit has a much smaller one. nearest: (name, difference) of the nearest real image,
    by image.
    """

    diversity: dict[str, float | None] = field(default_factory=dict)
    diversity_real: dict[str, float | None] | None = None
    frechet_distance: float | None = None
    nearest_rms: float | None = None
    nearest_rms_real: float | None = None
    nearest: dict[str, tuple[str, float]] | None = None


@dataclass(frozen=True)
class RealDigits:
    """A data set's real images by name: pixels_u8 (M, 28, 28, 3), labels (M,)."""

    names: list[str]
    pixels_u8: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


def load_real_digits(folder: Path) -> RealDigits:
    """The images of `folder/{data/*.png,train.csv}`, the homework's layout.

    Raises GradingError if a part of it is missing or invalid.
    """
    table = folder / "train.csv"
    shown = printable(str(table))
    try:
        rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
        labels = {row["image_name"]: int(row["label"]) for row in rows}
    except OSError as error:
        raise GradingError(
            f"{shown} cannot be read ({error.strerror}); expected the homework's digits folder"
        ) from None
    except (KeyError, TypeError, ValueError, csv.Error):
        if what := leftover(table):
            raise GradingError(f"{shown} {what}; expected the homework's train.csv") from None
        raise GradingError(f"{shown} is not a table of image_name,label; expected the homework's train.csv") from None
    if len(labels) < 2 or not set(labels.values()) <= set(range(10)):
        raise GradingError(
            f"{shown} does not list two images or more with labels 0 to 9; expected the homework's train.csv"
        )
    pixels = []
    console = Console(stderr=True)
    for name in track(labels, f"reading real {folder.name}", console=console, transient=True):
        if Path(name).name != name:
            raise GradingError(f"{shown} names {printable(name)!r}; expected a file in data/, without a folder")
        try:
            pixels.append(read_png(folder / "data", name, (DIGIT_SIZE, DIGIT_SIZE)).pixels_u8)
        except ImageRefused as refusal:
            raise GradingError(f"{printable(str(folder / 'data' / name))} {printable(str(refusal))}") from None
    return RealDigits(list(labels), np.stack(pixels), np.array(list(labels.values()), np.int64))


def compare(
    names: list[str],
    images: list[ImageU8],
    labels: npt.NDArray[np.int64],
    predicted: Predictions,
    judge: DigitJudge,
    real: RealDigits | None,
) -> Realism:
    """The figures of one data set's images. Without real images there is only diversity."""
    diversity = _diversity(predicted.features, labels)
    if real is None:
        return Realism(diversity)
    chosen = np.random.default_rng(0).permutation(len(real.names))
    sample = chosen[:SAMPLE]
    features = judge.predict(list(real.pixels_u8)).features
    same_size = [i for i, image in enumerate(images) if image.shape == real.pixels_u8.shape[1:]]
    _, between_real = nearest(real.pixels_u8[sample], real.pixels_u8[chosen], skip_same=True)
    neighbours: dict[str, tuple[str, float]] = {}
    if same_size:
        index, rms = nearest(np.stack([images[i] for i in same_size]), real.pixels_u8)
        neighbours = {names[i]: (real.names[j], float(d)) for i, j, d in zip(same_size, index, rms, strict=True)}
    return Realism(
        diversity,
        diversity_real=_diversity(features[sample], real.labels[sample]),
        frechet_distance=frechet_distance(predicted.features, features) if len(images) > 1 else None,
        nearest_rms=float(np.median([d for _, d in neighbours.values()])) if neighbours else None,
        nearest_rms_real=float(np.median(between_real)),
        nearest=neighbours,
    )


def neighbours_png(rows: list[tuple[str, ImageU8, str, ImageU8, float]]) -> Image.Image:
    """A picture of images with the nearest real images. rows: (name, image, real name, real, RMS difference)."""
    cell, width, height = DIGIT_SIZE * ENLARGED, 420, DIGIT_SIZE * ENLARGED + 8
    picture = Image.new("RGB", (width, height * len(rows) + 20), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((8, 4), "generated image, nearest real image, and RMS difference of 0-255 values", "black")
    for i, (name, image, real_name, real, rms) in enumerate(rows):
        top = 20 + i * height
        for left, pixels in ((8, image), (16 + cell, real)):
            enlarged = Image.fromarray(pixels).resize((cell, cell), Image.Resampling.NEAREST)
            picture.paste(enlarged, (left, top))
        draw.text(
            (28 + 2 * cell, top + cell // 2 - 16), f"{printable(name)}\n{printable(real_name)}\n{rms:.1f}", "black"
        )
    return picture


def closest_rows(
    dataset: str, names: list[str], images: list[ImageU8], realism: Realism, real: RealDigits
) -> list[tuple[str, ImageU8, str, ImageU8, float]]:
    """The rows of `neighbours_png` for the images that are nearest to a real one, nearest first."""
    by_name = dict(zip(names, images, strict=True))
    where = {name: i for i, name in enumerate(real.names)}
    closest = sorted((realism.nearest or {}).items(), key=lambda item: (item[1][1], item[0]))[:SHOWN]
    return [
        (f"{dataset}/{name}", by_name[name], real_name, real.pixels_u8[where[real_name]], rms)
        for name, (real_name, rms) in closest
    ]


def _diversity(features: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> dict[str, float | None]:
    return {str(d): mean_pairwise_distance(features[labels == d]) for d in range(10) if (labels == d).any()}


def realism_figures(name: str, realism: Realism) -> Iterable[Figure]:
    """The figures of the data set `name`. Without real images there is only diversity."""
    rows: dict[str, tuple[float | None, int]] = {"diversity": (_mean(realism.diversity), 2)}
    if realism.diversity_real is not None:
        rows |= {
            "diversity of real images": (_mean(realism.diversity_real), 2),
            "Frechet distance": (realism.frechet_distance, 2),
            "RMS to the nearest real image": (realism.nearest_rms, 1),
            "the same among real images": (realism.nearest_rms_real, 1),
        }
    for row, (value, decimals) in rows.items():
        yield Figure(
            "realism", f"{name} {row}", value, "", decimals, informative=True,
            table="for information, in the judges' features", row=row, column=name,
        )  # fmt: skip


def _mean(values: Mapping[str, float | None]) -> float | None:
    known = [value for value in values.values() if value is not None]
    return fmean(known) if known else None
