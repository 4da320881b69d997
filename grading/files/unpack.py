"""Unpacks a submission that was handed in as a zip file. Nothing that the file says about itself is trusted.

Sizes are counted while the content is read, names must stay below the folder, and only files and folders are made. A
file with anything else in it is refused as a whole.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.text import counted, printable
from grading.files.take import PIECE, UNSUITABLE, Caps, Collected
from grading.sandbox.folders import remove
from grading.sandbox.run import Limits

SUFFIX = ".zip"

ZIP_CAPS = Caps(
    entries=Limits.files, file_bytes=Limits.file_bytes, total_bytes=Limits.space_bytes, depth=32, name_bytes=4 * 2**20
)
"""The bounds of what is in a zip file: those of what a script may write."""

MAX_READ = 16 * 2**20
"""Bytes that are read at once. The list of a zip file's entries is read at once."""

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The usual ways of compression. Others may need any amount of memory."""

OF_MACOS = "__MACOSX/"
"""Where macOS keeps attributes of the other entries. They are left out."""

DAMAGED = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError,
    OverflowError,
)  # fmt: skip
"""What `zipfile` raises for a file that is damaged, or that uses what it does not know."""


def is_zip(path: Path) -> bool:
    """Whether a submission is a zip file, by its name: a regular file, and no link."""
    return path.suffix.lower() == SUFFIX and path.is_file() and not path.is_symlink()


def submission_name(path: Path) -> str:
    """The name of a submission: that of its folder, or of its zip file without the ending."""
    return path.stem if is_zip(path) else path.name


def unpack_zip(source: Path, into: Path, caps: Caps = ZIP_CAPS) -> Collected:
    """Unpack a zip file into a new folder, without the one folder that all of it may be in.

    The result has one refused sentence and no files if the zip file is refused. Raises GradingError for what is not its
    doing: it cannot be opened, or the files cannot be written.
    """
    try:
        into.mkdir(parents=True)
        into.chmod(0o755)
        try:
            with _opened(source) as file, _reading(), zipfile.ZipFile(file) as archive:
                entries = _named(archive.infolist(), caps)
                unpacked = _Unpacked(archive, into, caps)
                return Collected({path: unpacked.file(entry, path) for path, entry in entries.items()})
        except _Refused as refusal:
            remove(into)
            into.mkdir()
            into.chmod(0o755)
            return Collected(refused=[f"{printable(source.name)} {printable(str(refusal))}."])
    except OSError as error:
        name = printable(str(error.filename or into))
        raise GradingError(f"{name} cannot be written ({error.strerror}); free some space") from None


def names_in_zip(source: Path) -> set[str]:
    """The paths of the files that `unpack_zip` would write; none if the zip file is refused."""
    try:
        with _opened(source) as file, _reading(), zipfile.ZipFile(file) as archive:
            return set(_named(archive.infolist(), ZIP_CAPS))
    except _Refused:
        return set()


class _Refused(Exception):  # noqa: N818 - a verdict on the zip file, not an error of ours
    """The message continues the sentence "NAME.zip ..."."""


class _Bounded(io.FileIO):
    """A file of which not much is read at once, whatever the file itself asks for."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_READ:
            raise _Refused(f"has a list of entries with {size} bytes; at most {MAX_READ} are read")
        return super().read(MAX_READ if size is None or size < 0 else size) or b""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except (OSError, OverflowError):
            if whence:  # `zipfile` looks for a table before the start
                raise
            raise _Refused("is not a whole zip file") from None


@contextmanager
def _opened(source: Path) -> Iterator[_Bounded]:
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise GradingError(f"{printable(str(source))} cannot be opened ({error.strerror}); check its rights") from None
    with _Bounded(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise GradingError(f"{printable(str(source))} is not a file; expected a zip file")
        yield file


@contextmanager
def _reading() -> Iterator[None]:
    """Refuse a zip file that cannot be read to its end."""
    try:
        yield
    except DAMAGED as error:
        raise _Refused(f"is not a whole zip file ({str(error) or type(error).__name__:.100})") from None


def _named(entries: list[zipfile.ZipInfo], caps: Caps) -> dict[str, zipfile.ZipInfo]:
    """The files by their paths, after every entry was checked, without the one folder that all may be in."""
    if len(entries) > caps.entries:
        raise _Refused(f"has {len(entries)} entries; at most {caps.entries} are unpacked")
    if sum(len(os.fsencode(entry.orig_filename)) for entry in entries) > caps.name_bytes:
        raise _Refused(f"has names with more than {caps.name_bytes} bytes together, which is the limit")
    names = _Names()
    files = {}
    for entry in entries:
        if entry.orig_filename.startswith(OF_MACOS):
            continue
        parts = _checked(entry, caps)
        names.add(parts, folder=entry.is_dir())
        if not entry.is_dir():
            files["/".join(parts)] = entry
    if not files:
        raise _Refused("has no files in it; expected your scripts")
    tops = {path.partition("/")[0] for path in files}
    if len(tops) == 1 and all("/" in path for path in files):
        return {path.partition("/")[2]: entry for path, entry in files.items()}
    return files


def _checked(entry: zipfile.ZipInfo, caps: Caps) -> list[str]:
    """The parts of an entry's path. Raises _Refused for a path that leads elsewhere, and for what is no plain file."""
    name = entry.orig_filename
    shown = printable(name)[:100]
    parts = (name[:-1] if name.endswith("/") else name).split("/")
    if name.startswith("/") or "\\" in name or "\0" in name or {"", ".", ".."} & set(parts) or parts[0].endswith(":"):
        raise _Refused(f"has an entry named {shown}, which is not a path below its folder")
    if max(len(os.fsencode(part)) for part in parts) > 255:
        raise _Refused(f"has an entry whose name has more than 255 bytes, {shown} ..")
    if len(parts) > caps.depth:
        raise _Refused(f"has an entry at depth {len(parts)}, {shown}; at most {caps.depth} folders are unpacked")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise _Refused(f"has a link in it, {shown}; hand in the file itself")
    if kind not in (0, stat.S_IFDIR if entry.is_dir() else stat.S_IFREG):
        raise _Refused(f"has an entry that is no file, {shown}; hand in files and folders only")
    if entry.flag_bits & 1:
        raise _Refused(f"is encrypted ({shown}); hand in a zip file without a password")
    if entry.compress_type not in METHODS:
        raise _Refused(f"uses an unusual compression ({shown}); pack it with the usual one, deflate")
    return parts


class _Names:
    """The names that an archive makes, the folders of its files among them. No two may be the same on any disk."""

    def __init__(self) -> None:
        self.made: dict[str, tuple[str, bool]] = {}
        self.files = set[str]()

    def add(self, parts: list[str], folder: bool) -> None:
        """Raises _Refused if the name is there already, with other letters or as another kind of entry."""
        for depth in range(1, len(parts) + 1):
            path, is_folder = "/".join(parts[:depth]), folder or depth < len(parts)
            known, was_folder = self.made.setdefault(_folded(path), (path, is_folder))
            again = depth == len(parts) and not folder and path in self.files
            if known != path or was_folder != is_folder or again:
                raise _Refused(f"has two entries for one name, {printable(known)[:100]} and {printable(path)[:100]}")
        if not folder:
            self.files.add("/".join(parts))


def _folded(path: str) -> str:
    """The same for all names that some disk takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


class _Unpacked:
    """The files that are written, and how many bytes they have by now."""

    def __init__(self, archive: zipfile.ZipFile, into: Path, caps: Caps) -> None:
        self.archive, self.into, self.caps, self.bytes = archive, into, caps, 0

    def file(self, entry: zipfile.ZipInfo, path: str) -> str:
        """Write a file, and return its SHA-256."""
        digest, size = hashlib.sha256(), 0
        with self.archive.open(entry) as packed, self.new(entry, path) as copy:
            while piece := packed.read(PIECE):
                size += len(piece)
                self.bytes += len(piece)
                if size > self.caps.file_bytes or self.bytes > self.caps.total_bytes:
                    raise _Refused(
                        f"has more than {counted(self.caps.total_bytes, 'byte')} in it, or a file with more than "
                        f"{self.caps.file_bytes}, which are the limits"
                    )
                digest.update(piece)
                copy.write(piece)
        return digest.hexdigest()

    @contextmanager
    def new(self, entry: zipfile.ZipInfo, path: str) -> Iterator[io.BufferedWriter]:
        target = self.into / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            file = target.open("xb")
        except OSError as error:
            if error.errno not in UNSUITABLE and not isinstance(error, FileExistsError | NotADirectoryError):
                raise
            raise _Refused(f"has a name that the grader's disk cannot hold, {printable(path)[:100]}") from None
        with file:
            os.fchmod(file.fileno(), 0o755 if (entry.external_attr >> 16) & 0o100 else 0o644)
            yield file
