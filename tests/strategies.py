"""Hypothesis strategies for the values that this project computes with."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

seeds = st.integers(min_value=0, max_value=2**31 - 1)
alphas = st.floats(min_value=0, max_value=1)
etas = st.floats(min_value=0, max_value=1)
shapes = st.lists(st.integers(min_value=1, max_value=5), min_size=1, max_size=4).map(tuple)


@st.composite
def points(draw: st.DrawFn, min_numbers: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Two independent Gaussian points of one shape, float64."""
    shape = draw(shapes.filter(lambda shape: torch.Size(shape).numel() >= min_numbers))
    g = torch.Generator().manual_seed(draw(seeds))
    start, end = torch.randn(2, *shape, generator=g, dtype=torch.float64)
    return start, end


@st.composite
def batches(draw: st.DrawFn) -> torch.Tensor:
    """A batch of 1 to 6 noise images, float32."""
    g = torch.Generator().manual_seed(draw(seeds))
    return torch.randn(draw(st.integers(1, 6)), 3, 4, 4, generator=g)
