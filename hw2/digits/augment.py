"""Augmentations of a house number that keep its digit: a small tilt, zoom and shift, other brightness and colours.

Images are never mirrored: a mirrored 2 is not a 2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_TILT = 0.14
"""Radians, 8 degrees: a 7 does not become a 1."""
MAX_ZOOM = 0.12
MAX_SHIFT = 2 / 14
"""Two of 28 pixels, in the [-1, 1] coordinates of `grid_sample`."""


def augment_house_numbers(images_01: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 3, 28, 28) in [0, 1] -> the same digits, each rotated, moved and recoloured at random.

    The generator must be on the images' device; it always advances by the same amount.
    """
    B = len(images_01)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(B, *shape, generator=generator, device=images_01.device)

    angle, zoom = uniform(-MAX_TILT, MAX_TILT), 1 + uniform(-MAX_ZOOM, MAX_ZOOM)
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    shift_x, shift_y = uniform(-MAX_SHIFT, MAX_SHIFT), uniform(-MAX_SHIFT, MAX_SHIFT)
    affine = torch.stack([cos, -sin, shift_x, sin, cos, shift_y], dim=1).reshape(B, 2, 3)
    grid = F.affine_grid(affine, list(images_01.shape), align_corners=False)
    moved = F.grid_sample(images_01, grid, mode="bilinear", padding_mode="border", align_corners=False)

    channels = uniform(0, 1, 3).argsort(dim=1)  # the colours change their roles
    keep = uniform(0, 1, 1) < 0.5
    channels = torch.where(keep, torch.arange(3, device=channels.device), channels)
    painted = moved.gather(1, channels[:, :, None, None].expand_as(moved))
    inverted = uniform(0, 1, 1, 1, 1) < 0.25  # house numbers are dark on bright or bright on dark
    painted = torch.where(inverted, 1 - painted, painted)
    return (painted * uniform(0.8, 1.2, 1, 1, 1) + uniform(-0.08, 0.08, 1, 1, 1)).clamp(0, 1)
