"""The device that judges run on."""

from __future__ import annotations

import torch

from grading.core.errors import GradingError
from grading.core.text import counted, printable


def chosen_device(name: str) -> str:
    """The device of that name; "auto" is a GPU if there is one. Raises GradingError if there is no such device."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise GradingError(
            f"the device for the judges is {printable(name)}; expected cpu, cuda, cuda:N or auto", option="device"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = counted(torch.cuda.device_count(), "CUDA device") if torch.cuda.device_count() else "no CUDA device"
        raise GradingError(
            f"the device for the judges is {name}, but PyTorch finds {found} here; choose cpu", option="device"
        )
    return name
