"""Copies files from an untrusted folder: only regular files, limited in number, size and depth."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from grading.core.bounds import MAX_FILE_BYTES
from grading.core.errors import GradingError
from grading.core.text import counted, printable
from grading.sandbox.folders import FOLDER, remove
from grading.sandbox.run import SUBMISSION, UID

MAX_SENTENCES = 100
"""Refused entries that get a sentence each. The others share one."""

MAX_REASONS = 2000
"""Refused entries whose reasons are kept: Problem 1 has 1000 outputs."""


PIECE = 2**20
"""Bytes that are copied at once."""

FOLDER_RIGHTS, FILE_RIGHTS = 0o500, 0o400
"""The rights that the owner needs to read a folder or a file."""

CHANGED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EINVAL, errno.ENODEV)
"""Errors of an entry that is not what it was a moment ago."""

UNSUITABLE = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EFBIG, errno.EMLINK)
"""Errors of a disk that cannot hold such a name, file or folder."""

NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP)
"""Errors of a disk that cannot hold links."""


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


SUBMISSION_CAPS = Caps(
    entries=200_000, file_bytes=20 * 2**30, total_bytes=40 * 2**30, depth=32, links=True, name_bytes=16 * 2**20
)
"""The bounds of a submission with what it downloads. Stable Diffusion has 4 GiB."""


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
    devices, files with several names, what its owner closed, what is larger or deeper than `caps`, and what the disk of
    the copies cannot hold. A folder with too many entries or bytes, or that its owner closed, is refused as a whole.
    Raises GradingError for what is not the submission's doing: the copies cannot be written, or an entry cannot be read
    for another reason.
    """
    collector = _Collector(caps or Caps())
    with ExitStack() as resources:
        target = None
        if into is not None:
            target = _made(into)
            resources.callback(os.close, target)
        try:
            descriptor = _opened_top(source)
            resources.callback(os.close, descriptor)
            collector.folder(descriptor, target, "")
        except _TooMuchError as error:
            if into is not None:
                _empty(into)
            return Collected(refused=[str(error)])
        except _Refused as refusal:
            return Collected(refused=[f"The folder {refusal}."])
    return collector.done


def is_closed(status: os.stat_result, rights: int) -> bool:
    """Whether an entry's own mode keeps the grader out, although the entry belongs to it or to the user of runs.

    The mode came with the submission. Another user's entries were put there by staff. Root may open most all the same.
    """
    return status.st_uid in (os.geteuid(), UID) and status.st_mode & rights != rights


def _made(into: Path) -> int:
    """A descriptor of a new folder, which the user of the sandbox can read whatever the umask."""
    try:
        into.mkdir(parents=True)
        into.chmod(0o755)
        return os.open(into, FOLDER)
    except OSError as error:
        raise _unwritten(error, str(error.filename or into)) from None


def _empty(into: Path) -> None:
    try:
        remove(into)
        into.mkdir()
        into.chmod(0o755)
    except OSError as error:
        raise _unwritten(error, str(into)) from None


def _opened_top(source: int | Path) -> int:
    if isinstance(source, int):
        return os.dup(source)
    try:
        return os.open(source, FOLDER & ~os.O_NOFOLLOW)
    except OSError as error:
        shown = printable(str(source))
        if error.errno == errno.EACCES and is_closed(source.stat(), FOLDER_RIGHTS):
            raise _Refused(f"cannot be opened ({error.strerror})") from None
        raise GradingError(f"{shown} cannot be opened ({error.strerror}); check the path") from None


class _TooMuchError(Exception):
    """The folder is refused as a whole. The message is a complete sentence."""


class _Refused(Exception):  # noqa: N818 - a verdict on the entry, not an error of ours
    """The message continues the sentence "NAME ..."."""


class _Collector:
    """Takes entries of open folders. into: the descriptor of the folder for their copies, None if there are none."""

    def __init__(self, caps: Caps) -> None:
        self.caps, self.done = caps, Collected()
        self.entries = self.bytes = self.unnamed = self.name_bytes = 0

    def folder(self, source: int, into: int | None, prefix: str, depth: int = 1) -> None:
        if os.geteuid() != 0 and is_closed(os.fstat(source), FOLDER_RIGHTS):
            raise _Refused(f"cannot be opened ({os.strerror(errno.EACCES)})")
        for name in self.names(source, prefix):
            path = prefix + name
            try:
                self.entry(source, into, name, path, depth)
            except _Refused as refusal:
                self.refuse(path, str(refusal))

    def names(self, source: int, prefix: str) -> list[str]:
        try:
            with os.scandir(source) as listing:
                names = sorted(e.name for e in itertools.islice(listing, self.caps.entries - self.entries + 1))
        except OSError as error:
            raise _unread(error, prefix or "the folder") from None
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
        return names

    def entry(self, source: int, into: int | None, name: str, path: str, depth: int) -> None:
        with _reading(path):
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            if not self.caps.links:
                raise _Refused("is a link; expected the file itself")
            with _reading(path):
                target = os.readlink(name, dir_fd=source)
            self.link(into, name, path, target)
        elif stat.S_ISDIR(status.st_mode):
            if depth > self.caps.depth:
                raise _Refused(f"is a folder at depth {depth}; folders are searched to depth {self.caps.depth}")
            with ExitStack() as resources:
                below = _open(source, name, path, status, os.O_DIRECTORY)
                resources.callback(os.close, below)
                copy = None if into is None else _new_folder(into, name, path)
                if copy is not None:
                    resources.callback(os.close, copy)
                self.folder(below, copy, f"{path}/", depth + 1)
        elif not stat.S_ISREG(status.st_mode):
            raise _Refused("is a pipe, socket or device; expected a file")
        else:
            self.file(source, into, name, path, status)

    def link(self, into: int | None, name: str, path: str, target: str) -> None:
        if into is not None:
            with _writing(path, NO_LINKS):
                os.symlink(target, name, dir_fd=into)
        self.done.files[path] = hashlib.sha256(b"link to " + os.fsencode(target)).hexdigest()
        if _leads_out(path, target):
            self.refuse(path, f"is a link to {target}, which is not in the folder; expected the file itself")

    def file(self, source: int, into: int | None, name: str, path: str, before: os.stat_result) -> None:
        descriptor = _open(source, name, path, before, os.O_NONBLOCK)  # an entry that became a pipe must not block
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            self.check(status)
            if into is None:
                self.done.files[path] = _copied(file, None, path, status.st_size)
                return
            with _new_file(into, name, path, executable=bool(status.st_mode & 0o100)) as copy:
                self.done.files[path] = _copied(file, copy, path, status.st_size)

    def check(self, status: os.stat_result) -> None:
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


def _open(source: int, name: str, path: str, status: os.stat_result, flags: int) -> int:
    """A descriptor of an entry. status: of a look at it before."""
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=source)
    except OSError as error:
        rights = FOLDER_RIGHTS if flags & os.O_DIRECTORY else FILE_RIGHTS
        if error.errno in CHANGED or (error.errno == errno.EACCES and is_closed(status, rights)):
            raise _Refused(f"cannot be opened ({error.strerror})") from None
        raise _unread(error, path) from None


def _new_folder(into: int, name: str, path: str) -> int:
    with _writing(path):
        os.mkdir(name, dir_fd=into)
        copy = os.open(name, FOLDER, dir_fd=into)
        os.fchmod(copy, 0o755)
        return copy


@contextmanager
def _new_file(into: int, name: str, path: str, executable: bool) -> Iterator[BinaryIO]:
    """A new file, which is removed if it cannot be filled."""
    with _writing(path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o644, dir_fd=into)
        os.fchmod(descriptor, 0o755 if executable else 0o644)
    with os.fdopen(descriptor, "wb", buffering=0) as copy:
        try:
            yield copy
        except _Refused:
            os.unlink(name, dir_fd=into)
            raise


def _copied(file: BinaryIO, copy: BinaryIO | None, path: str, size: int) -> str:
    """The SHA-256 of a file's first `size` bytes, which are copied."""
    digest, left = hashlib.sha256(), size
    while left > 0:
        with _reading(path):
            piece = file.read(min(left, PIECE))
        if not piece:
            break
        digest.update(piece)
        left -= len(piece)
        with _writing(path):
            rest = memoryview(piece)
            while copy is not None and rest:
                rest = rest[copy.write(rest) :]
    return digest.hexdigest()


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Refuse an entry that has changed meanwhile. Other errors of its disk are not the submission's doing."""
    try:
        yield
    except OSError as error:
        if error.errno in CHANGED:
            raise _Refused(f"cannot be opened ({error.strerror})") from None
        raise _unread(error, path) from None


@contextmanager
def _writing(path: str, unsuitable: tuple[int, ...] = ()) -> Iterator[None]:
    """Refuse an entry that the disk of the copies cannot hold. Its other errors are not the submission's doing."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EEXIST:
            raise _Refused("has a name that the grader's disk does not tell from another one's") from None
        if error.errno in (*UNSUITABLE, *unsuitable):
            raise _Refused(f"cannot be copied to the grader's disk ({error.strerror})") from None
        raise _unwritten(error, path) from None


def _unread(error: OSError, path: str) -> GradingError:
    return GradingError(
        f"{printable(path)} in the submission cannot be read ({error.strerror}); check that the grader's user may read "
        "all files, and grade again"
    )


def _unwritten(error: OSError, path: str) -> GradingError:
    return GradingError(
        f"{printable(path)} cannot be written ({error.strerror}); free some space or choose another folder"
    )
