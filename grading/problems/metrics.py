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

BLOCK = 512
"""Rows that are compared at once. Memory grows with the number of rows, not with its square."""


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
    flat = images.reshape(len(images), -1).astype(np.float64)
    index, least = np.zeros(len(flat), np.int64), np.full(len(flat), np.inf)
    for start in range(0, len(reference), BLOCK):
        others = reference[start : start + BLOCK].reshape(-1, flat.shape[1]).astype(np.float64)
        squared = _squared_distances(flat, others)  # exact, because all are integers below 2^53
        if skip_same:
            same = np.arange(start, min(start + len(others), len(flat)))
            squared[same, same - start] = np.inf
        closest = squared.argmin(axis=1)
        found = squared[np.arange(len(flat)), closest]
        nearer = found < least
        index[nearer], least[nearer] = closest[nearer] + start, found[nearer]
    return index, np.sqrt(least / flat.shape[1])


def near_pairs(
    rows: npt.NDArray[np.float32], labels: npt.NDArray[np.str_], limit: float, shown: int
) -> tuple[int, list[tuple[int, int]]]:
    """The number of pairs (i, j), i < j, of rows (N, F) with other labels (N,) whose RMS difference is below limit.

    Also the first `shown` pairs. Rows are compared in blocks, in the order of their means: two means differ by no more
    than the RMS difference of their rows, so that most pairs need not be compared.
    """
    means = rows.mean(axis=1, dtype=np.float64)
    order = np.argsort(means, kind="stable")
    means, count, first = means[order], 0, np.zeros(0, np.int64)
    for start in range(0, len(rows), BLOCK):
        here = order[start : start + BLOCK]
        reach = means[start + len(here) - 1] + limit * (1 + 1e-9)
        stop = int(np.searchsorted(means, reach, side="right"))
        for other_start in range(start, stop, BLOCK):
            there = order[other_start : min(other_start + BLOCK, stop)]
            squared = _squared_distances(rows[here].astype(np.float64), rows[there].astype(np.float64))
            near = (squared < limit**2 * rows.shape[1]) & (labels[here][:, None] != labels[there])
            found = np.nonzero(np.triu(near, 1) if other_start == start else near)
            i, j = here[found[0]], there[found[1]]
            count += len(i)
            first = np.sort(np.concatenate([first, np.minimum(i, j) * len(rows) + np.maximum(i, j)]))[:shown]
    return count, [divmod(int(pair), len(rows)) for pair in first]


def _squared_distances(rows: Features, others: Features) -> Features:
    """(N, M) squared Euclidean distances of the rows of (N, F) and (M, F)."""
    squared: Features = (rows**2).sum(1)[:, None] + (others**2).sum(1) - 2 * rows @ others.T
    return squared


def confusion_matrix(labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(10, 10) counts; rows are labels, columns are predictions."""
    confusion = np.zeros((10, 10), np.int64)
    np.add.at(confusion, (labels, predictions), 1)
    return confusion
