"""Pipes and open folders between the grader and a command, and the bounded log of what the command prints."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from io import FileIO

from grading.core.text import printable

LOG_HEAD, LOG_TAIL, LOG_PER_DRAIN = 4 * 2**10, 12 * 2**10, 2**20
"""Bytes kept from the beginning and the end of what a command prints, and bytes that one call of `drain` reads."""

PROGRESS = re.compile(r"\d\s?%|\d/\d|it/s|s/it|[█#=.>]{5}|\d\s?[KMGkmg]i?B?/s")
"""The marks of a progress bar."""

MOST_RETURNS = 8
"""Carriage returns in one line that are shown; a line with more is a progress bar of some kind."""


class Log:
    """The beginning and the end of a text that may be endless.

    paths: {path inside: path outside} of a command that runs outside. Its log names the paths inside.
    """

    def __init__(self, pipe: FileIO, paths: Mapping[str, str] | None = None) -> None:
        self.pipe, self.paths = pipe, paths or {}
        self.head, self.tail, self.length = b"", b"", 0
        os.set_blocking(pipe.fileno(), False)

    def drain(self) -> None:
        """Read what has been printed, up to LOG_PER_DRAIN bytes, so that much output does not delay the next check."""
        taken = 0
        while taken < LOG_PER_DRAIN and (piece := self.pipe.read(2**16)):
            taken += len(piece)
            self.length += len(piece)
            room = max(LOG_HEAD - len(self.head), 0)
            self.head, self.tail = self.head + piece[:room], (self.tail + piece[room:])[-LOG_TAIL:]

    def text(self) -> str:
        """The text, safe to print, as a terminal would show it. A progress bar appears in its last state."""
        cut = self.length - len(self.head) - len(self.tail)
        note = f"\n[.. {cut} bytes left out ..]\n".encode() if cut else b""
        text = (self.head + note + self.tail).decode(errors="replace")
        for inside, outside in sorted(self.paths.items(), key=lambda each: -len(each[1])):
            text = text.replace(outside, inside)
        lines = text.split("\n")
        return "\n".join(printable(_last_state(line.rstrip("\r")).expandtabs()) for line in lines).strip("\n")


def _last_state(line: str) -> str:
    """A line without a progress bar's earlier states. Any other carriage return stays, since it may be the fault."""
    states = [state for state in line.split("\r") if state]
    return states[-1] if len(states) > MOST_RETURNS or any(map(PROGRESS.search, states)) else line


def open_pipe(resources: ExitStack) -> tuple[FileIO, FileIO]:
    """The reading and the writing end of a new pipe."""
    reader, writer = os.pipe()
    return resources.enter_context(FileIO(reader, "r")), resources.enter_context(FileIO(writer, "w"))


def open_folder(path: str, resources: ExitStack) -> int:
    """A descriptor of a folder. Raises OSError if it cannot be opened."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    resources.callback(os.close, descriptor)
    return descriptor


def read_start(folder: int, path: str) -> bytes:
    """The first 4096 bytes of a file below an open folder; empty if the file no longer exists."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
