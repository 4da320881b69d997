"""The protocols of the judges. Nothing here depends on a network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from grading.core.arrays import ImageU8
from grading.core.results import Judge

CLIP_MODEL = "openai/clip-vit-base-patch32"
"""The hub model that scores Problem 3 (clip_image_score.py)."""

SVHN_MODEL = "edadaltocg/resnet34_svhn"
"""The hub model of the official SVHN classifier (digit_classifier.py, through the package `detectors`)."""

SAM_MODEL = "facebook/sam2.1-hiera-large"
"""The hub model with the weights of sam2.1_hiera_large.pt, which staff use (grade_hw2_3.py of Fall 2025)."""

DIGIT_SIZE = 28
"""Both classifiers take 28x28 pixels. Images of other sizes are resized (digit_classifier.py)."""


class Predictions(NamedTuple):
    """A classifier's predictions for N images. digits: (N,) 0-9. features: (N, F), the input of its last layer."""

    digits: npt.NDArray[np.int64]
    features: npt.NDArray[np.float64]


class DigitJudge(Protocol):
    """A classifier of digits."""

    @property
    def identity(self) -> Judge:
        """Which judge this is, for the report."""

    def predict(self, images: Sequence[ImageU8]) -> Predictions:
        """The digits that the images (H, W, 3) show."""


Features = npt.NDArray[np.float32]


class ClipJudge(Protocol):
    """A model that maps images and sentences to one space."""

    @property
    def identity(self) -> Judge:
        """Which judge this is, for the report."""

    @property
    def logit_scale(self) -> float:
        """The factor by which cosines of images and sentences are multiplied."""

    def image_features(self, images: Iterable[ImageU8]) -> Features:
        """Unit vectors (N, D) of images (H, W, 3) of any sizes. At most two are kept in memory."""

    def text_features(self, sentences: Sequence[str]) -> Features:
        """Unit vectors (N, D)."""


Mask = npt.NDArray[np.bool_]
"""(H, W)."""


class MaskJudge(Protocol):
    """A model that segments images."""

    @property
    def identity(self) -> Judge:
        """Which judge this is, for the report."""

    def mask(self, image: ImageU8) -> Mask:
        """(H, W): the pixels of the object in the middle of an image (H, W, 3)."""
