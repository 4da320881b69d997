"""The exception at the end of a log that a Python program printed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SUBMISSION = "/submission/"
"""The submission's folder, as its code sees it."""

MAX_TEXT = 240
"""Characters of an exception that are quoted."""

TRACEBACK = "Traceback (most recent call last):"

_FRAME = re.compile(r'^\s+File "(?P<path>.+?)", line (?P<line>\d{1,9})\b')
_EXCEPTION = re.compile(r"^(?P<name>[A-Za-z_][\w.]*)(?::\s?(?P<text>.*))?$")


@dataclass(frozen=True)
class PythonError:
    """One exception that no code caught.

    text: its last line, such as "KeyError: 'unet'". file, line: the last frame that is the submission's own; "" and 0
    if there is none. first, last: the lines of the log that show both, counted from 0.
    """

    text: str
    file: str
    line: int
    first: int
    last: int

    @property
    def where(self) -> str:
        """Such as "draw.py, line 4"; empty if unknown."""
        return f"{self.file}, line {self.line}" if self.file else ""

    def __str__(self) -> str:
        return f"{self.text} ({self.where})" if self.where else self.text


def find_error(log: str) -> PythonError | None:
    """The last exception that ends a traceback in a log, or None.

    A SyntaxError of the script itself has a frame but no traceback.
    """
    lines = log.split("\n")
    starts = [number for number, line in enumerate(lines) if line.strip() == TRACEBACK]
    starts = starts or [number for number, line in enumerate(lines) if _FRAME.match(line)][-1:]
    for start in reversed(starts):
        found = _end(lines, start)
        if found is not None:
            return _error(lines, start, found)
    return None


def _end(lines: Sequence[str], start: int) -> int | None:
    """The number of the line that names the exception: the first one after the frames that is not indented."""
    for number in range(start + 1, len(lines)):
        line = lines[number]
        if line and not line[0].isspace():
            return number if _EXCEPTION.match(line) else None
    return None


def _error(lines: Sequence[str], start: int, end: int) -> PythonError:
    text = lines[end].strip()
    if text.endswith(":") and end + 1 < len(lines):  # such as torch's lists of missing keys
        text = f"{text} {lines[end + 1].strip()}"
    shown = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} .."
    frames = list(_own_frames(lines, start, end))
    if not frames:
        return PythonError(shown, "", 0, start, end)
    number, file, line = frames[-1]
    return PythonError(shown, file, line, number, end)


def _own_frames(lines: Sequence[str], start: int, end: int) -> Iterator[tuple[int, str, int]]:
    """(line of the log, file, line of the file) of the frames inside the submission."""
    for number in range(start, end):
        if frame := _FRAME.match(lines[number]):
            path = frame["path"]
            inside = path.removeprefix(SUBMISSION).removeprefix("./")
            if not inside.startswith(("/", "<")) and "site-packages/" not in inside:
                yield number, inside, int(frame["line"])


def excerpt(log: str, most: int) -> list[str]:
    """At most `most` lines of a log: around its last exception, from the submission's own frame on, else the last ones.

    A note stands for each gap.
    """
    lines = log.rstrip().split("\n")
    if not log.strip():
        return []
    error = find_error(log)
    if error is None or len(lines) <= most:
        return lines[-most:]
    first, last = error.first, error.last + 1
    if last - first > most:
        kept = max((most - 1) // 2, 1)
        return [
            *lines[first : first + kept],
            f"[.. {last - first - 2 * kept} lines left out ..]",
            *lines[last - kept : last],
        ]
    last = min(len(lines), first + most)
    return lines[max(last - most, 0) : last]
