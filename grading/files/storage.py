"""Lets several processes use a folder. Only one may write at a time, and a file is written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeVar

from pydantic import TypeAdapter

from grading.core.errors import GradingError
from grading.core.text import printable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")

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


def check_apart(handed_in: Path, output: Path, noun: Literal["submission", "submissions"]) -> None:
    """Raises GradingError if one of the two folders contains the other, because a grading replaces what is in `output`.

    noun: what the first folder holds.
    """
    inner, outer = output.resolve(), handed_in.resolve()
    if inner.is_relative_to(outer):
        found = f"the output {printable(str(output))} is inside the {noun}"
    elif outer.is_relative_to(inner):
        verb = "is" if noun == "submission" else "are"
        found = f"the {noun} {printable(str(handed_in))} {verb} inside the output"
    else:
        return
    raise GradingError(f"{found}; choose another folder", option="output")


def encoder(**style: Any) -> json.JSONEncoder:
    """An encoder of dataclasses. It copies none of them, and writes ASCII, so that file names that are not UTF-8
    survive; pydantic's JSON refuses them.
    """
    return json.JSONEncoder(default=shallow, **style)


def shallow(value: DataclassInstance) -> dict[str, Any]:
    """The fields of a dataclass, in their order. Their values are not copied."""
    return {each.name: getattr(value, each.name) for each in fields(value)}


def to_json(value: DataclassInstance) -> bytes:
    """JSON of a dataclass, in one line."""
    return encoder().encode(value).encode()


def from_json(adapter: TypeAdapter[T], content: bytes) -> T:
    """The value that `to_json` wrote. Raises ValueError for anything else."""
    try:
        return adapter.validate_python(json.loads(content))
    except (RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None


def open_own(path: Path, most: int) -> BinaryIO:
    """Open a file that the grader wrote, to read it. most: the most bytes that it may have.

    Raises OSError if it cannot be read or is larger, and for a link, a pipe or a folder in its place.
    """
    if path.is_symlink():
        raise OSError(errno.EINVAL, "it is a link", str(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > most:
        os.close(descriptor)
        reason = "it is too large" if stat.S_ISREG(status.st_mode) else "it is not a file"
        raise OSError(errno.EINVAL, reason, str(path))
    return os.fdopen(descriptor, "rb")


def write_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file whole or not at all. Raises OSError if it cannot be written, or a folder has its name."""
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)  # a pipe there would block
        with partial.open("wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
