"""The arithmetic of all judges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact() -> Iterator[None]:
    """Compute in full float32 with one fixed algorithm; every judge's network runs in this context.

    TF32 keeps 10 of float32's 23 bits. PyTorch uses it for convolutions unless told otherwise, and for products of
    matrices if TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1, as in NVIDIA's containers. The last digits of a score would then
    depend on the machine. What was set before is restored.
    """
    products = torch.get_float32_matmul_precision()
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False, allow_tf32=False),
    ):
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(products)
