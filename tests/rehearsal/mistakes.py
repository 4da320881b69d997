"""Cases that must fail: each makes one mistake that a real GPU would refuse, or that the rehearsal is there to find."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from tests.rehearsal.measure import Case, Mark


def two_devices(mark: Mark) -> None:
    torch.zeros(2, device="cuda") + torch.zeros(2)


def two_gpus(mark: Mark) -> None:
    torch.zeros(2, device="cuda:0") + torch.zeros(2, device="cuda:1")


def two_dtypes(mark: Mark) -> None:
    torch.zeros(2, 2, device="cuda").half() @ torch.zeros(2, 2, device="cuda")


def tf32_convolution(mark: Mark) -> None:
    F.conv2d(torch.zeros(1, 3, 8, 8, device="cuda"), torch.zeros(3, 3, 3, 3, device="cuda"))


def tf32_gradient(mark: Mark) -> None:
    weight = torch.zeros(3, 3, 3, 3, device="cuda", requires_grad=True)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        output = F.conv2d(torch.zeros(1, 3, 8, 8, device="cuda"), weight)
    output.sum().backward()


def tf32_product(mark: Mark) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        torch.zeros(2, 2, device="cuda") @ torch.zeros(2, 2, device="cuda")
    finally:
        torch.set_float32_matmul_precision(before)


def too_large(mark: Mark) -> None:
    kept = [torch.zeros(2**28, device="cuda") for _ in range(3)]
    del kept


def freed_in_time(mark: Mark) -> None:
    for _ in range(3):
        torch.zeros(2**28, device="cuda")
    raise ValueError("nothing was refused")


def other_device(mark: Mark) -> None:
    torch.zeros(2, device="cuda")


def much(mark: Mark) -> None:
    torch.zeros(2**28, device="cuda")


def waiting(mark: Mark) -> None:
    for _ in range(2):
        mark()
        torch.zeros(2, device="cuda").sum().item()
        torch.zeros(2, device="cuda").cpu()
    mark()


MISTAKES = {
    Case("mistake: a GPU and the CPU", two_devices): "devices",
    Case("mistake: two GPUs", two_gpus, devices=2): "devices",
    Case("mistake: two dtypes", two_dtypes): "mm of torch.float16 and torch.float32",
    Case("mistake: TF32 in a convolution", tf32_convolution): "convolution in float32 while TF32 is on",
    Case("mistake: TF32 in a gradient", tf32_gradient): "convolution_backward in float32 while TF32 is on",
    Case("mistake: TF32 in a product", tf32_product): "mm in float32 while TF32 is on",
    Case("mistake: 3 GiB on 2.5", too_large, total=2.5): "CUDA out of memory. Tried to allocate 1.00 GiB",
    Case("mistake: none, 1 GiB thrice on 2.5", freed_in_time, total=2.5): "nothing was refused",
    Case("mistake: the other GPU", other_device, devices=2, place=1): "used cuda:0; expected cuda:1 alone",
    Case("mistake: more than the figure", much, most_gib=0.9): "1.00 GiB lived at once; expected at most 0.99",
    Case("mistake: waiting", waiting, most_syncs=1): "the CPU waited 2 times in a step; expected at most 1",
}
"""Each case, and what its row must say."""
