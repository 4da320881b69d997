"""What NVIDIA's management library (NVML) says about GPUs: the memory of a sandbox's processes, and who may use it."""

from __future__ import annotations

import importlib
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from grading.core.extras import install
from grading.core.system import said

INTERVAL = 0.25
"""Seconds between two measurements, each of which asks the driver about every GPU."""


class UnmeasuredError(Exception):
    """NVML does not say it. The message continues "not measured, because ..", and says what to do if that helps."""


class GpuMemory:
    """The GPU memory of the processes in one process namespace, in bytes, over all GPUs.

    init: the host's number of any process in the namespace. proc: the host's /proc. peak: the most that was found; None
    if nothing can be measured, as where NVML is missing, or does not know the memory of a process (WSL2). NVML numbers
    processes as the host does. In a container it may know other numbers; then no process is found, and peak stays 0.
    """

    def __init__(self, init: int, proc: Path = Path("/proc")) -> None:
        self.proc, self.next_look, self.last = proc, 0.0, 0
        self.namespace = self._namespace(init)
        self.peak: int | None = None
        with suppress(UnmeasuredError):
            self.nvml = load_nvml()
            self.peak = 0

    def used(self) -> int:
        """The bytes in use, as of the last INTERVAL seconds; 0 if they cannot be measured."""
        if self.peak is None or time.monotonic() < self.next_look:
            return self.last
        try:
            self.last = self._measured()
        except UnmeasuredError:
            self.peak, self.last = None, 0
            return 0
        self.peak = max(self.peak, self.last)
        self.next_look = time.monotonic() + INTERVAL
        return self.last

    def _measured(self) -> int:
        total = 0
        try:
            for gpu in _gpus(self.nvml):
                for process in self.nvml.nvmlDeviceGetComputeRunningProcesses(gpu):
                    if self.namespace is None or self._namespace(process.pid) != self.namespace:
                        continue
                    if process.usedGpuMemory is None:  # as under WDDM, says the manual
                        raise UnmeasuredError("the driver does not know the memory of a process")
                    total += process.usedGpuMemory
        except self.nvml.NVMLError as error:
            raise UnmeasuredError(str(error)) from None
        return total

    def _namespace(self, process: int) -> tuple[int, int] | None:
        """The process namespace of a process; None if it has ended, or may not be looked at."""
        with suppress(OSError):
            status = (self.proc / str(process) / "ns" / "pid").stat()
            return status.st_dev, status.st_ino
        return None


def load_nvml() -> Any:
    """The module pynvml, ready for use. Raises UnmeasuredError if it or NVML is missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an older package of the same name warns about itself
            nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        raise UnmeasuredError(f"nvidia-ml-py is not installed; run {install('gpu')}") from None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise UnmeasuredError(f"NVML does not start ({error})") from None
    return nvml


def why_unmeasured(peak: int | None) -> str:
    """Why the GPU memory of a run that used a GPU was not measured; empty if it was. peak: as `GpuMemory` found it."""
    if peak:
        return ""
    try:
        load_nvml()
    except UnmeasuredError as reason:
        return str(reason)
    return "NVML does not know the memory of the sandbox's processes here"


def total_memory() -> list[int]:
    """The memory of each GPU in bytes; empty if NVML does not know it."""
    try:
        nvml = load_nvml()
        return [int(nvml.nvmlDeviceGetMemoryInfo(gpu).total) for gpu in _gpus(nvml)]
    except UnmeasuredError:
        pass
    except nvml.NVMLError:
        pass
    return []


def is_exclusive() -> bool:
    """Whether a GPU here serves one process at a time. Its compute mode is then exclusive-process."""
    try:
        nvml = load_nvml()
        modes = (nvml.NVML_COMPUTEMODE_EXCLUSIVE_THREAD, nvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS)
        return any(nvml.nvmlDeviceGetComputeMode(gpu) in modes for gpu in _gpus(nvml))
    except UnmeasuredError:
        pass
    except nvml.NVMLError:  # WSL2 has no compute modes
        return False
    return "Exclusive" in said("nvidia-smi", "--query-gpu=compute_mode", "--format=csv,noheader")


def _gpus(nvml: Any) -> list[Any]:
    return [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
