"""Problem 1's and Problem 3's trainings: their curves, and the training images that drawn digits are nearest to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw2.digits.network import DATASETS, NUM_DIGITS
from hw2.digits.sample import official_names
from hw2.progress import OnStep
from hw2.report.digits import NUM_STEPS, sampler
from hw2.report.inputs import Inputs

Pixels = npt.NDArray[np.uint8]
COMPARED = 100
"""Training images of a data set whose own nearest ones are found, for comparison."""


@dataclass(frozen=True)
class DigitCurves:
    """Loss over training, and how many digits are recognized on the way, for each data set."""

    steps: list[int]
    loss: list[float]
    accuracy_steps: list[int]
    accuracy: list[list[float]]
    first_loss: float
    last_loss: float
    last_accuracy: list[float]


def digit_curves(inputs: Inputs, on_step: OnStep) -> DigitCurves:
    """The curves of the log."""
    curves = inputs.training_curves
    steps, loss = curves["loss"]
    accuracies = [curves[f"accuracy/{dataset}"] for dataset in DATASETS]
    shares = [values for _, values in accuracies]
    on_step("", 1)
    return DigitCurves(steps, loss, accuracies[0][0], shares, loss[0], loss[-1], [each[-1] for each in shares])


@dataclass(frozen=True)
class WordCurves:
    """Loss of a learned word and on what was kept apart. best: the step of the lowest validation loss."""

    steps: list[int]
    loss: list[float]
    validation_steps: list[int]
    validation: list[float]
    best: int
    best_validation: float
    last: int
    last_validation: float


def word_curves(inputs: Inputs, on_step: OnStep) -> WordCurves:
    """The curves of the log."""
    (steps, loss), (validation_steps, validation) = (inputs.word_curves[name] for name in ("loss", "validation loss"))
    lowest = min(validation)
    on_step("", 1)
    return WordCurves(
        steps, loss, validation_steps, validation, validation_steps[validation.index(lowest)], lowest,
        validation_steps[-1], validation[-1],
    )  # fmt: skip


@dataclass(frozen=True)
class Nearest:
    """The training image that is nearest to a digit of each class. rms: root mean square differences, of 255 levels.

    Lists have a number for each data set. median: of the drawn digits; among: of training images to the nearest other.
    images: (4, 10, 28, 28, 3): of each data set the drawn digits and the nearest images.
    """

    training: list[int]
    rms: list[list[float]]
    median: list[float]
    among: list[float]
    images: Pixels


def nearest_images(inputs: Inputs, on_step: OnStep) -> Nearest:
    """The first digit of each class in both data sets."""
    data = inputs.training_digits
    assert data is not None
    drawn = dict(sampler(inputs).pixels(official_names(1), on_step))
    counts, apart, among, rows = [], [], [], []
    for i, dataset in enumerate(DATASETS):
        real = data.images_u8[data.datasets == i].permute(0, 2, 3, 1).numpy()
        own = np.stack([drawn[f"{dataset}/{digit}_001.png"] for digit in range(NUM_DIGITS)])
        places, differences = nearest(own, real)
        chosen = np.random.default_rng(0).permutation(len(real))[:COMPARED]
        counts.append(len(real))
        apart.append(differences)
        among.append(float(np.median(nearest(real[chosen], real, skip=chosen)[1])))
        rows += [own, real[places]]
    return Nearest(counts, apart, [float(np.median(each)) for each in apart], among, np.stack(rows))


def nearest_steps(inputs: Inputs) -> int:  # noqa: ARG001
    """Steps of all its images together."""
    return len(official_names(1)) * NUM_STEPS


def nearest(images: Pixels, real: Pixels, skip: npt.NDArray[np.int64] | None = None) -> tuple[list[int], list[float]]:
    """(place among `real` of the nearest, root mean square difference) of each image; skip: places not to be found."""
    flat = real.reshape(len(real), -1).astype(np.float32)
    places, differences = [], []
    for i, image in enumerate(images):
        squares = np.square(flat - image.reshape(-1).astype(np.float32)).mean(1)
        if skip is not None:
            squares[skip[i]] = np.inf
        places.append(int(squares.argmin()))
        differences.append(float(np.sqrt(squares.min())))
    return places, differences
