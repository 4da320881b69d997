"""The arithmetic of the networks: one policy for samplers and trainings.

float32 means float32. TF32, which cuts a factor to 10 bits, is off in convolutions and in matrix products; half
precision is faster, and it is chosen by its name. No algorithm is chosen by a trial, because trials end differently.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from hw2.errors import InputError
from hw2.log import say

Net = TypeVar("Net", bound=nn.Module)


@contextmanager
def exact(deterministic: bool = True, cudnn: bool = True) -> Iterator[None]:
    """Compute in the number format of the tensors, and not in TF32. deterministic: of the same convolutions twice.

    cudnn: whether cuDNN computes convolutions. Without TF32 it takes Fourier transforms for large images: on an H100,
    five faces of 256x256 took 0.56 s and 35 GiB, and 0.10 s by PyTorch's own matrix products, an image at a time.
    """
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "ieee"
    try:
        with torch.backends.cudnn.flags(enabled=cudnn, benchmark=False, deterministic=deterministic, allow_tf32=False):
            yield
    finally:
        matmul.fp32_precision = before


@contextmanager
def training_arithmetic(deterministic: bool) -> Iterator[None]:
    """`exact`, around a training. deterministic: use only operations that give the same bits twice.

    Without it, the backward pass on a GPU adds some numbers in any order, and two trainings differ by rounding. On a
    CPU both ways are deterministic. Enter it before the first product on a GPU: cuBLAS chooses its workspace then.
    """
    if not deterministic:
        with exact(deterministic=False):
            yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # (torch.use_deterministic_algorithms)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with exact():
            yield
    finally:
        torch.use_deterministic_algorithms(before)


def chosen_dtype(name: str, device: torch.device | str) -> torch.dtype:
    """The number format of that name; "auto" is `half_precision` on a GPU, and float32 on a CPU.

    If the GPU only emulates it, a sentence says so.
    Raises InputError if there is none of that name.
    """
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name == "auto":
        return half_precision(device) if torch.device(device).type == "cuda" else torch.float32
    if name not in dtypes:
        raise InputError(f"the number format is {name!r}; expected auto or one of {', '.join(dtypes)}", "dtype")
    if name == "bfloat16" and not has_bfloat16(device):
        faster = "float32" if torch.device(device).type == "cpu" else "float32 or float16"
        say(f"{device_name(device)} emulates bfloat16, which is slow; {faster} is faster")
    return dtypes[name]


def has_bfloat16(device: torch.device | str) -> bool:
    """Whether the device computes in bfloat16 itself.

    GPUs before Ampere (compute capability 8.0) emulate it. So do most CPUs: a training then takes ten times as long.
    """
    device = torch.device(device)
    if device.type == "cpu":
        return cpu_has_bfloat16()
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)


def cpu_has_bfloat16(cpus: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU has instructions for bfloat16, by the kernel's list of its features."""
    try:
        features = cpus.read_text().split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(features)


def device_name(device: torch.device | str) -> str:
    """The name of a GPU, or "this CPU"."""
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else "this CPU"


def half_precision(device: torch.device | str) -> torch.dtype:
    """The 16-bit format that a GPU computes in: bfloat16, which cannot overflow, or float16 on older cards."""
    return torch.bfloat16 if has_bfloat16(device) else torch.float16


def compiled(network: nn.Module, device: torch.device | str) -> nn.Module:
    """torch.compile(network); where nothing can be compiled, the network itself, and a sentence that says why."""
    if reason := compile_problem(device):
        say(f"torch.compile does not work here ({reason}); the network runs uncompiled, which is slower")
        return network
    return torch.compile(network)  # type: ignore[return-value]


def compile_problem(device: torch.device | str) -> str:
    """Why torch.compile does not work on the device; "" if it does. It compiles a small function to find out."""
    try:
        torch.compile(_one_more)(torch.zeros(8, device=device))
    except Exception as error:  # dynamo, inductor, Triton and the C compiler have no exception in common
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return reason[:200]
    return ""


def _one_more(x: torch.Tensor) -> torch.Tensor:
    return x + 1
