"""Face networks of random weights: a tiny size for tests, and random weights for a network of any size."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hw2.faces.network import FaceUNetConfig

TINY = FaceUNetConfig(channel=8, channel_multipliers=(1, 2), num_res_blocks=1, attention_levels=(1,), num_groups=4)
"""A network for images of 8x8 pixels and larger, with a few thousand parameters."""


def random_face_weights(network: nn.Module, seed: int) -> dict[str, Tensor]:
    """Random weights of a plausible size for every parameter, none of them zero; buffers stay as they are."""
    g = torch.Generator().manual_seed(seed)
    weights = {}
    for name, value in network.state_dict().items():
        if name == "time.0.inv_freq":
            weights[name] = value.clone()
        elif value.ndim == 1:
            centre = 1.0 if name.endswith("weight") else 0.0  # a norm's weight or a bias
            weights[name] = centre + 0.1 * torch.randn(value.shape, generator=g)
        else:
            weights[name] = torch.randn(value.shape, generator=g) / math.sqrt(value[0].numel())
    return weights
