"""Stand-ins for what PyTorch tells about GPUs, so that tests need none."""

from __future__ import annotations

import warnings

import pytest
import torch

from hw2.devices import choose

OLD_DRIVER = (
    "The NVIDIA driver on your system is too old (found version 12020). Please update your GPU driver by downloading "
    "and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx"
)
NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, count: int, capability: tuple[int, int] = (9, 0)) -> None:
    """As many GPUs of a compute capability as a test needs; nothing can be computed on them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Tesla T4")
    choose.cuda_problem.cache_clear()


def pretend_failing_cuda(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    """A PyTorch for CUDA 13.0 whose start fails with this reason; it also warns, as PyTorch does."""

    def unavailable() -> bool:
        warnings.warn(f"CUDA initialization: {reason}", UserWarning, stacklevel=2)
        return False

    def fails() -> None:
        raise RuntimeError(reason)

    monkeypatch.setattr(torch.cuda, "is_available", unavailable)
    monkeypatch.setattr(torch.cuda, "init", fails)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    choose.cuda_problem.cache_clear()
