"""Compares a folder's entries with the expected ones. Opens no file and follows no link."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from grading.sandbox.folders import is_regular, walk


@dataclass(frozen=True)
class Layout:
    """Sorted names. `expected` is `found` and `missing` together; `unexpected` holds the folder's other entries."""

    expected: list[str]
    found: list[str]
    missing: list[str]
    unexpected: list[str]


def check_layout(folder: Path, expected: Iterable[str]) -> Layout:
    """Compare a folder's entries with the expected names. A folder that does not exist has no entries.

    Raises OSError if the folder exists but cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = {entry.name for entry in entries}
    except FileNotFoundError:
        names = set()
    wanted = set(expected)
    return Layout(
        expected=sorted(wanted),
        found=sorted(wanted & names),
        missing=sorted(wanted - names),
        unexpected=sorted(names - wanted),
    )


def files_below(folder: Path, depth: int = 4, most: int = 20_000) -> list[str]:
    """Sorted paths of the regular files below a folder, as deep as `depth` folders, among its first `most` entries.

    Follows no link. What cannot be listed, or does not exist, has no files.
    """
    try:
        walked = walk(folder, most, depth)
        return sorted(each.path(name) for each in walked for name in each.files if is_regular(name, each.descriptor))
    except OSError:
        return []


def has_files(folder: Path) -> bool:
    """Whether anything but folders is below a folder, links among it. True if it cannot be listed."""
    try:
        return any(each.files for each in walk(folder.resolve(), 20_000))
    except FileNotFoundError:
        return False
    except (OSError, RuntimeError):
        return True


def png_names(folder: Path) -> list[str]:
    """Sorted names of the `*.png` entries of a folder, without hidden ones. Raises OSError if it cannot be listed."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.name.lower().endswith(".png") and not e.name.startswith("."))


def image_names(folder: Path, extensions: tuple[str, ...]) -> list[str]:
    """Sorted names of a folder's entries with one of the extensions, in upper or lower case.

    A folder that does not exist has no entries. Raises OSError if it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name.lower().endswith(extensions))
    except FileNotFoundError:
        return []
