"""The modules that a submission imports and those that it brings, found without running any of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from grading.environment import scan
from grading.sandbox.folders import walk

MAX_FILES = 2000
"""Python files of one submission that are read."""

MAX_ENTRIES, MAX_DEPTH = 200_000, 32
"""Files and folders of one submission that are listed, and how many folders deep."""

SCAN = (sys.executable, "-I", scan.__file__)
"""The program that lists the imports of files."""

MAX_CRASHES = 5
"""Files that may end the parser's process before the rest of the submission is left unread."""

SKIPPED = {"__pycache__", "node_modules", "site-packages"}
"""Folders that are not the submission's own work; nor are those whose name begins with a dot."""


def imported_modules(folder: Path) -> dict[str, tuple[str, ...]]:
    """The modules that Python files below a folder import, each with the paths of those files, relative to it.

    Left out: relative imports, imports under TYPE_CHECKING, and imports in a `try` that goes on without the module.
    Files that Python cannot parse import nothing. Notebooks are not read, and no link is followed. Names and paths come
    from the submission: pass them through `printable`.
    """
    found: dict[str, list[str]] = {}
    paths = list(python_files(folder))
    for path, modules in zip(paths, scanned(folder, paths), strict=False):
        for module in modules:
            found.setdefault(module, []).append(path)
    return {module: tuple(files) for module, files in sorted(found.items())}


def own_modules(folder: Path) -> set[str]:
    """First names of the modules that a submission brings: every NAME.py, and every folder with Python files below it.

    They count wherever they are, because scripts change sys.path.
    """
    names: set[str] = set()
    for path in map(Path, python_files(folder)):
        names |= {path.stem, *path.parts[:-1]}
    return names


def foreign_modules(folder: Path) -> dict[str, tuple[str, ...]]:
    """As `imported_modules`, without the modules that the submission brings; Python's own are among them."""
    own = own_modules(folder)
    return {name: files for name, files in imported_modules(folder).items() if name.partition(".")[0] not in own}


def python_files(folder: Path) -> Iterator[str]:
    """Relative paths of Python files, sorted in each folder, at most MAX_FILES of those among MAX_ENTRIES entries."""
    return islice(_python_files(folder), MAX_FILES)


def _python_files(folder: Path) -> Iterator[str]:
    with suppress(OSError):
        for each in walk(folder, MAX_ENTRIES, MAX_DEPTH):
            each.folders[:] = (name for name in each.folders if name not in SKIPPED and not name.startswith("."))
            yield from (each.path(name) for name in sorted(each.files) if name.endswith(".py"))


def scanned(folder: Path, paths: Sequence[str], program: Sequence[str] = SCAN) -> Iterator[Any]:
    """The program's answer on each file, in order; [] for a file that ended it. Ends early after MAX_CRASHES.

    program: reads paths as `scan` does, and prints one line of JSON for each.
    """
    done = crashes = 0
    while done < len(paths) and crashes < MAX_CRASHES:
        for line in _scan(folder, paths[done:], program):
            done += 1
            yield json.loads(line)
        if done < len(paths):  # the process ended at this file
            done, crashes = done + 1, crashes + 1
            yield []


def _scan(folder: Path, paths: Sequence[str], program: Sequence[str]) -> list[bytes]:
    """The answers of one process, one line for each file, up to the file that ended it."""
    given = b"".join(os.fsencode(path) + b"\0" for path in paths)
    done = subprocess.run(program, input=given, capture_output=True, cwd=folder, check=False)  # noqa: S603 - our own
    return [line for line in done.stdout.splitlines(keepends=True) if line.endswith(b"\n")]
