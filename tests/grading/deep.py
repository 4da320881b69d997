"""Folders that are deeper than any path, for tests. They remove them, since pytest cannot."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def deep_place() -> Iterator[Path]:
    """A folder that every user can reach, removed by the system's own command.

    It is in memory where it can be: some disks take milliseconds to remove one folder.
    """
    place = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp")
    os.chmod(place, 0o755)
    try:
        yield Path(place)
    finally:
        subprocess.run(["chmod", "-R", "u+rwx", place], check=False)
        subprocess.run(["rm", "-rf", place], check=True)


def nest(folder: Path, depth: int, name: str = "d", content: bytes = b"", leaf: str = "leaf") -> None:
    """Make folders, one in the other, and a file in the innermost."""
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    file = os.open(leaf, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=here)
    os.write(file, content)
    os.close(file)
    os.close(here)
