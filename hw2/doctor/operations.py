"""Whether the device computes what it should: small operations against the CPU in float64, and the same bits twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from hw2.devices.arithmetic import exact, training_arithmetic
from hw2.doctor.machine import format_name, native_formats
from hw2.doctor.rows import Row, first_line, remedy_for

LIMITS = {torch.float32: 2e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""Largest error of a sound operation, relative to the largest result.

Results in 16 bits are rounded by 2**-11 (float16) or 2**-8 (bfloat16); ten such roundings are allowed. float32 is
rounded by 6e-8, and sums of 500 products lose up to 2e-6 of the largest. TF32, which is an error here, loses 2e-4.
"""

TF32 = 2e-3
"""Errors of float32 up to this are those of TF32, which cuts factors to 10 bits; wrong results are far above."""

UPDATE = "update the driver and PyTorch; until then use --device cpu"


def _product(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


def _convolution(images: Tensor, weights: Tensor) -> Tensor:
    return F.conv2d(images, weights, padding=1)


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value)


def _group_norm(images: Tensor) -> Tensor:
    return F.group_norm(images, 8)


OPERATIONS: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...]]] = {
    "matrix product": (_product, ((256, 512), (512, 256))),
    "convolution": (_convolution, ((2, 32, 24, 24), (32, 32, 3, 3))),
    "attention": (_attention, ((1, 4, 256, 40),) * 3),
    "group norm": (_group_norm, ((2, 32, 24, 24),)),
}
"""Name -> (operation, shapes of its inputs): what all networks here consist of, small enough for a CPU."""


@torch.no_grad()
def error(name: str, device: torch.device, dtype: torch.dtype) -> float:
    """The largest error of an operation in this format, relative to the largest result in float64 on the CPU.

    The same inputs, rounded to the format, are given to both.
    """
    operation, shapes = OPERATIONS[name]
    g = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=g, dtype=torch.float64).to(dtype) for shape in shapes]
    expected = operation(*(value.double() for value in inputs))
    with exact():
        found = operation(*(value.to(device) for value in inputs)).cpu().double()
    return float((found - expected).abs().max() / expected.abs().max())


def operations(device: torch.device, dtype: torch.dtype) -> Iterator[Row]:
    """All operations in one format, with their errors. An operation that fails or is wrong is a row of its own."""
    name, limit = format_name(dtype), LIMITS[dtype]
    sound: dict[str, float] = {}
    for operation in OPERATIONS:
        try:
            found = error(operation, device, dtype)
        except Exception as reason:  # cuBLAS, cuDNN and Triton have no exception in common
            failure = f"the {operation} in {name} failed: {first_line(reason)}"
            yield _wrong(failure, device, dtype, remedy_for(reason))
            continue
        if found <= limit:
            sound[operation] = found
        else:
            differs = f"the {operation} in {name} differs from float64 on the CPU by {found:.1e}"
            yield _wrong(f"{differs}; at most {limit:.0e} is rounding", device, dtype)
    if sound:
        errors = ", ".join(f"{operation} {found:.0e}" for operation, found in sound.items())
        yield Row(f"{name} operations", "ok", f"errors against float64 on the CPU: {errors}")


def _wrong(found: str, device: torch.device, dtype: torch.dtype, remedy: str = UPDATE) -> Row:
    """A problem; only a warning in a format that no command takes on this device unless it is told to."""
    name = format_name(dtype)
    if dtype not in native_formats(device):
        return Row(f"{name} operations", "warning", found, f"do not use --dtype {name} here")
    return Row(f"{name} operations", "problem", found, remedy)


def tf32(device: torch.device) -> Iterator[Row]:
    """Whether TF32 is off where it should be: products and convolutions of float32 at float32's own error."""
    errors = {name: error(name, device, torch.float32) for name in ("matrix product", "convolution")}
    shown = ", ".join(f"{name} {found:.1e}" for name, found in errors.items())
    worst = max(errors.values())
    if worst <= LIMITS[torch.float32]:
        yield Row("TF32", "ok", f"off; errors of float32: {shown}")
    elif worst <= TF32:
        remedy = "unset NVIDIA_TF32_OVERRIDE, TORCH_ALLOW_TF32_CUBLAS_OVERRIDE and ONEDNN_DEFAULT_FPMATH_MODE"
        yield Row("TF32", "problem", f"float32 is computed in TF32 or less, though it is off; errors: {shown}", remedy)
    else:
        yield Row("TF32", "problem", f"unknown, because float32 is wrong; errors: {shown}", "see the float32 row")


def training_step(device: torch.device, *, deterministic: bool) -> list[Tensor]:
    """The gradients of one step of a small convolution and a linear layer; the same inputs each time."""
    g = torch.Generator().manual_seed(0)
    shapes = ((8, 16, 16, 16), (32, 16, 3, 3), (10, 32 * 8 * 8))
    images, *weights = (torch.randn(shape, generator=g).to(device) for shape in shapes)
    for weight in weights:
        weight.requires_grad_()
    with training_arithmetic(deterministic):
        hidden = F.silu(F.conv2d(images, weights[0], stride=2, padding=1))
        F.linear(hidden.flatten(1), weights[1]).square().mean().backward()
    return [weight.grad for weight in weights if weight.grad is not None]


def repeats(device: torch.device) -> Iterator[Row]:
    """Whether a training step gives the same bits twice, with and without `--deterministic`."""
    same = {}
    for deterministic in (True, False):
        first, second = (training_step(device, deterministic=deterministic) for _ in range(2))
        same[deterministic] = all(map(torch.equal, first, second))
    if not same[True]:
        found = "two training steps differ, although only deterministic operations are used"
        yield Row("repeat", "problem", found, "update the driver and PyTorch; the memory of the card may be defective")
    elif same[False]:
        yield Row("repeat", "ok", "two training steps give the same bits, with --deterministic and without")
    else:
        yield Row("repeat", "ok", "two training steps give the same bits with --deterministic; without it they differ")
