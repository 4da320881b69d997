"""Cross-attention maps that can be recorded and replaced: how much each pixel attends to each word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

FINEST = 1024
"""Maps of more pixels than this are neither kept nor replaced: the coarse maps determine the layout (Hertz et al. 2022,
arXiv 2208.01626, keep those up to 32x32), and v1.4's finest would take gigabytes."""

Handler = Callable[[str, Tensor], Tensor]
"""(the layer's name, map (B, heads, pixels, tokens)) -> the map to use, of that shape."""


class CrossAttention:
    """An attention processor for diffusers that passes its map to a handler and uses the map that is returned."""

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
        weights = ((q * attn.scale) @ k.transpose(-1, -2)).float().softmax(-1)  # scaled first: float16 ends at 65504
        if weights.shape[2] <= FINEST:
            weights = self.handler(self.name, weights)
        mixed: Tensor = (weights.to(v.dtype) @ v).transpose(1, 2).reshape(B, -1, heads * v.shape[-1])
        out: Tensor = attn.to_out[1](attn.to_out[0](mixed))
        return out


class MapStore:
    """The attention of the first `rows` images of every network call: mean maps of words, and the first maps in full.

    places: for each word whose map is recorded, its places in the prompt.
    calls: the maps of the first `kept` network calls, by layer, each (rows, heads, pixels, tokens) in `dtype`.
    """

    def __init__(
        self, rows: int, places: Sequence[Sequence[int]] = (), kept: int = 0, dtype: torch.dtype = torch.float32
    ) -> None:
        self.calls: list[dict[str, Tensor]] = [{} for _ in range(kept)]
        self._rows, self._places, self._dtype = rows, places, dtype
        self._call, self._seen = -1, set[str]()
        self._sums: dict[int, Tensor] = {}
        self._count = 0

    def keep(self, name: str, weights: Tensor) -> Tensor:
        """A handler that changes no map. The next call begins when a layer comes again."""
        if not self._seen or name in self._seen:
            self._call += 1
            self._seen.clear()
        self._seen.add(name)
        own = weights[: self._rows]
        if self._call < len(self.calls):
            self.calls[self._call][name] = own.to(self._dtype, copy=True)  # a view would keep the other rows too
        if self._places:
            seen = torch.stack([own[..., list(places)].sum(-1).mean(1) for places in self._places], dim=1)
            edge = round(seen.shape[2] ** 0.5)
            self._sums[edge] = self._sums.get(edge, 0) + seen.unflatten(2, (edge, edge))
            self._count += 1
        return weights

    def word_maps(self, side: int) -> Tensor:
        """(rows, words, side, side): how much each pixel attended to each word, mean over calls, layers and heads.

        Coarse maps are enlarged (bilinear). Raises ValueError if no map was recorded.
        """
        if not self._count:
            raise ValueError("no map of a word was recorded")
        grids = [F.interpolate(grid, (side, side), mode="bilinear") for grid in self._sums.values()]
        return torch.stack(grids).sum(0) / self._count
