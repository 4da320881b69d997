"""A digit model of random weights, small enough to be built anew by each test."""

from __future__ import annotations

import torch

from hw2.digits.checkpoint import DigitModel
from hw2.digits.network import DigitUNet, DigitUNetConfig

TINY_DIGITS = DigitUNetConfig(
    patch_size=7, channels=(8, 16), num_res_blocks=(1, 1), attention_levels=(1,), head_dim=8, num_groups=4
)
"""A network with a few thousand parameters."""


def random_digit_model() -> DigitModel:
    """A model of size `TINY_DIGITS` that predicts v on the cosine schedule; no parameter is zero."""
    network = DigitUNet(TINY_DIGITS)
    g = torch.Generator().manual_seed(3)
    network.load_state_dict({k: torch.randn(v.shape, generator=g) * 0.2 for k, v in network.state_dict().items()})
    return DigitModel(network.eval().requires_grad_(False), "v_prediction", "cosine")
