"""Work that does not fit the memory: how it is recognized, and batches that are halved until they fit."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

import torch

from hw2.errors import InputError
from hw2.log import say
from hw2.progress import OnStep
from hw2.wording import counted

Result = TypeVar("Result")

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's mallopt(3)."""

NO_MEMORY = "there is not enough memory"

_ALLOCATION = re.compile(
    r"CUDA (?:error: |driver error: )?out of memory|CU(?:BLAS|DNN)_STATUS_ALLOC_FAILED|"
    r"DefaultCPUAllocator: (?:can't allocate|not enough) memory"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: PyTorch's error, cuBLAS' or cuDNN's, or the CPU's. Other CUDA errors are faults."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _ALLOCATION.search(str(error)) is not None


def keep_freed_memory() -> None:
    """Let this process keep memory that tensors on a CPU free, up to 1 GiB a piece, for the next ones.

    By default, glibc gives large pieces back to the kernel and asks for them again, page by page, at each layer.
    Drawing pictures took 15 % less time. Other C libraries go on as they do.
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((M_MMAP_THRESHOLD, 2**30), (M_TRIM_THRESHOLD, 2**31 - 1)):
            mallopt(parameter, value)


@contextmanager
def remedies(remedy: str, *parameters: str) -> Iterator[None]:
    """Around work that may not fit. Raises InputError with the remedy, in words, and with its parameters."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        message = f"{NO_MEMORY}{_room()}; {remedy}"
    else:
        return
    raise InputError(message, *parameters)


def in_batches(
    names: Sequence[str], batch_size: int, draw: Callable[[Sequence[str], OnStep], Sequence[Result]], on_step: OnStep
) -> Iterator[Result]:
    """Yield what `draw` returns for each batch, in order. If memory runs out, the batch is drawn again in halves.

    The smaller size is then kept, and a sentence says so. draw: (names, on_step) -> a result for each name; it calls
    on_step with the number of its images at every step.
    Raises InputError if the memory is not enough for one.
    """
    start = 0
    while start < len(names):
        batch = names[start : start + batch_size]
        drawn = _drawn(batch, draw, on_step)
        if drawn is not None:
            yield from drawn
            start += len(batch)
            continue
        free_memory()
        if len(batch) == 1:
            raise InputError(
                f"{NO_MEMORY} for one image{_room()}; free some, use half precision, or another device",
                "dtype",
                "device",
            )
        batch_size = len(batch) // 2
        say(f"memory ran out with {len(batch)} images at once; going on with {counted(batch_size, 'image')} at once")


def _drawn(
    batch: Sequence[str], draw: Callable[[Sequence[str], OnStep], Sequence[Result]], on_step: OnStep
) -> Sequence[Result] | None:
    """What `draw` returns; None if memory ran out. The error, which holds tensors, is gone when this returns."""
    done = 0

    def counting(note: str, count: int) -> None:
        nonlocal done
        done += count
        on_step(note, count)

    try:
        return draw(batch, counting)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    on_step("", -done)
    return None


def tell_need(what: str, device: torch.device, needed: int | None = None) -> None:
    """Say how much of a GPU's memory something needs. needed: bytes; None: the most that was used until now."""
    if device.type == "cuda":
        used = torch.cuda.max_memory_allocated(device) if needed is None else needed
        total = torch.cuda.mem_get_info(device)[1]
        say(f"{what} needs {used / 2**30:.1f} of {total / 2**30:.1f} GiB of {torch.cuda.get_device_name(device)}")


def free_memory() -> None:
    """Give what nothing uses any more back to the GPU."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _room() -> str:
    """What the current GPU has, as an insertion for a sentence; "" on a CPU."""
    if not torch.cuda.is_initialized():
        return ""
    free, total = torch.cuda.mem_get_info()
    return f" ({free / 2**30:.1f} of {total / 2**30:.1f} GiB of {torch.cuda.get_device_name()} are free)"
