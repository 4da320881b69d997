"""Lets several processes use a folder. Only one may write at a time, and a file is written whole or not at all."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

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


def to_json(value: DataclassInstance, indent: int | None = None) -> bytes:
    """JSON of a dataclass, in ASCII, so that file names that are not UTF-8 survive; pydantic's JSON refuses them."""
    return json.dumps(asdict(value), indent=indent).encode()


def from_json(adapter: TypeAdapter[T], content: bytes) -> T:
    """The value that `to_json` wrote. Raises ValueError for anything else."""
    try:
        return adapter.validate_python(json.loads(content))
    except (RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises OSError if it cannot be written."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
