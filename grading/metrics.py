"""Scores as pure functions of pixel arrays."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

ImageU8 = npt.NDArray[np.uint8]

SSIM_WINDOW = 7
"""scikit-image's default window; smaller images have no SSIM."""


def mse(image: ImageU8, reference: ImageU8) -> float:
    """Mean squared error of 0-255 values over pixels and channels, float64 (SPEC section 4).

    image, reference: (H, W, 3) of one shape. Raises ValueError for shapes that differ.
    """
    if image.shape != reference.shape:
        raise ValueError(f"images differ in shape: {image.shape} and {reference.shape}")
    # float64 first: a difference of two uint8 wraps around.
    return float(np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2))


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927, JASA 22), by scipy. Raises ValueError for total 0."""
    from scipy.stats import binomtest

    interval = binomtest(correct, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def psnr(image: ImageU8, reference: ImageU8) -> float | None:
    """Peak signal-to-noise ratio in dB for a peak of 255; None for identical images, whose ratio is infinite."""
    error = mse(image, reference)
    return 10 * math.log10(255**2 / error) if error > 0 else None


def ssim(image: ImageU8, reference: ImageU8) -> float | None:
    """Structural similarity (Wang et al. 2004) by scikit-image, mean over channels; None below 7 pixels a side."""
    from skimage.metrics import structural_similarity

    if min(image.shape[:2]) < SSIM_WINDOW:
        return None
    score = structural_similarity(image, reference, win_size=SSIM_WINDOW, channel_axis=-1, data_range=255)  # type: ignore[no-untyped-call]
    return float(score)
