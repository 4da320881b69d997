"""Temporary folders: named after their process, so that what a killed process left is removed later."""

from __future__ import annotations

import functools
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from grading.sandbox.folders import remove

PLACES = tuple(dict.fromkeys((Path("/tmp"), Path(tempfile.gettempdir()))))  # noqa: S108 - private folders are made in it
"""The folders of the host in which temporary folders are made."""

NAME = re.compile(r"hw2-(?:grade|ray|probe|check)-([0-9]{1,9})-([0-9a-f]{4})-")
"""The number of the process that made a folder, and what tells its process namespace from others."""


def prefix(kind: str) -> str:
    """The beginning of a temporary folder's name. kind: one of those in NAME."""
    return f"hw2-{kind}-{os.getpid()}-{_namespace()}-"


@contextmanager
def temporary_folder(kind: str, beside: Path | None = None) -> Iterator[Path]:
    """A new folder that is removed in the end, however deep and closed what untrusted code left in it is.

    kind: one of those in NAME. beside: the folder in which it is made; the system's own if None. Raises OSError if it
    cannot be made; what cannot be removed stays.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix(kind), dir=beside))
    try:
        yield folder
    finally:
        with suppress(OSError):
            remove(folder)


@functools.cache
def remove_litter() -> None:
    """Remove the temporary folders of this user's dead processes, and nothing that a link leads to or that is mounted.

    Only the first call in a process does so. A folder of another process namespace stays, because the same number means
    another process there. A folder that cannot be removed stays as well.
    """
    mounted = mount_points()
    for place in PLACES:
        with suppress(OSError):
            for name in os.listdir(place):  # noqa: PTH208 - only names are needed
                if _is_litter(place / name, mounted):
                    with suppress(OSError):
                        remove(place / name)


def is_left_over(name: str) -> bool:
    """Whether a name is that of a folder or a control group which a dead process of this namespace made."""
    found = NAME.match(name)
    return found is not None and found[2] == _namespace() and not _lives(int(found[1]))


def _is_litter(path: Path, mounted: set[Path]) -> bool:
    if not is_left_over(path.name):
        return False
    try:
        status = path.lstat()
    except OSError:
        return False
    here = path.parent.resolve() / path.name
    own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return own and not any(point.is_relative_to(here) for point in mounted)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _namespace() -> str:
    return f"{Path('/proc/self/ns/pid').stat().st_ino & 0xFFFF:04x}"


def mount_points() -> set[Path]:
    """The folders and files on which something is mounted, as this process sees them."""
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    escaped = (os.fsdecode(line.split()[4]) for line in lines)
    return {Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point)) for point in escaped}
