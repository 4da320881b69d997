"""How long the homework takes on this device at least, and whether it fits its memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from hw2.devices.estimate import duration, rate
from hw2.doctor.machine import format_name
from hw2.doctor.rows import Row, first_line

HOURS = 3600.0
"""Seconds from which on a task takes too long to be waited for."""


@dataclass(frozen=True)
class Task:
    """A part of the homework: its operations in TFLOP, and the memory of its tensors in GiB, in 32 and 16 bits.

    remedy: what to do if they do not fit.
    """

    name: str
    tflop: float
    memory: tuple[float, float]
    remedy: str


TASKS = (
    Task("P1 training, 40,000 steps", 12_300, (1.5, 1.3), "use a smaller --batch-size"),
    Task("P2, 10 faces", 249, (1.84, 0.93), "use --batch-size 1"),
    Task(
        "P3 learn, 2,000 steps", 14_500, (9.8, 4.9), "use --dtype bfloat16, --gradient-checkpointing or --accumulation"
    ),
    Task("P3 generate, 100 pictures", 4_280, (10.4, 5.2), "fewer are drawn at once; one takes about 4 GiB in 16 bits"),
)
"""At real size, with the default batches (25 pictures at once in P3). Source: python -m tests.rehearsal."""


def rates(device: torch.device, dtypes: tuple[torch.dtype, ...]) -> tuple[dict[torch.dtype, float], list[Row]]:
    """(operations a second in each format that works, the row that shows them)."""
    found, failures = {}, []
    for dtype in dtypes:
        try:
            found[dtype] = rate(device, dtype)
        except Exception as error:  # as in `operations`
            failures.append(f"{format_name(dtype)} failed: {first_line(error)}")
    shown = [f"{format_name(dtype)} {value / 1e12:.3g} TFLOP/s" for dtype, value in found.items()]
    text = "a large matrix product reaches " + ", ".join([*shown, *failures])
    if failures:
        return found, [Row("rate", "problem", text, "see the rows of the operations")]
    return found, [Row("rate", "ok", text)]


def tasks(found: Mapping[torch.dtype, float], free: int | None) -> Iterator[Row]:
    """The shortest possible time of each task in each format. free: bytes on the device; None if unknown."""
    if not found:
        return
    for task in TASKS:
        seconds = {dtype: task.tflop * 1e12 / value for dtype, value in found.items()}
        times = " or ".join(f"{duration(value)} in {format_name(dtype)}" for dtype, value in seconds.items())
        remedies = [] if min(seconds.values()) < HOURS else ["use a GPU, or a faster one"]
        text = f"at least {times}"
        needed = {dtype: task.memory[0 if dtype == torch.float32 else 1] for dtype in found}
        small = [dtype for dtype, size in needed.items() if free is not None and size * 2**30 > free]
        if small and free is not None:
            sizes = ", ".join(f"{needed[dtype]:.1f} GiB in {format_name(dtype)}" for dtype in small)
            text += f"; it takes {sizes}, and {free / 2**30:.1f} GiB are free"
            remedies.append(task.remedy)
        yield Row(task.name, "warning" if remedies else "ok", text, "; ".join(remedies))
