"""The CPU time of a run: what it used, and what it wanted and did not get because others used the CPUs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from grading.sandbox.channel import read_start

OWED_CORES = 1.0
"""CPU cores that a run is owed while it wants them. A machine with fewer for each run has too many workers."""

LEAST_LOST = 0.25
"""The part of its time that a run must have lost by waiting, to have got less than its share."""

INTERVAL = 1.0
"""Seconds between two looks at the threads of a run. A thread that ends in between loses its last second."""


@dataclass(frozen=True)
class CpuUse:
    """CPU time of one run, in seconds.

    wall: how long it ran. used: by all its threads. waited: by all its threads, while ready to run. idle: of the cores
    that it might have used, while they had nothing to do. Who sleeps neither uses nor waits.
    """

    wall: float
    used: float
    waited: float
    idle: float

    @property
    def lost(self) -> float:
        """CPU seconds that the run was owed and did not get; 0 if it got its share.

        A run is owed what it wanted, at most OWED_CORES. What it lost while cores were idle is its own doing, such as
        threads that it bound to one core, and so is what its own threads took from each other: those were used.
        """
        owed = min(self.used + self.waited, OWED_CORES * self.wall)
        lost = owed - self.used
        return lost if lost >= LEAST_LOST * self.wall and self.idle < lost else 0.0


class CpuMeter:
    """Measures a running command. processes: a descriptor of the /proc of its process namespace."""

    def __init__(self, processes: int) -> None:
        self.processes, self.began, self.idle = processes, time.monotonic(), idle_seconds()
        self.threads: dict[tuple[str, str], tuple[int, int]] = {}
        self.ended_used = self.ended_waited = 0
        self.next_look = 0.0

    def look(self, *, now: bool = False) -> None:
        """Look at all threads, once in INTERVAL unless it must be now. One that is gone keeps what it had."""
        if not now and time.monotonic() < self.next_look:
            return
        found = dict(self._threads())
        for thread, (used, waited) in self.threads.items():
            now_used, now_waited = found.get(thread, (-1, -1))
            if now_used < used or now_waited < waited:  # it has ended, and another may have its number
                self.ended_used += used
                self.ended_waited += waited
        self.threads = found
        self.next_look = time.monotonic() + INTERVAL

    def use(self, used: float) -> CpuUse:
        """What was found until now. used: CPU seconds that were counted in another way, with ended processes."""
        seen = (self.ended_used + sum(used for used, _ in self.threads.values())) / 1e9
        waited = (self.ended_waited + sum(waited for _, waited in self.threads.values())) / 1e9
        return CpuUse(time.monotonic() - self.began, max(used, seen), waited, idle_seconds() - self.idle)

    def _threads(self) -> Iterator[tuple[tuple[str, str], tuple[int, int]]]:
        """Nanoseconds that each thread ran and waited, see Documentation/scheduler/sched-stats.rst of Linux."""
        for process in os.listdir(self.processes):  # noqa: PTH208 - of a descriptor
            for thread in self._names(f"{process}/task") if process.isdecimal() else ():
                fields = read_start(self.processes, f"{process}/task/{thread}/schedstat").split()
                if len(fields) == 3:
                    yield (process, thread), (int(fields[0]), int(fields[1]))

    def _names(self, path: str) -> list[str]:
        with suppress(OSError):
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.processes)
            try:
                return os.listdir(folder)  # noqa: PTH208 - of a descriptor
            finally:
                os.close(folder)
        return []


def idle_seconds(stat: Path = Path("/proc/stat")) -> float:
    """Seconds for which the cores that this process may use have been idle, in all. stat: as in proc_stat(5)."""
    cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    lines = (line.split() for line in stat.read_text().splitlines())
    ticks = sum(int(fields[4]) + int(fields[5]) for fields in lines if fields and fields[0] in cores)
    return ticks / os.sysconf("SC_CLK_TCK")
