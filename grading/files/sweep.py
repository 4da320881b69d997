"""Takes the rights away that untrusted code may have left on its files: set-user-ID, capabilities, foreign owners."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from grading.sandbox.folders import FOLDER

CAPABILITY = "security.capability"
"""The extended attribute that holds a file's capabilities."""


def sweep(folder: Path, owner: int | None = None) -> None:
    """Make all below a folder, and the folder itself, plain files that the grader can read.

    Nothing keeps a set-user-ID, set-group-ID or sticky bit or capabilities. Folders can be searched and written by
    their owner, and files read. owner: the user and group that all is given to, links themselves included; only root
    can give files away. No process may run in the folder any more. Follows no link, and holds one descriptor at any
    depth, whatever the length of the path. Raises OSError if something cannot be changed.
    """
    descriptor = os.open(folder.parent, FOLDER & ~os.O_NOFOLLOW)
    try:
        left = [[folder.name]]
        while left:
            if left[-1]:
                name = left[-1].pop()
                if _plain(descriptor, name, owner):
                    descriptor = _moved(descriptor, name)
                    left.append(sorted(os.listdir(descriptor)))  # noqa: PTH208 - of a descriptor
                continue
            left.pop()
            if left:
                descriptor = _moved(descriptor, "..")
    finally:
        os.close(descriptor)


def _moved(descriptor: int, name: str) -> int:
    """The descriptor of a neighbouring folder, in place of this one."""
    there = os.open(name, FOLDER, dir_fd=descriptor)
    os.close(descriptor)
    return there


def _plain(folder: int, name: str, owner: int | None) -> bool:
    """Make one entry plain, and return whether it is a folder. A descriptor is held, so that no link is followed."""
    entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        status = os.fstat(entry)
        if owner is not None and (status.st_uid, status.st_gid) != (owner, owner):
            os.chown(name, owner, owner, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            return False
        itself = f"/proc/self/fd/{entry}"
        is_folder = stat.S_ISDIR(status.st_mode)
        mode = status.st_mode & 0o777 | (0o700 if is_folder else 0o400)
        if mode != stat.S_IMODE(status.st_mode):
            os.chmod(itself, mode)  # noqa: PTH101 - of a descriptor
        if stat.S_ISREG(status.st_mode):
            _remove_capabilities(itself)
        return is_folder
    finally:
        os.close(entry)


def _remove_capabilities(path: str) -> None:
    try:
        os.getxattr(path, CAPABILITY)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return
        raise
    os.removexattr(path, CAPABILITY)
