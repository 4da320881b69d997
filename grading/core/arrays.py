"""Array types that the rooms exchange."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

ImageU8 = npt.NDArray[np.uint8]
"""(H, W, 3), 0-255."""


def pixel_digest(pixels: ImageU8) -> str:
    """SHA-256 of an image's shape and pixels, whatever file they come from."""
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()
