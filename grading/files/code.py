"""The code of a submission as text: read without following links, and compared without comments and spaces."""

from __future__ import annotations

import io
import os
import re
import stat
import tokenize
from pathlib import Path, PurePosixPath

CODE = (".py", ".sh")

MAX_BYTES = 256 * 2**10
"""Bytes of a code file that are read; the rest of a longer one is left out."""

MAX_LINE = 10_000
"""Characters of a line above which a file is compared as if it were no Python: tokens of such lines take too long."""

LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def is_code(path: str) -> bool:
    """Whether a file's name is that of a script or a Python module."""
    return path.lower().endswith(CODE)


def read_code(folder: Path, path: str) -> str | None:
    """The text of a regular file below a folder; None for a link, another kind of entry, or a file that is no text."""
    try:
        descriptor = _open_below(folder, PurePosixPath(path).parts)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        content = os.read(descriptor, MAX_BYTES)
    finally:
        os.close(descriptor)
    return None if b"\0" in content else content.decode(errors="replace")


def plain_code(path: str, text: str) -> str:
    """The code without comments and spaces, so that it is the same however it is laid out."""
    lines = text.removeprefix("\ufeff").splitlines()
    if path.lower().endswith(".py") and all(len(line) <= MAX_LINE for line in lines):
        try:
            tokens = tokenize.generate_tokens(io.StringIO("\n".join(lines) + "\n").readline)
            return "\n".join(token.string for token in tokens if token.type not in LAYOUT)
        except Exception:  # noqa: S110 - a stranger's file that is no Python is compared as plain text
            pass
    return "\n".join(filter(None, (re.sub(r"(^|\s)#.*|\s", "", line) for line in lines)))


def _open_below(folder: Path, parts: tuple[str, ...]) -> int:
    """A descriptor of the file. Raises OSError if any part of its path is a link."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for number, part in enumerate(parts, 1):
        try:
            below = os.open(part, flags | (os.O_DIRECTORY if number < len(parts) else 0), dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor
