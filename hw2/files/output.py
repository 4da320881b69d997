"""Files that are written whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from hw2.errors import InputError
from hw2.wording import are, counted, shortened

PARTIAL, LOCK = ".partial", "lock"
HARMLESS = {PARTIAL, ".DS_Store", "Thumbs.db"}
"""Names that may be in an output folder besides the output: our own, and those that file managers leave there."""


def png_bytes(image_u8: npt.NDArray[np.uint8]) -> bytes:
    """(H, W, 3) as the bytes of a PNG file, the same that `torchvision.utils.save_image` writes."""
    buffer = io.BytesIO()
    Image.fromarray(image_u8).save(buffer, format="PNG")
    return buffer.getvalue()


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. A file of that name is replaced, or the file that a link of that name leads to.

    Raises InputError if it cannot be written, and for a pipe or device.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a file; expected the name of a file to write")
    path = path.resolve()
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise InputError(
            f"{path} could not be written: {error.strerror}; choose another place or free some disk space"
        ) from None


class OutputFolder:
    """A folder that receives a fixed set of files: all of them or, until then, none.

    Finished files wait in a hidden folder inside it. If the run is stopped, the same run (same `settings`) finds them
    there and makes only the others; a run with other settings starts anew. A folder has one run at a time.
    """

    def __init__(self, path: Path, names: Sequence[str], settings: object, *, claim: bool = True) -> None:
        """Claim the folder. names: of the files, with their folders. settings: everything that the files depend on.

        claim: False in a run's further processes, once its first has claimed the folder for all of them.
        Raises InputError, and leaves nothing behind, if path is not a folder, holds other files, cannot be written, or
        is claimed by another run.
        """
        self.path, self.names = path, list(names)
        self._partial = path / PARTIAL
        self._claim: weakref.finalize[[int], OutputFolder] | None = None
        if not claim:
            return
        digest = hashlib.sha256(repr(settings).encode()).hexdigest()
        try:
            if path.exists() and not path.is_dir():
                raise InputError(f"{path} is a file; expected a folder to write to, choose another name")
            others = _other_files(path, names)
            if others:
                raise InputError(
                    f"{path} already holds other files ({shortened(others)}); empty it or choose another folder"
                )
            if folders := [name for name in names if (path / name).is_dir()]:
                raise InputError(f"{path / folders[0]} is a folder, but a file of that name must be written; remove it")
            self._claim = weakref.finalize(self, os.close, _locked(path))
            stamp = self._partial / "settings"
            if not stamp.exists() or stamp.read_bytes() != digest.encode():
                self._clear()
                stamp.write_text(digest)
        except OSError as error:
            self._release()
            raise InputError(f"{path} cannot be written to: {error.strerror}; choose another folder") from None

    def missing(self) -> list[str]:
        """Names of the files that are not made yet, in order."""
        return [name for name in self.names if not (self._partial / name).exists()]

    def write(self, name: str, content: bytes) -> None:
        """Keep one finished file. Raises InputError if it cannot be written, e.g. on a full disk."""
        try:
            write_file(self._partial / name, content)
        except InputError as error:
            made = len(self.names) - len(self.missing())
            kept = f"{counted(made, 'finished file')} {are(made)} kept"
            raise InputError(f"{error}; {kept}, run the same command again to resume") from None

    def read(self, name: str) -> npt.NDArray[np.uint8]:
        """The pixels (H, W, 3) of a kept file."""
        with Image.open(self._partial / name) as image:
            return np.asarray(image)

    def discard_if_empty(self) -> None:
        """Leave nothing behind if no file is finished yet."""
        if len(self.missing()) == len(self.names):
            self.discard()

    def discard(self) -> None:
        """Remove all that the folder keeps, and the folder with it unless something else is in there."""
        if self._claim is not None and self._claim.alive:
            with suppress(OSError):
                self._clear()
            self._release()

    def finish(self) -> None:
        """Move everything to its place. Raises InputError if a file is missing or the folder cannot be written."""
        try:
            for name in self.names:  # an interruption below must not leave old and new files side by side
                (self.path / name).unlink(missing_ok=True)
            for name in self.names:
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                (self._partial / name).replace(self.path / name)
            self._clear()
        except OSError as error:
            raise InputError(
                f"{self.path} could not be completed: {error.strerror}; run the same command again"
            ) from None
        self._release()

    def _clear(self) -> None:
        """Empty the hidden folder except for the lock, removed last: the next run finds nothing of this one."""
        for entry in self._partial.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != LOCK:
                entry.unlink(missing_ok=True)

    def _release(self) -> None:
        """Release the folder, and remove what is empty of it."""
        if self._claim is not None and self._claim.alive:
            with suppress(OSError):
                (self._partial / LOCK).unlink()
            self._claim()
            with suppress(OSError):
                self._partial.rmdir()
                self.path.rmdir()


def _locked(path: Path) -> int:
    """A descriptor that holds the folder's lock until it is closed, at the latest by the end of this process.

    On a file system without locks nothing is locked. Raises InputError if another holds it, OSError if its file
    cannot be made.
    """
    lock = path / PARTIAL / LOCK
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:  # a run that is just ending removed its folder
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise InputError(
                f"another run is writing to {path}; wait until it is done, or choose another folder"
            ) from None
        except OSError:
            return descriptor
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                return descriptor
        os.close(descriptor)  # that run removed this file


def _other_files(path: Path, names: Sequence[str]) -> list[str]:
    """The entries of a folder, and of the folders in it that names are in, except names and harmless files."""
    folders = {path, *(path / parent for name in names for parent in Path(name).parents)}
    wanted = {*folders, *(path / name for name in names)}
    found = [entry for folder in folders if folder.is_dir() for entry in folder.iterdir()]
    return sorted(str(e.relative_to(path)) for e in found if e not in wanted and e.name not in HARMLESS)
