"""Problem 1's two pictures: a 10x10 grid of each data set, and the steps from noise to a digit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from hw2.digits.network import DATASETS, NUM_DIGITS
from hw2.digits.sample import DigitSampler, digit_to_u8, official_names
from hw2.figures import ImageU8, figure_png, image_grid, image_grid_png
from hw2.progress import OnStep, progress_bar, silent

TITLES = {"mnistm": "MNIST-M", "svhn": "SVHN"}
REVERSE_STEPS = 1000
"""As on the slides: t counts the reverse steps done, so t = 0 is pure noise and t = 1000 the image."""


def frames(steps: int) -> tuple[int, ...]:
    """The six t that are shown: of 1000 steps 0, 200, .., 1000. Raises ValueError if a fifth is not whole."""
    if steps < 5 or steps % 5:
        raise ValueError(f"expected a multiple of 5 as number of steps, got {steps}")
    return tuple(range(0, steps + 1, steps // 5))


def digit_grid_png(sampler: DigitSampler) -> bytes:
    """A PNG with a 10x10 grid of each data set side by side, rows digits, columns noises."""
    names = official_names(10)
    with progress_bar("digits", sampler.num_inference_steps * len(names)) as advance:
        drawn = dict(sampler.pixels(names, advance))
    return figure_png(digit_grid(drawn))


def digit_grid(drawn: Mapping[str, ImageU8]) -> Figure:
    """The grid of `digit_grid_png`, of the images called `official_names(10)`."""
    names = official_names(10)
    gap = np.full_like(drawn[names[0]], 255)
    rows = []
    for digit in range(NUM_DIGITS):
        left, right = ([drawn[name] for name in names if name.startswith(f"{d}/{digit}_")] for d in DATASETS)
        rows.append([*left, gap, *right])
    numbers = [str(i) for i in range(1, 11)]
    return image_grid(
        rows,
        row_labels=[f"digit {digit}" for digit in range(NUM_DIGITS)],
        column_labels=[*numbers, "", *numbers],
        title=f"{TITLES['mnistm']} (left) and {TITLES['svhn']} (right); columns: noises",
    )


def reverse_png(sampler: DigitSampler) -> bytes:
    """A PNG of the first "0" of each data set after the steps `frames` of `sampler`, such as 0, 200, .., 1000.

    The picture shows the noisy sample itself, clamped to [-1, 1].
    """
    with progress_bar("reverse process", sampler.num_inference_steps) as advance:
        samples, _ = reverse_states(sampler, lambda note, count: advance(note))
    return image_grid_png(
        [[digit_to_u8(state) for state in of_dataset] for of_dataset in samples.unbind(1)],
        row_labels=[TITLES[dataset] for dataset in DATASETS],
        column_labels=[f"t = {t}" for t in frames(sampler.num_inference_steps)],
        title=f'The first "0", from noise (t = 0) to image (t = {sampler.num_inference_steps})',
    )


def reverse_states(sampler: DigitSampler, on_step: OnStep = silent) -> tuple[Tensor, Tensor]:
    """The first "0" of each data set after the steps `frames`, and the clean image predicted from each.

    Both are (6, 2, 3, 28, 28) on the CPU, unclamped. The prediction from the image at the end is the image itself.
    Raises ValueError if the number of the sampler's steps is no multiple of 5.
    """
    shown = frames(sampler.num_inference_steps)
    names = [f"{dataset}/0_001.png" for dataset in DATASETS]
    samples, predictions = [sampler.noise(names)], []
    for done, state in enumerate(sampler.states(names), start=1):
        if done - 1 in shown:  # a step predicts from the sample before it
            predictions.append(state.pred_original_sample.cpu())
        if done in shown:
            samples.append(state.sample.cpu())
        on_step("", len(names))
    return torch.stack(samples), torch.stack([*predictions, samples[-1]])
