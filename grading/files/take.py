"""Copies files from an untrusted folder: only regular files, limited in number, size and depth."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from grading.core.bounds import MAX_FILE_BYTES
from grading.core.errors import GradingError
from grading.core.text import counted, printable
from grading.sandbox.run import SUBMISSION

MAX_SENTENCES = 100
"""Refused entries that get a sentence each. The others share one."""

MAX_REASONS = 2000
"""Refused entries whose reasons are kept: Problem 1 has 1000 outputs."""


@dataclass(frozen=True)
class Caps:
    """The bounds of a collection, checked before a file is read.

    depth: of nested folders. links: copy links as links, without following them. name_bytes: of all paths together, as
    JSON writes them, because they are kept in memory and in several files.
    """

    entries: int = 20_000
    file_bytes: int = MAX_FILE_BYTES
    total_bytes: int = 2**30
    depth: int = 4
    links: bool = False
    name_bytes: int = 2 * 2**20


@dataclass
class Collected:
    """The collected files. Bytes of a path that are not UTF-8 are surrogates, as `os.fsdecode` makes them.

    files: {path: sha256}, in a fixed order. refused: one sentence for each entry not taken, and for each link that
    leads out of the folder. reasons: {path: reason} of the same entries; a reason continues the sentence "NAME ..".
    """

    files: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)


def collect_folder(source: int | Path, into: Path | None, caps: Caps | None = None) -> Collected:
    """Copy the regular files below a folder (a path or a descriptor) into a new one; if `into` is None, only hash them.

    No process may run in the source any more. Each of these is refused with a sentence: links, pipes, sockets,
    devices, files with several names, and what is larger or deeper than `caps`. A folder with too many entries or bytes
    is refused as a whole. Raises GradingError if the copies cannot be written.
    """
    collector = _Collector(into, caps or Caps())
    if isinstance(source, int):
        descriptor = os.dup(source)
    else:
        try:
            descriptor = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise GradingError(
                f"{printable(str(source))} cannot be opened ({error.strerror}); check the path"
            ) from None
    try:
        if into:
            into.mkdir(parents=True)
            into.chmod(0o755)  # whatever the umask: the user of the sandbox reads it
        collector.folder(descriptor, "")
    except _TooMuchError as error:
        if into:
            shutil.rmtree(into)
            into.mkdir()
            into.chmod(0o755)
        collector.done = Collected(refused=[str(error)])
    except OSError as error:
        shown = printable(str(error.filename or into))
        raise GradingError(
            f"{shown} cannot be written ({error.strerror}); free some space or choose another folder"
        ) from None
    finally:
        os.close(descriptor)
    return collector.done


class _TooMuchError(Exception):
    """The folder is refused as a whole. The message is a complete sentence."""


class _Refused(Exception):  # noqa: N818 - a verdict on the entry, not an error of ours
    """The message continues the sentence "NAME ..."."""


class _Collector:
    def __init__(self, into: Path | None, caps: Caps) -> None:
        self.into, self.caps, self.done = into, caps, Collected()
        self.entries = self.bytes = self.unnamed = self.name_bytes = 0

    def folder(self, descriptor: int, prefix: str, depth: int = 1) -> None:
        with os.scandir(descriptor) as listing:
            names = sorted(e.name for e in itertools.islice(listing, self.caps.entries - self.entries + 1))
        self.entries += len(names)
        if self.entries > self.caps.entries:
            raise _TooMuchError(
                f"There are more than {self.caps.entries} files and folders, which is the limit; none was collected."
            )
        self.name_bytes += sum(len(json.dumps(prefix + name)) for name in names)
        if self.name_bytes > self.caps.name_bytes:
            raise _TooMuchError(
                f"The names of the files and folders, with those of the folders above them, have more than "
                f"{self.caps.name_bytes} bytes, which is the limit; none was collected."
            )
        for name in names:
            path = prefix + name
            try:
                self.entry(descriptor, name, path, depth)
            except _Refused as refusal:
                self.refuse(path, str(refusal))

    def entry(self, folder: int, name: str, path: str, depth: int) -> None:
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            raise _Refused(f"cannot be opened ({error.strerror})") from None
        if stat.S_ISLNK(status.st_mode):
            if not self.caps.links:
                raise _Refused("is a link; expected the file itself")
            self.link(path, os.readlink(name, dir_fd=folder))
        elif stat.S_ISDIR(status.st_mode):
            if depth > self.caps.depth:
                raise _Refused(f"is a folder at depth {depth}; folders are searched to depth {self.caps.depth}")
            descriptor = _open(name, folder, os.O_DIRECTORY)
            try:
                if self.into:
                    (self.into / path).mkdir()
                    (self.into / path).chmod(0o755)
                self.folder(descriptor, f"{path}/", depth + 1)
            finally:
                os.close(descriptor)
        elif not stat.S_ISREG(status.st_mode):
            raise _Refused("is a pipe, socket or device; expected a file")
        else:
            self.file(folder, name, path)

    def link(self, path: str, target: str) -> None:
        if self.into:
            (self.into / path).symlink_to(target)
        self.done.files[path] = hashlib.sha256(b"link to " + os.fsencode(target)).hexdigest()
        if _leads_out(path, target):
            self.refuse(path, f"is a link to {target}, which is not in the folder; expected the file itself")

    def file(self, folder: int, name: str, path: str) -> None:
        descriptor = _open(name, folder, os.O_NONBLOCK)  # an entry that has just become a pipe must not block
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _Refused("is a pipe, socket or device; expected a file")
            if status.st_nlink > 1 and not self.caps.links:
                raise _Refused(
                    f"is one of {status.st_nlink} names of the same file (a hard link); expected a file of its own"
                )
            if status.st_size > self.caps.file_bytes:
                raise _Refused(f"has {status.st_size} bytes; at most {self.caps.file_bytes} are read")
            self.bytes += status.st_size
            if self.bytes > self.caps.total_bytes:
                raise _TooMuchError(
                    f"The files have more than {self.caps.total_bytes} bytes, which is the limit; none was collected."
                )
            digest, left = hashlib.sha256(), status.st_size
            with self.copy(path, executable=bool(status.st_mode & 0o100)) as copy:
                while left > 0 and (piece := file.read(min(left, 2**20))):
                    copy.write(piece)
                    digest.update(piece)
                    left -= len(piece)
        self.done.files[path] = digest.hexdigest()

    def copy(self, path: str, executable: bool) -> BinaryIO:
        if self.into is None:
            return Path(os.devnull).open("wb")
        copy = (self.into / path).open("xb")
        os.fchmod(copy.fileno(), 0o755 if executable else 0o644)
        return copy

    def refuse(self, path: str, reason: str) -> None:
        if len(self.done.reasons) < MAX_REASONS:
            self.done.reasons[path] = reason
        if len(self.done.refused) < MAX_SENTENCES:
            self.done.refused.append(f"{printable(path)} {printable(reason)}.")
            return
        self.unnamed += 1
        more = counted(self.unnamed, "more entry was", "more entries were")
        self.done.refused[MAX_SENTENCES:] = [f"{more} refused."]


def _leads_out(path: str, target: str) -> bool:
    """Whether a link leads out of the submission, whose folder is /submission for its own scripts."""
    at = os.path.normpath(Path(SUBMISSION, path).parent / target)
    return not f"{at}/".startswith(f"{SUBMISSION}/")


def _open(name: str, folder: int, flags: int) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=folder)
    except OSError as error:
        raise _Refused(f"cannot be opened ({error.strerror})") from None
