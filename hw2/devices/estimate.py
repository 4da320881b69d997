"""How long work takes at least: its operations, divided by the rate that this device reaches in a large product."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hw2.devices.arithmetic import exact
from hw2.log import say

LONG = 60.0
"""Seconds from which on work is announced."""

SMALL = 3e12
"""Operations that are never announced: one core of today does them in about a minute."""


@torch.no_grad()
def operations(network: nn.Module, *inputs: Tensor, **named: Tensor) -> int:
    """Multiplications and additions of one forward pass, counted on the meta device, where nothing is computed."""
    weights = {name: value.to("meta") for name, value in network.state_dict(keep_vars=True).items()}
    args: Any = tuple(value.to("meta") for value in inputs)
    with FlopCounterMode(display=False) as counter:
        torch.func.functional_call(network, weights, args, {name: value.to("meta") for name, value in named.items()})
    return int(counter.get_total_flops())


@torch.no_grad()
def rate(device: torch.device | str, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product, the best of three."""
    on_gpu = torch.device(device).type == "cuda"
    side = 4096 if on_gpu else 512
    a = torch.ones(side, side, device=device, dtype=dtype)
    best = float("inf")
    with exact():
        for _ in range(4):  # the first sets things up
            start = time.perf_counter()
            float((a @ a)[0, 0])  # waits for the GPU
            best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def announce(what: str, count: float, device: torch.device | str, dtype: torch.dtype) -> None:
    """Say how long `count` operations take at least, if that is long. what: "100 pictures"."""
    if count < SMALL:
        return
    found = rate(device, dtype)
    if count / found >= LONG:
        name, format_name = torch.device(device).type, str(dtype).removeprefix("torch.")
        device_name = torch.cuda.get_device_name(device) if name == "cuda" else "this CPU"
        say(
            f"{what} will take at least {duration(count / found)}: {count / 1e12:,.1f} TFLOP, and {device_name} "
            f"reaches {found / 1e12:.3g} TFLOP/s in {format_name}"
        )


def duration(seconds: float) -> str:
    """A time in words: "5 minutes", "2.5 hours"."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
