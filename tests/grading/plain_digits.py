"""Digits that say in their colour what they show, and a judge that reads it."""

import io
from functools import cache

import numpy as np
from PIL import Image

from grading.core.results import Judge
from grading.judges.protocols import Predictions


class RedJudge:
    """Reads the digit from the red channel, where the tests wrote it."""

    identity = Judge("mnistm", "custom", "red", "0" * 64)

    def predict(self, images):
        digits = np.array([image[0, 0, 0] for image in images], np.int64)
        return Predictions(
            digits, np.array([[image[0, 0, 1], image[0, 0, 2]] for image in images], float).reshape(-1, 2)
        )


JUDGES = {"mnistm": RedJudge(), "svhn": RedJudge()}


@cache
def _png(shows, size):
    file = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), shows, np.uint8)).save(file, format="PNG")
    return file.getvalue()


def save(path, shows, size=28):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_png(shows, size))
