"""Limits on what a command may use, and the watch that checks its memory, GPU memory, processes and disk space."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from grading.core.errors import GradingError
from grading.core.text import printable
from grading.sandbox.cgroups import Group
from grading.sandbox.channel import read_start
from grading.sandbox.folders import usage
from grading.sandbox.nvml import GpuMemory
from grading.sandbox.unmapped import Unmapped

MEMORY_RESERVE, DISK_RESERVE = 256 * 2**20, 2**30
"""Bytes that must stay free on the machine. With less, the run stops; the submission is not blamed."""

DISK_INTERVAL = 1.0
"""Least seconds between two checks of the folders on disk, which take longer than the other checks."""

NO_LIMIT = 2**40
"""More entries than any disk has."""

Limit = Literal["", "seconds", "memory", "processes", "space", "files", "file size", "gpu memory"]


@dataclass(frozen=True)
class Limits:
    """The limits of one command.

    memory_bytes: memory of all its processes, and of its files in /output and /tmp, which are kept in memory.
    processes: processes and threads at the same time. space_bytes, files: in each folder that it may write to.
    file_bytes: size of one file. gpu_bytes: memory of all its processes on all GPUs, with what CUDA itself needs; the
    course's machine has one RTX A4500 with 20 GB.
    """

    seconds: float = 900.0
    memory_bytes: int = 16 * 2**30
    processes: int = 1024
    space_bytes: int = 2**30
    files: int = 20_000
    file_bytes: int = 2**30
    gpu_bytes: int = 20 * 2**30


class Watch:
    """Checks the limits of a command that runs in its own process namespace.

    processes: a descriptor of that namespace's /proc. in_memory: descriptors of the file systems that it keeps in
    memory; the kernel bounds their size. disks: the folders of the host that it may write to. copies: those that were
    filled for it; only what it adds to them counts. gpu: measures its GPU memory, None if it has no GPU. memory: its
    group, in which the kernel holds the limit on memory, or else what finds the memory that no process has mapped.
    """

    def __init__(
        self,
        limits: Limits,
        processes: int,
        in_memory: Sequence[int],
        disks: Sequence[Path],
        copies: Sequence[Path],
        gpu: GpuMemory | None = None,
        memory: Group | Unmapped | None = None,
    ) -> None:
        self.limits, self.processes, self.in_memory, self.gpu = limits, processes, in_memory, gpu
        self.group = memory if isinstance(memory, Group) else None
        self.unmapped = memory if isinstance(memory, Unmapped) else None
        self.disks = dict.fromkeys(disks, (0, 0)) | {copy: usage(copy, NO_LIMIT) for copy in copies}
        self.next_disk_check = self.cpu_seconds = 0.0

    def exceeded(self) -> Limit:
        """The limit that is exceeded now; empty if there is none.

        The kernel enforces the limits on processes and space; this detects that they are reached. Raises GradingError
        if the machine itself runs out of memory or disk space.
        """
        if self._killed():
            return "memory"
        used_by_files, limit = self._files_in_memory()
        if limit:
            return limit
        if self.unmapped:
            used_by_files += self.unmapped.used()
        tasks, resident = self._tasks()
        if tasks >= self.limits.processes:
            return "processes"
        most = self.limits.memory_bytes
        if used_by_files + resident > most and self._memory(used_by_files) > most:
            return "memory"
        if self.gpu and self.gpu.used() > self.limits.gpu_bytes:
            return "gpu memory"
        _check_machine_memory()
        return self._exceeded_on_disk()

    def _killed(self) -> bool:
        """Whether the kernel killed a process because the run reached its own limit on memory."""
        killed, reached = self.group.killed() if self.group else (False, False)
        if killed and not reached:
            raise out_of_memory()
        return killed

    def _files_in_memory(self) -> tuple[int, Limit]:
        """Bytes of the files in memory, and the limit that they exceed. It stops at the first excess."""
        used = 0
        for space in self.in_memory:
            system = os.fstatvfs(space)
            used += (system.f_blocks - system.f_bfree) * system.f_frsize
            if system.f_bfree == 0:
                return used, "space"
            if system.f_files - system.f_ffree > self.limits.files:
                return used, "files"
        return used, ""

    def _tasks(self) -> tuple[int, int]:
        """Number of threads, and the resident bytes of all processes, which count shared memory more than once.

        Each process also has the CPU time of its children that it waited for. Their sum is kept.
        """
        tasks = resident = ticks = 0
        for process in self._pids():
            fields = read_start(self.processes, f"{process}/stat").rpartition(b")")[2].split()
            if fields:  # proc(5): 14 to 17 CPU times, 20 num_threads, 24 rss, counted after the name, which is 2
                ticks += sum(map(int, fields[11:15]))
                tasks += int(fields[17])
                resident += int(fields[21]) * os.sysconf("SC_PAGESIZE")
        self.cpu_seconds = max(self.cpu_seconds, ticks / os.sysconf("SC_CLK_TCK"))
        return tasks, resident

    def _pids(self) -> Iterator[str]:
        return (name for name in os.listdir(self.processes) if name.isdecimal())  # noqa: PTH208 - of a descriptor

    def _memory(self, used_by_files: int) -> int:
        """Bytes that the kernel cannot reclaim, with shared ones counted once (slower than adding `rss`).

        A program that its user may not read shows only its `rss` to a grader that is not root.
        """
        private, shared = 0, 0
        for process in self._pids():
            if not (told := read_start(self.processes, f"{process}/smaps_rollup")):
                private += self._resident(process)
            for line in told.splitlines():
                if line.startswith(b"Pss_Anon:"):
                    private += int(line.split()[1]) * 1024
                elif line.startswith(b"Pss_Shmem:"):
                    shared += int(line.split()[1]) * 1024
        return private + max(shared, used_by_files)

    def _resident(self, process: str) -> int:
        fields = read_start(self.processes, f"{process}/stat").rpartition(b")")[2].split()
        return int(fields[21]) * os.sysconf("SC_PAGESIZE") if fields else 0

    def _exceeded_on_disk(self) -> Limit:
        began = time.monotonic()
        if not self.disks or began < self.next_disk_check:
            return ""
        for disk, (used_before, files_before) in self.disks.items():
            _check_machine_disk(disk)
            used, files = usage(disk, files_before + self.limits.files)
            if used - used_before > self.limits.space_bytes:
                return "space"
            if files - files_before > self.limits.files:
                return "files"
        ended = time.monotonic()
        self.next_disk_check = ended + max(DISK_INTERVAL, ended - began)
        return ""


def out_of_memory() -> GradingError:
    """The error of a run that was stopped because the machine's memory ran out."""
    return GradingError("the machine ran out of memory during the run; grade fewer submissions at a time")


def oom_kills() -> int:
    """How many processes this machine's kernel has killed because memory ran out (/proc/vmstat)."""
    found = re.search(rb"^oom_kill (\d+)$", Path("/proc/vmstat").read_bytes(), re.MULTILINE)
    return int(found[1]) if found else 0


def _check_machine_memory() -> None:
    available = re.search(rb"MemAvailable:\s*(\d+)", Path("/proc/meminfo").read_bytes())
    if available and int(available[1]) * 1024 < MEMORY_RESERVE:
        raise out_of_memory()


def _check_machine_disk(folder: Path) -> None:
    system = os.statvfs(folder)
    if system.f_bavail * system.f_frsize < DISK_RESERVE:
        least = f"{DISK_RESERVE / 2**30:g} GiB"
        shown = printable(str(folder))
        raise GradingError(f"the disk of {shown} has less than {least} of free space; free some space and grade again")
