"""Lets several processes use a folder. Only one may write at a time, and a file is written whole or not at all."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.text import printable

LOOK = 0.2
"""Seconds between two attempts to get a lock."""


@contextmanager
def locked(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Make a folder and lock it against other gradings. The lock ends with its process, even if that is killed.

    wait: seconds to wait for another process's lock. Raises GradingError if it is still held then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + wait
    with (folder / ".lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    shown = printable(str(folder))
                    raise GradingError(f"another grading run uses {shown}; wait until it ends, or stop it") from None
                time.sleep(LOOK)
        yield


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises OSError if it cannot be written."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
