"""Scores as pure functions of pixel arrays."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from grading.core.arrays import ImageU8

Features = npt.NDArray[np.float64]

SSIM_WINDOW = 7
"""Width of scikit-image's default window. Smaller images have no SSIM."""


def mse(image: ImageU8, reference: ImageU8) -> float:
    """Mean squared error of 0-255 values over pixels and channels, float64 (SPEC section 4).

    image, reference: (H, W, 3) of one shape. Raises ValueError if the shapes differ.
    """
    if image.shape != reference.shape:
        raise ValueError(f"images differ in shape: {image.shape} and {reference.shape}")
    # Convert to float64 first, because the difference of two uint8 wraps around.
    return float(np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2))


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927, JASA 22). Raises ValueError for total 0.

    Its ends are the two p with |correct/total - p| = z sqrt(p (1-p) / total).
    """
    if not 0 <= correct <= total or total == 0:
        raise ValueError(f"{correct} of {total} is not a share")
    share, z = correct / total, NormalDist().inv_cdf(0.975)
    weight = z**2 / total
    middle, width = share + weight / 2, math.sqrt(weight * (share * (1 - share) + weight / 4))
    # at the ends the equation's solution is exact, and rounding would miss it
    low = 0.0 if correct == 0 else (middle - width) / (1 + weight)
    high = 1.0 if correct == total else (middle + width) / (1 + weight)
    return low, high


def psnr(image: ImageU8, reference: ImageU8) -> float | None:
    """Peak signal-to-noise ratio in dB for a peak of 255; None (infinite) for identical images."""
    error = mse(image, reference)
    return 10 * math.log10(255**2 / error) if error > 0 else None


def ssim(image: ImageU8, reference: ImageU8) -> float | None:
    """Structural similarity (Wang et al. 2004) by scikit-image, mean over channels.

    None below 7 pixels a side, or if scikit-image is not installed.
    """
    try:
        from skimage.metrics import structural_similarity
    except ModuleNotFoundError:
        return None
    if min(image.shape[:2]) < SSIM_WINDOW:
        return None
    score = structural_similarity(image, reference, win_size=SSIM_WINDOW, channel_axis=-1, data_range=255)  # type: ignore[no-untyped-call]
    return float(score)


def mean_pairwise_distance(features: Features) -> float | None:
    """Mean Euclidean distance between two different rows of (N, F); None if there are fewer than two."""
    if len(features) < 2:
        return None
    sums = [np.linalg.norm(features[i + 1 :] - row, axis=1).sum() for i, row in enumerate(features[:-1])]
    return float(sum(sums)) / (len(features) * (len(features) - 1) / 2)


def frechet_distance(features: Features, reference: Features) -> float:
    """Squared Frechet distance of two Gaussians with the rows' means and covariances (Heusel et al. 2017, equation 6).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) for rows (N, F) and (M, F), N and M at least 2. The trace of the
    root is computed from (C1^(1/2) C2 C1^(1/2))^(1/2). This matrix is symmetric, so its eigenvalues are real even if
    the covariances are singular, which they are for fewer images than features.
    """
    means = features.mean(axis=0), reference.mean(axis=0)
    first, second = np.cov(features, rowvar=False), np.cov(reference, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    overlap = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(min=0)).sum()
    distance = ((means[0] - means[1]) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * overlap
    return float(max(distance, 0.0))


def nearest(
    images: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8], skip_same: bool = False
) -> tuple[npt.NDArray[np.int64], Features]:
    """The index of the most similar reference (M, H, W, 3) for each image (N, H, W, 3), and their RMS difference.

    skip_same: the first N references are the images themselves, and an image is not compared with itself.
    """
    flat, others = (x.reshape(len(x), -1).astype(np.float64) for x in (images, reference))
    squared = (
        (flat**2).sum(1)[:, None] + (others**2).sum(1) - 2 * flat @ others.T
    )  # exact, because all are integers below 2^53
    if skip_same:
        np.fill_diagonal(squared, np.inf)
    index = squared.argmin(axis=1)
    return index, np.sqrt(squared[np.arange(len(flat)), index] / flat.shape[1])


def confusion_matrix(labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(10, 10) counts; rows are labels, columns are predictions."""
    confusion = np.zeros((10, 10), np.int64)
    np.add.at(confusion, (labels, predictions), 1)
    return confusion
