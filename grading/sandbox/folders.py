"""Walks, measures and removes folders that untrusted code made: by descriptors, so that no depth is too deep.

A walk holds few descriptors at any depth, uses no recursion and no path, and follows no link. It returns to a parent
folder by "..", and only if that is still the same folder.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags that open a folder and nothing else."""

OWNER = 0o700
"""The rights that the owner of a folder needs to list and to empty it."""

STEPS = 10
"""Folders that a walk opens again, for each entry that it may list, because they were moved meanwhile."""

Identity = tuple[int, int]
"""The numbers of a file system and of an entry in it."""


@dataclass
class Folder:
    """One folder of a walk, valid until the next one.

    parents: names from the top to this folder; do not change it. files: names of all entries that are no folders, links
    to folders among them. folders: names of those that are walked next; remove the others from it.
    """

    descriptor: int
    parents: list[str]
    files: list[str]
    folders: list[str]

    def path(self, name: str) -> str:
        """The path of an entry below the top."""
        return "/".join([*self.parents, name])


@dataclass
class _Level:
    identity: Identity
    left: list[str] = field(default_factory=list)


def walk(top: int | Path, most: int, depth: int | None = None, *, unlock: bool = False) -> Iterator[Folder]:
    """The folders below `top` (a path or a descriptor) and itself, each before those in it, which come sorted.

    most: entries after which the walk ends; one more is listed, so that this can be told. depth: how many folders deep;
    None for any depth. unlock: give the owner the rights to list a folder. What cannot be listed, or is gone meanwhile,
    is left out. Processes may change everything during the walk: it ends soon, and stays below `top`. Raises OSError if
    `top` cannot be opened.
    """
    place = _Place(os.dup(top) if isinstance(top, int) else _open_top(top, unlock), most * STEPS)
    try:
        found = 0
        while place.levels:
            if found <= most and (folder := place.listed(most - found + 1)):
                found += len(folder.files) + len(folder.folders)
                yield folder
                if depth is None or len(place.names) < depth:
                    place.levels[-1].left = sorted(folder.folders, reverse=True)
            while found <= most and place.levels and not place.enter_next(unlock):
                place.leave()
            if found > most:
                return
    finally:
        place.close()


class _Place:
    """Where a walk is. levels: the top and the folders below it, down to here; names: those of the folders below it."""

    def __init__(self, top: int, steps: int) -> None:
        self.top, self.here, self.steps = top, os.dup(top), steps
        self.names: list[str] = []
        self.levels = [_Level(identity(os.fstat(top)))]

    def close(self) -> None:
        os.close(self.here)
        os.close(self.top)

    def listed(self, most: int) -> Folder | None:
        """The folder with the names of its first entries; None if it cannot be listed."""
        folder = Folder(self.here, self.names, [], [])
        try:
            with os.scandir(self.here) as entries:
                for entry in islice(entries, most):
                    (folder.folders if entry.is_dir(follow_symlinks=False) else folder.files).append(entry.name)
        except OSError:
            return None
        return folder

    def enter_next(self, unlock: bool) -> bool:
        """Go to the next folder in this one; False if none is left."""
        left = self.levels[-1].left
        while left:
            name = left.pop()
            with suppress(OSError):
                below = open_folder(name, self.here, unlock=unlock)
                self._move(below)
                self.names.append(name)
                self.levels.append(_Level(identity(os.fstat(below))))
                return True
        return False

    def leave(self) -> None:
        """Go back to the parent folder, or further up if it was moved."""
        self.levels.pop()
        if not self.levels:
            return
        self.names.pop()
        with suppress(OSError):
            above = os.open("..", FOLDER, dir_fd=self.here)
            if identity(os.fstat(above)) == self.levels[-1].identity:
                self._move(above)
                return
            os.close(above)
        self._find_again()

    def _find_again(self) -> None:
        """Go from the top as far down as the folders are where they were."""
        self._move(os.dup(self.top))
        self.steps -= 1 + len(self.names)
        if self.steps < 0:
            self.names, self.levels = [], []
            return
        for number, name in enumerate(self.names):
            with suppress(OSError):
                below = os.open(name, FOLDER, dir_fd=self.here)
                if identity(os.fstat(below)) == self.levels[number + 1].identity:
                    self._move(below)
                    continue
                os.close(below)
            del self.names[number:], self.levels[number + 1 :]
            return

    def _move(self, descriptor: int) -> None:
        os.close(self.here)
        self.here = descriptor


def _open_top(top: Path, unlock: bool) -> int:
    above = os.open(top.parent, FOLDER & ~os.O_NOFOLLOW)
    try:
        return open_folder(top.name, above, unlock=True) if unlock else os.open(top, FOLDER & ~os.O_NOFOLLOW)
    finally:
        os.close(above)


def identity(status: os.stat_result) -> Identity:
    """What tells an entry from all others as long as it exists."""
    return status.st_dev, status.st_ino


def is_regular(name: str, folder: int) -> bool:
    """Whether an entry of an open folder is a regular file; not if it is gone."""
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def open_folder(name: str, folder: int, *, unlock: bool = False) -> int:
    """A descriptor of a folder in an open one. unlock: give its owner all rights first, which a script may have taken.

    Raises OSError if it is not a folder, or cannot be opened.
    """
    if unlock:
        entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            mode = stat.S_IMODE(os.fstat(entry).st_mode)
            if mode & OWNER != OWNER and os.geteuid() != 0:  # root needs no rights
                with suppress(OSError):  # another user's
                    os.chmod(f"/proc/self/fd/{entry}", mode | OWNER)  # noqa: PTH101 - of a descriptor
            return os.open(f"/proc/self/fd/{entry}", FOLDER & ~os.O_NOFOLLOW)
        finally:
            os.close(entry)
    return os.open(name, FOLDER, dir_fd=folder)


def usage(folder: Path, most: int) -> tuple[int, int]:
    """Bytes on disk and number of the entries below a folder that a command may be writing to.

    Folders and links take space as well. What has several names counts once, also if it is moved during the count.
    most: entries after which the count ends; the number is then larger. A folder that its owner closed is opened again,
    because the command could write there all the same.
    """
    used = listed = 0
    seen: set[Identity] = set()
    with suppress(OSError):
        for each in walk(folder, 2 * most, unlock=True):
            listed += len(each.files) + len(each.folders)
            for name in (*each.files, *each.folders):
                with suppress(OSError):
                    status = os.stat(name, dir_fd=each.descriptor, follow_symlinks=False)
                    if identity(status) not in seen:
                        seen.add(identity(status))
                        used += status.st_blocks * 512
            if len(seen) > most:
                break
    return used, len(seen) if listed <= 2 * most else max(len(seen), most + 1)


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it, or a file or link itself. No process may run in it any more.

    Folders that their owner closed are opened first. Raises OSError, with the folder's path, if something stays.
    """
    try:
        above = os.open(folder.parent, FOLDER & ~os.O_NOFOLLOW)
        try:
            _remove(folder.name, above)
        finally:
            os.close(above)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None


def _remove(name: str, above: int) -> None:
    here = os.dup(above)
    levels = [_Level(identity(os.fstat(above)), [name])]
    names: list[str] = []
    try:
        while levels:
            if not levels[-1].left:
                levels.pop()
                if levels:
                    here = _moved(here, os.open("..", FOLDER, dir_fd=here))
                    if identity(os.fstat(here)) != levels[-1].identity:
                        raise OSError(errno.EBUSY, "it was moved meanwhile")
                    os.rmdir(names.pop(), dir_fd=here)
                continue
            name = levels[-1].left.pop()
            if not _unlinked(name, here):
                here = _moved(here, open_folder(name, here, unlock=True))
                names.append(name)
                levels.append(_Level(identity(os.fstat(here)), os.listdir(here)))  # noqa: PTH208 - of a descriptor
    finally:
        os.close(here)


def _moved(here: int, there: int) -> int:
    """The second descriptor, in place of the first."""
    os.close(here)
    return there


def _unlinked(name: str, folder: int) -> bool:
    """Remove an entry that is not a folder, and return whether it was none."""
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        return False
    return True
