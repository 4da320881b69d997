"""Stable Diffusion v1.4 at its exact size with random weights, to measure time and memory on a GPU."""

from __future__ import annotations

import torch

from hw2.concepts.generate import ConceptSampler
from hw2.concepts.single_file import build_stable_diffusion


def random_sd_v1(dtype: torch.dtype, batch_size: int = 5) -> ConceptSampler:
    """A sampler with the default number of steps, on the GPU; all weights are of type `dtype`."""
    torch.manual_seed(0)
    return ConceptSampler(build_stable_diffusion(device="cuda", dtype=dtype), batch_size=batch_size)
