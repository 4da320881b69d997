"""Cross-attention that can be looked at and replaced: which pixel listens to which word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

FINEST = 1024
"""Maps of more pixels than this are neither kept nor replaced: layout lies in the coarse ones (Hertz et al. 2022,
arXiv 2208.01626, keep those up to 32x32), and v1.4's finest would take gigabytes."""

Handler = Callable[[str, Tensor], Tensor]
"""(the layer's name, map (B, heads, pixels, tokens)) -> the map to use, of that shape."""


class CrossAttention:
    """An attention processor in diffusers' sense that shows its map to a handler and uses the one it gets back."""

    def __init__(self, name: str, handler: Handler) -> None:
        self.name, self.handler = name, handler

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: object
    ) -> Tensor:
        """(B, pixels, C) -> (B, pixels, C): softmax(Q K^T / sqrt(d)) V (Vaswani et al. 2017, equation 1)."""
        assert encoder_hidden_states is not None
        B, heads = len(hidden_states), attn.heads
        q, k, v = (
            x.view(B, -1, heads, x.shape[-1] // heads).transpose(1, 2)  # (B, heads, length, d)
            for x in (attn.to_q(hidden_states), attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states))
        )
        weights = ((q @ k.transpose(-1, -2)).float() * attn.scale).softmax(-1)
        if weights.shape[2] <= FINEST:
            weights = self.handler(self.name, weights)
        mixed: Tensor = (weights.to(v.dtype) @ v).transpose(1, 2).reshape(B, -1, heads * v.shape[-1])
        out: Tensor = attn.to_out[1](attn.to_out[0](mixed))
        return out


class MapStore:
    """The cross-attention maps of the first `rows` images of every network call, in order."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.calls: list[dict[str, Tensor]] = []

    def keep(self, name: str, weights: Tensor) -> Tensor:
        """A handler that keeps every map and changes none; a layer that comes again begins the next call."""
        if not self.calls or name in self.calls[-1]:
            self.calls.append({})
        self.calls[-1][name] = weights[: self._rows]
        return weights

    def word_maps(self, positions: Sequence[Sequence[int]], side: int) -> Tensor:
        """(rows, words, side, side): how much each pixel listened to each word, mean over calls, layers and heads.

        positions: each word's places in the prompt. Coarse maps are enlarged (bilinear).
        """
        grids = []
        for weights in (w for call in self.calls for w in call.values()):
            edge = round(weights.shape[2] ** 0.5)
            seen = torch.stack([weights[..., list(places)].sum(-1).mean(1) for places in positions], dim=1)
            grid = seen.unflatten(2, (edge, edge))  # (rows, words, edge, edge)
            grids.append(F.interpolate(grid, (side, side), mode="bilinear"))
        return torch.stack(grids).mean(0)
