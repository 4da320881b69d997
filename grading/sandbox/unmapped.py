"""Memory that no process of a run has mapped, counted where no control group counts it.

Files of memfd_create are found by their open descriptors. Those that are on their way through a socket are not found.
Segments of System V stay when every process has let them go. They are listed in the run's own IPC namespace.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

NS_GET_USERNS = 0xB701
"""The request of ioctl_ns(2) for the user namespace that owns another namespace."""

MOST_TIME = 0.1
"""The part of the grader's time that the count may take. After a slow count, the last one holds for longer."""


class Unmapped:
    """Counts what the processes of a sandbox keep. processes: a descriptor of its /proc. init: its first process.

    Raises OSError if that process has ended.
    """

    def __init__(self, processes: int, init: int, resources: ExitStack) -> None:
        self.processes = processes
        self.ipc = os.open(f"/proc/{init}/ns/ipc", os.O_RDONLY)
        resources.callback(os.close, self.ipc)
        self.owner = fcntl.ioctl(self.ipc, NS_GET_USERNS)
        resources.callback(os.close, self.owner)
        self.bytes, self.next_count = 0, 0.0

    def used(self) -> int:
        """Bytes that were found by the last count, which is of now if counting is quick."""
        began = time.monotonic()
        if began >= self.next_count:
            self.bytes = sum(dict(self._memfds()).values()) + self._segments()
            ended = time.monotonic()
            self.next_count = ended + (ended - began) / MOST_TIME
        return self.bytes

    def _memfds(self) -> Iterator[tuple[tuple[int, int], int]]:
        """Each file of memfd_create, which many descriptors may share, with its bytes."""
        for process in os.listdir(self.processes):  # noqa: PTH208 - of a descriptor
            if not process.isdecimal():
                continue
            with suppress(OSError):
                folder = os.open(f"{process}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.processes)
                try:
                    yield from _memfds_of(folder)
                finally:
                    os.close(folder)

    def _segments(self) -> int:
        """Bytes of the segments of System V, in memory and swapped out."""
        user = [] if os.geteuid() == 0 else [f"--user=/proc/self/fd/{self.owner}", "--preserve-credentials"]
        command = ["nsenter", *user, f"--ipc=/proc/self/fd/{self.ipc}", "cat", "/proc/sysvipc/shm"]
        listed = subprocess.run(  # noqa: S603 - a system command
            command, env={"PATH": os.defpath}, pass_fds=[self.ipc, self.owner], capture_output=True, check=False
        )
        lines = [line.split() for line in listed.stdout.splitlines()]
        columns = [number for number, name in enumerate(lines[0]) if name in (b"rss", b"swap")] if lines else []
        return sum(int(fields[column]) for fields in lines[1:] for column in columns)


def _memfds_of(folder: int) -> Iterator[tuple[tuple[int, int], int]]:
    for name in os.listdir(folder):
        with suppress(OSError):
            if os.readlink(name, dir_fd=folder).startswith("/memfd:"):
                found = os.stat(name, dir_fd=folder)
                yield (found.st_dev, found.st_ino), found.st_blocks * 512
