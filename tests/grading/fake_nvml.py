"""A stand-in for the module pynvml, for machines without a GPU."""

# ruff: noqa: N802 - the names of NVML
from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

Usage = Iterable[tuple[int, int | None]]


class FakeNvml:
    """usage: {process: bytes} of each GPU, as pairs. modes, totals: one of each GPU. looks: measurements so far.

    broken: the functions that fail, as a driver lets them fail that does not support them.
    """

    NVML_COMPUTEMODE_EXCLUSIVE_THREAD = 1
    NVML_COMPUTEMODE_EXCLUSIVE_PROCESS = 3

    class NVMLError(Exception):
        pass

    def __init__(
        self,
        usage: Callable[[], Sequence[Usage]] = lambda: [[]],
        modes: Sequence[int] = (0,),
        totals: Sequence[int] = (20 * 2**30,),
        broken: Sequence[str] = (),
    ) -> None:
        self.usage, self.modes, self.totals, self.broken, self.looks = usage, modes, totals, broken, 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in self.broken:
            raise self.NVMLError("Not Supported")
        return super().__getattribute__(name)

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return len(self.modes)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: int) -> list[SimpleNamespace]:
        self.looks += 1
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.usage()[gpu]]

    def nvmlDeviceGetComputeMode(self, gpu: int) -> int:
        return self.modes[gpu]

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> SimpleNamespace:
        return SimpleNamespace(total=self.totals[gpu])


def install_nvml(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> FakeNvml:
    """Let `import pynvml` give a stand-in."""
    fake = FakeNvml(**facts)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake
