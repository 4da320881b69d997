"""The device that judges run on."""

from __future__ import annotations

import functools
import os
import re
import sys
import warnings

import torch

from grading.core.errors import GradingError
from grading.core.log import to_file
from grading.core.text import counted, printable
from grading.sandbox.gpu import driver_version, hides_gpus


def chosen_device(name: str) -> str:
    """The device of that name; "auto" is a GPU if there is one. Raises GradingError if there is no such device.

    Where this PyTorch cannot use the NVIDIA GPU of the machine, "auto" is the CPU, and stderr says why.
    """
    if name == "auto":
        number, trouble = _usable_gpus()
        if not number and trouble:
            _tell(f"The judges run on the CPU, because {trouble}.")
        return "cuda" if number else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise GradingError(
            f"the device for the judges is {printable(name)}; expected cpu, cuda, cuda:N or auto", option="device"
        )
    if device.type == "cuda":
        _check_gpu(name, device.index or 0)
    return name


def _check_gpu(name: str, index: int) -> None:
    number, trouble = _usable_gpus()
    if index < number:
        return
    found = counted(number, "CUDA device") if number else "no CUDA device"
    reason = f"{trouble}, or choose cpu" if trouble else f"PyTorch finds {found} here; choose cpu"
    raise GradingError(f"the device for the judges is {name}, but {reason}", option="device")


def _usable_gpus() -> tuple[int, str]:
    """How many GPUs PyTorch can use. If the machine has a GPU and PyTorch can use none, also why: "FOUND; REMEDY".

    `device_count` alone asks NVML, which also counts GPUs whose driver is too old.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    driver = "" if number or hides_gpus(os.environ) else driver_version()
    return number, _trouble(driver, " ".join(str(each.message) for each in said)) if driver else ""


def _trouble(driver: str, said: str) -> str:
    """Why PyTorch cannot use a GPU, and what to install. said: PyTorch's warnings, which it gives once a process."""
    wheel = torch.version.cuda
    if wheel is None:
        return f"PyTorch {torch.__version__} is built without CUDA; install a PyTorch with CUDA"
    found = f"the NVIDIA driver {driver}"
    if old := re.search(r"too old \(found version (\d+)\)", said):
        # as cudaDriverGetVersion counts: 1000 * major + 10 * minor
        supports = f"CUDA {int(old[1]) // 1000}.{int(old[1]) % 1000 // 10}"
        return (
            f"{found} supports {supports}, and PyTorch {torch.__version__} needs CUDA {wheel}; install a newer driver "
            f"or a PyTorch for {supports}"
        )
    reason = f" ({printable(' '.join(said.split())[:200])})" if said else ""
    return (
        f"PyTorch {torch.__version__} cannot use the GPU with {found}{reason}; install a driver for CUDA {wheel}, or a "
        "PyTorch for this driver"
    )


@functools.cache
def _tell(sentence: str) -> None:
    """Print a sentence once a process, though each judge asks for its device."""
    sys.stderr.write(f"{sentence}\n")
    to_file(sentence)
