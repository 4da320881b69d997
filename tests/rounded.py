"""Arithmetic of GPUs on a CPU: products with rounded factors (TF32), and numbers that are kept in 16 bits.

Tensor cores multiply rounded factors and add in float32. PyTorch then keeps the sum in float32 (TF32) or in 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

PRODUCTS = ("convolution", "mm", "addmm", "bmm", "baddbmm", "_scaled_dot_product")


class Rounded(TorchDispatchMode):
    """Within this context, `rounding` is applied to the factors of every product, and if kept to every result."""

    def __init__(self, rounding: Callable[[Tensor], Tensor], kept: bool = False) -> None:
        super().__init__()
        self.rounding, self.kept = rounding, kept

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name.startswith(PRODUCTS):
            args = tree_map(self._rounded, args)
        found = func(*args, **(kwargs or {}))
        return tree_map(self._rounded, found) if self.kept and not func.is_view else found

    def _rounded(self, value: Any) -> Any:
        return self.rounding(value) if isinstance(value, Tensor) and value.dtype == torch.float32 else value


def tf32(x: Tensor) -> Tensor:
    """The nearest numbers with 10 bits of mantissa."""
    return ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def half(dtype: torch.dtype) -> Rounded:
    """Computing in float16 or bfloat16."""
    return Rounded(lambda x: x.to(dtype).float(), kept=True)


DIGITS, FACES, CONCEPTS = 5e-5, 5e-5, 8e-4
"""How far images of a GPU may be from those of a CPU, both in [-1, 1]: digits root mean square, the others at most.

Each is between what other kernels change (3e-6, 3e-6, 4e-5) and what TF32 changes (8e-4, 6e-4, 2e-2), as
tests/test_rounded.py measures.
"""
FACES_BFLOAT16, FACES_FLOAT16 = 4.0, 0.5
"""How far faces in 16 bits may be from float32: the median over the faces of the mean squared error of pixels from 0 to
255. Rounding alone changes 1.2 and 0.06; an H100 changes 1.8 and 0.08. One face can move further (29 in bfloat16)."""
SCORES_BFLOAT16, SCORES_FLOAT16 = 0.25, 0.02
"""How far the mean CLIP score of a prompt may move if its pictures are drawn in 16 bits."""
