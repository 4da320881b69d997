"""All checks, in the order of the table."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial

import torch

from hw2.devices.arithmetic import training_arithmetic
from hw2.devices.choose import chosen_device, cuda_devices
from hw2.doctor import machine, operations, times
from hw2.doctor.rows import Check, Row, checked

FORMATS = (torch.float32, torch.float16, torch.bfloat16)


def examined_device(name: str) -> torch.device:
    """The device of that name, as for `chosen_device`; for "auto" it says nothing, because the driver's row does."""
    if name == "auto":
        return torch.device("cuda" if cuda_devices() else "cpu")
    return torch.device(chosen_device(name))


def examine(device: torch.device, tries_compile: bool | None, on_check: Callable[[str], None]) -> list[Row]:
    """Check the machine, and compute on the device. tries_compile: None tries torch.compile on a GPU only.

    on_check is called with the name of each check before it starts.
    """
    rows = checked("device", lambda: _entered(device))
    tries = device.type == "cuda" if tries_compile is None else tries_compile
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the rows say what PyTorch's warnings would
        with training_arithmetic(deterministic=True):  # cuBLAS chooses its workspace at the first product
            pass
        for name, check in checks(device, tries).items():
            on_check(name)
            rows += checked(name, check)
    return rows


def checks(device: torch.device, tries_compile: bool) -> dict[str, Check]:
    """Name -> check. A failing check takes its name as that of its row."""
    wanted: dict[str, Check] = {
        "versions": machine.versions,
        "driver": machine.driver,
        **{f"cuda:{index}": partial(machine.card_rows, index) for index in range(cuda_devices())},
        "GPUs": machine.several,
        "CPU": partial(machine.processor, device),
        "compiler": partial(machine.compiler, device, tries=tries_compile),
    }
    for dtype in FORMATS:
        wanted[f"{machine.format_name(dtype)} operations"] = partial(operations.operations, device, dtype)
    wanted["TF32"] = partial(operations.tf32, device)
    wanted["repeat"] = partial(operations.repeats, device)
    wanted["rate"] = partial(_times, device)
    return wanted


def _entered(device: torch.device) -> list[Row]:
    """No row; the device is the current one from now on."""
    if device.index is not None:
        torch.cuda.set_device(device)
    return []


def _times(device: torch.device) -> Iterator[Row]:
    found, rows = times.rates(device, machine.native_formats(device))
    yield from rows
    yield from times.tasks(found, machine.room(device))
