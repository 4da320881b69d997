"""Array types that the rooms exchange."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ImageU8 = npt.NDArray[np.uint8]
"""(H, W, 3), 0-255."""
