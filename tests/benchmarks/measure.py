"""What all benchmarks measure with.

Every comparison alternates its two sides and reports the ratio of their medians, so that a machine that speeds up or
slows down meanwhile does not decide it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def seconds(*candidates: Callable[[], object], rounds: int) -> list[float]:
    """Median seconds of each candidate: one warm-up round, then `rounds` rounds in which each runs once."""
    times: list[list[float]] = [[] for _ in candidates]
    for i in range(rounds + 1):
        for candidate, measured in zip(candidates, times, strict=True):
            start = time.perf_counter()
            candidate()
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            if i > 0:
                measured.append(time.perf_counter() - start)
    return [statistics.median(measured) for measured in times]


def seconds_and_gib(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds that one call takes on a CUDA device, and its peak of device memory in GiB."""
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start, torch.cuda.max_memory_allocated() / 2**30


def matmul_rate(dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product: the best that this machine can do."""
    n = 8192 if DEVICE == "cuda" else 2048
    a, b = torch.randn(2, n, n, device=DEVICE, dtype=dtype)
    return float(2 * n**3 / seconds(lambda: a @ b, rounds=5)[0])


def operations(call: Callable[[], object]) -> int:
    """Multiplications and additions of a call; on the meta device they are counted without being computed."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())
