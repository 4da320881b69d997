"""The texts of a submission's code, read with bounds. No link is followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from grading.sandbox.folders import walk

MAX_ENTRIES, MAX_DEPTH = 200_000, 32
"""Files and folders that are looked at, and how many folders deep."""

MAX_TEXTS, MAX_TEXT_BYTES = 500, 2**20
"""Files that are read, and bytes of each; a longer file is left out."""


def read_texts(folder: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    """{path: text} of at most MAX_TEXTS files with one of the suffixes, in a fixed order. Invalid UTF-8 is replaced."""
    found: dict[str, str] = {}
    for path in _paths(folder, suffixes):
        if len(found) == MAX_TEXTS:
            break
        text = _read(path)
        if text is not None:
            found[str(path.relative_to(folder))] = text
    return found


def read_start(path: Path, size: int) -> bytes:
    """The first bytes of a regular file; empty for anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(size)
    except OSError:
        return b""


def _paths(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    for each in walk(folder, MAX_ENTRIES, MAX_DEPTH) if folder.is_dir() else ():
        for name in sorted(each.files):
            if name.endswith(suffixes):
                yield folder / each.path(name)


def _read(path: Path) -> str | None:
    content = read_start(path, MAX_TEXT_BYTES + 1)
    return content.decode(errors="replace") if len(content) <= MAX_TEXT_BYTES else None
