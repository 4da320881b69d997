"""The device that a command runs on, and the other processes of a launcher."""

from __future__ import annotations

import functools
import re
import warnings
from os import environ
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState

from hw2.devices.launcher import forget_other_launchers
from hw2.devices.memory import keep_freed_memory
from hw2.errors import InputError
from hw2.log import detail, say
from hw2.wording import counted

LEAST_DRIVER = {13: "580", 12: "525.60.13", 11: "450.80.02"}
"""Oldest Linux driver for each CUDA major version (CUDA Toolkit release notes, minor version compatibility)."""

DRIVER_FILE, CONTROL_DEVICES = Path("/proc/driver/nvidia/version"), (Path("/dev/nvidiactl"), Path("/dev/dxg"))


def chosen_device(name: str) -> str:
    """The device of that name: "cpu", "cuda", "cuda:1", or for "auto" a GPU if PyTorch can use one.

    Raises InputError if there is no such device. For "auto" on a machine whose GPU this PyTorch cannot use, it says so
    on stderr and chooses the CPU.
    """
    try:
        device = torch.device("cuda" if name == "auto" else name)
    except RuntimeError:
        device = None
    if device is None or (device.type != "cuda" and name != "cpu"):
        raise InputError(f"the device is {name!r}; expected cpu, cuda, cuda:N or auto", "device")
    if device.type == "cpu":
        return name
    problem = cuda_problem()
    if name == "auto":
        if problem:
            say(f"{problem}; the CPU is used")
        return "cuda" if cuda_devices() else "cpu"
    if problem:
        raise InputError(f"{problem}, or use the CPU", "device")
    if (device.index or 0) >= cuda_devices():
        found = counted(cuda_devices(), "CUDA device") if cuda_devices() else "no CUDA device"
        raise InputError(f"the device is {name}, but PyTorch finds {found} here; use cpu or auto", "device")
    return name


def start_processes(name: str) -> PartialState:
    """Choose this process's device, and join the other processes of a launcher. Call it before anything is loaded.

    name: as for `chosen_device`. A launcher, such as `accelerate launch`, gives each process a GPU of its own.
    Raises InputError as `chosen_device` does, and for a numbered device under a launcher.
    """
    forget_other_launchers()
    device = torch.device(chosen_device(name))
    if device.index is not None and "LOCAL_RANK" in environ:
        raise InputError(
            f"the device is {name}, but the launcher gives each process a GPU of its own; use cuda, and choose GPUs "
            "with CUDA_VISIBLE_DEVICES",
            "device",
        )
    if device.index is not None:
        torch.cuda.set_device(device)
    processes = PartialState(cpu=device.type == "cpu")
    if device.index is not None or device.type == "cpu":  # it would say "cuda", and "cpu:1" for the second process
        processes.device = device
    if device.type == "cpu":
        keep_freed_memory()
    detail(f"the device is {processes.device}")
    return processes


def start_accelerator(name: str) -> Accelerator:
    """The accelerator of `start_processes`. Its number format stays float32: trainings choose their own."""
    return Accelerator(cpu=start_processes(name).device.type == "cpu", mixed_precision="no")


def cuda_devices() -> int:
    """How many GPUs PyTorch can use. No warning escapes; `cuda_problem` says what is wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.cuda.device_count() if torch.cuda.is_available() else 0


@functools.cache
def cuda_problem() -> str:
    """Why PyTorch cannot use the GPU of this machine, and what to install.

    "" if it can, if there is no GPU, or if the user hides all by CUDA_VISIBLE_DEVICES.
    """
    if cuda_devices() or not has_nvidia_driver() or environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return ""
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} has no CUDA, but this machine has a GPU; install a PyTorch for CUDA"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return _explained(str(error))
    return ""


def _explained(reason: str) -> str:
    """The problem that PyTorch gives as the reason why it cannot start CUDA."""
    built = str(torch.version.cuda)
    if old := re.search(r"too old \(found version (\d+)\)", reason):
        supported = f"{int(old[1]) // 1000}.{int(old[1]) % 1000 // 10}"
        least = LEAST_DRIVER.get(int(built.split(".")[0]), "newer")
        return (
            f"the NVIDIA driver {driver_version()} supports CUDA {supported}, and PyTorch {torch.__version__} needs "
            f"CUDA {built}; install driver {least} or newer, or a PyTorch for CUDA {supported} "
            "(pytorch.org/get-started)"
        )
    if "No CUDA GPUs" in reason:
        visible = environ.get("CUDA_VISIBLE_DEVICES")
        why = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
        return f"the NVIDIA driver {driver_version()} shows PyTorch no GPU{why}; check nvidia-smi"
    return f"PyTorch cannot start CUDA ({' '.join(reason.split())[:200]}); check nvidia-smi"


def has_nvidia_driver() -> bool:
    """Whether this machine has an NVIDIA driver, whatever PyTorch can do with it."""
    return DRIVER_FILE.exists() or any(path.exists() for path in CONTROL_DEVICES)


def driver_version() -> str:
    """The version of the NVIDIA driver, such as "535.104.05"; "of unknown version" if the kernel does not tell it."""
    try:
        found = re.search(r"\b\d{3}\.\d+(?:\.\d+)?\b", DRIVER_FILE.read_text())
    except OSError:
        found = None
    return found[0] if found else "of unknown version"
