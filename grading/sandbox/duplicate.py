"""Copies a folder that untrusted code made, as it is: by descriptors, so that no path is too long."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from grading.sandbox.folders import FOLDER, Identity, identity, open_folder, remove

FICLONE = 0x40049409
"""The request of ioctl_ficlone(2): both files share their content on disk until one changes."""

PIECE = 2**30
"""Bytes that one call of the kernel copies."""

NAMES = "names"
"""Folder beside the copy that holds a name of each file with several names, until all its names are made."""


def duplicate(source: Path, into: Path) -> None:
    """Copy a folder to a new path, whose parent folder is empty. No process may run in the source.

    Links stay links, several names of a file stay names of one file, holes stay holes. Modes and times are kept, and
    owners if the grader is root. Devices, which no run can make, and extended attributes are left out. Raises OSError
    if something cannot be copied.
    """
    with ExitStack() as resources:
        names = into.parent / NAMES
        names.mkdir(mode=0o700)
        resources.callback(remove, names)
        pool = os.open(names, FOLDER)
        resources.callback(os.close, pool)
        into.mkdir(mode=0o700)
        copier = _Copier(os.open(source, FOLDER & ~os.O_NOFOLLOW), os.open(into, FOLDER), pool)
        resources.callback(copier.close)
        copier.copy()


@dataclass
class _Level:
    """A folder that is being copied. status: the source's. copy: of the copy. left: names that are not yet copied."""

    status: os.stat_result
    copy: Identity
    left: list[str]


class _Copier:
    """source, copy: descriptors of the folders that are at work. pool: of a folder on the same disk."""

    def __init__(self, source: int, copy: int, pool: int) -> None:
        self.source, self.target, self.pool = source, copy, pool
        self.several: dict[Identity, str] = {}

    def close(self) -> None:
        os.close(self.source)
        os.close(self.target)

    def copy(self) -> None:
        levels = [self.level()]
        while levels:
            if not levels[-1].left:
                done = levels.pop()
                self.leave(done, levels[-1] if levels else None)
                continue
            name = levels[-1].left.pop()
            status = os.stat(name, dir_fd=self.source, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                os.mkdir(name, 0o700, dir_fd=self.target)
                self.source, self.target = _moved(self.source, name), _moved(self.target, name)
                levels.append(self.level())
            else:
                self.entry(name, status)

    def level(self) -> _Level:
        names = os.listdir(self.source)  # noqa: PTH208 - of a descriptor
        return _Level(os.fstat(self.source), identity(os.fstat(self.target)), names)

    def leave(self, done: _Level, above: _Level | None) -> None:
        """Finish a folder, and go to the one above, unless it is the top."""
        if above is None:
            _equip(self.target, done.status)
            return
        copy, self.target = self.target, os.open("..", FOLDER, dir_fd=self.target)
        try:
            _equip(copy, done.status)
        finally:
            os.close(copy)
        self.source = _moved(self.source, "..")
        found = [identity(os.fstat(each)) for each in (self.source, self.target)]
        if found != [identity(above.status), above.copy]:
            raise OSError(errno.EBUSY, "it was moved meanwhile")

    def entry(self, name: str, status: os.stat_result) -> None:
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=self.source), name, dir_fd=self.target)
            self.own(name, status)
        elif kind == stat.S_IFREG and status.st_nlink > 1:
            self.name_again(name, status)
        elif kind == stat.S_IFREG:
            self.file(name, status, self.target, name)
        elif kind in (stat.S_IFIFO, stat.S_IFSOCK):
            os.mknod(name, status.st_mode & ~0o7000, dir_fd=self.target)
            self.own(name, status)

    def own(self, name: str, status: os.stat_result) -> None:
        if os.geteuid() == 0:
            os.chown(name, status.st_uid, status.st_gid, dir_fd=self.target, follow_symlinks=False)
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=self.target, follow_symlinks=False)

    def name_again(self, name: str, status: os.stat_result) -> None:
        """Copy a file with several names the first time, and only name the copy again later."""
        known = self.several.get(identity(status))
        if known is None:
            known = str(len(self.several))
            self.several[identity(status)] = known
            self.file(name, status, self.pool, known)
        try:
            os.link(known, name, src_dir_fd=self.pool, dst_dir_fd=self.target)
        except OSError as error:
            if error.errno != errno.EMLINK:  # the pool's own name is one more than the disk allows
                raise
            self.file(name, status, self.target, name)

    def file(self, name: str, status: os.stat_result, folder: int, copy: str) -> None:
        flags = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        source = os.open(name, os.O_RDONLY | flags, dir_fd=self.source)
        try:
            target = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=folder)
            try:
                _fill(source, target, status.st_size)
                _equip(target, status)
            finally:
                os.close(target)
        finally:
            os.close(source)


def _moved(folder: int, name: str) -> int:
    """The descriptor of a neighbouring folder, in place of this one."""
    there = open_folder(name, folder)
    os.close(folder)
    return there


def _fill(source: int, target: int, size: int) -> None:
    """Share the source's content where the disk can; otherwise copy it without its holes."""
    try:
        fcntl.ioctl(target, FICLONE, source)
        return
    except OSError:
        os.ftruncate(target, size)
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        end = os.lseek(source, start, os.SEEK_HOLE)
        os.lseek(target, start, os.SEEK_SET)
        while start < end and (count := os.sendfile(target, source, start, min(end - start, PIECE))):
            start += count


def _equip(entry: int, status: os.stat_result) -> None:
    """Give a copy the owner, mode and times of its source."""
    if os.geteuid() == 0:
        os.fchown(entry, status.st_uid, status.st_gid)
    os.fchmod(entry, stat.S_IMODE(status.st_mode))
    os.utime(entry, ns=(status.st_atime_ns, status.st_mtime_ns))
