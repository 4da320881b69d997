"""Fixes what staff would fix by hand so that a script runs: its name, folder and line ends, never its commands."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from grading.core.text import printable
from grading.submission.near_misses import BOM, Candidate, candidate, read_script, started_scripts, visible_files

MAX_DIFF_LINES = 200
"""Lines of a difference that a report shows."""


@dataclass(frozen=True)
class Fix:
    """One change to a submission's copy. done: a sentence. diff: the lines that changed, as `diff -u` shows them."""

    done: str
    diff: tuple[str, ...] = ()


def fix_submission(copy: Path, scripts: Sequence[str]) -> list[Fix]:
    """Fix a copy of a submission in place, and return what was changed; empty if nothing had to be.

    Only scripts that are missing are looked for, and only what they start is rewritten. Owners and rights of files
    stay. Follows no link and runs nothing. Raises OSError if the copy cannot be changed.
    """
    fixes: list[Fix] = []
    for script in scripts:
        if not os.path.lexists(copy / script) and (found := candidate(copy, script)):
            fixes += _put_in_place(copy, found)
    started = {path for script in scripts if (copy / script).is_file() for path in started_scripts(copy, script)}
    return [*fixes, *(fix for path in sorted(started) for fix in _rewrite(copy, path))]


def _put_in_place(copy: Path, found: Candidate) -> Iterator[Fix]:
    if _leaves(found.path):
        return
    if "\\" in found.path:
        yield from _split_names(copy)
    if found.folder:
        yield from _move_up(copy, found.folder)
    name = found.name
    if name != found.script and _move(copy / name, copy / found.script):
        yield Fix(f"Renamed {printable(name)} to {found.script}.")


def _split_names(copy: Path) -> Iterator[Fix]:
    """Put files whose names hold a path of Windows into the folders that it names."""
    for path in visible_files(copy):
        parts = path.replace("\\", "/").split("/")
        if "\\" in path and not _leaves(path) and _move_below(copy, path, parts):
            yield Fix(f"Moved {printable(path)} to {printable('/'.join(parts))}.")


def _move_below(copy: Path, path: str, parts: Sequence[str]) -> bool:
    folder = copy
    for part in parts[:-1]:
        folder = folder / part
        if not os.path.lexists(folder):
            folder.mkdir()
            _give(folder, copy)
        if folder.is_symlink() or not folder.is_dir():
            return False
    return _move(copy / path, folder / parts[-1])


def _move_up(copy: Path, folder: str) -> Iterator[Fix]:
    """Move a folder's entries to the top; those whose names are taken there stay."""
    if not _is_real(copy, folder):
        return
    moved = [each for each in sorted((copy / folder).iterdir()) if _move(each, copy / each.name)]
    if moved:
        yield Fix(f"Moved all that is in {printable(folder)}/ to the top folder.")


def _leaves(path: str) -> bool:
    """Whether a path, read as one of Windows too, could lead out of its folder."""
    return bool({"", ".", ".."} & set(path.replace("\\", "/").split("/")))


def _is_real(copy: Path, folder: str) -> bool:
    """Whether a path consists of folders alone, none of which is a link."""
    steps = [copy / folder, *(copy / folder).parents][: len(folder.split("/"))]
    return all(step.is_dir() and not step.is_symlink() for step in steps)


def _move(path: Path, to: Path) -> bool:
    """Rename a file or folder, unless something has the new name."""
    if os.path.lexists(to):
        return False
    path.rename(to)
    return True


def _rewrite(copy: Path, path: str) -> Iterator[Fix]:
    """Give a script Unix line ends and UTF-8 without a byte order mark."""
    before = read_script(copy / path)
    after = _plain(before)
    if before == after:
        return
    descriptor = os.open(copy / path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(after)
    yield Fix(
        f"Saved {printable(path)} as UTF-8 with Unix line ends, without a byte order mark.", _diff(path, before, after)
    )


def _plain(content: bytes) -> bytes:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        content = content.decode("utf-16", "replace").encode()
    return content.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _diff(path: str, before: bytes, after: bytes) -> tuple[str, ...]:
    old, new = (content.decode("utf-8", "backslashreplace").split("\n") for content in (before, after))
    lines = list(difflib.unified_diff(old, new, f"{path} (submitted)", f"{path} (fixed)", lineterm=""))
    more = [f".. and {len(lines) - MAX_DIFF_LINES} more lines"] if len(lines) > MAX_DIFF_LINES else []
    return tuple(map(printable, [*lines[:MAX_DIFF_LINES], *more]))


def _give(folder: Path, like: Path) -> None:
    """Give a new folder the owner of another."""
    status = like.stat()
    if os.geteuid() == 0:
        os.chown(folder, status.st_uid, status.st_gid, follow_symlinks=False)
