"""Reads staff's small text files, such as prompts, labels and predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grading.core.bounds import MAX_FILE_BYTES
from grading.core.errors import GradingError
from grading.core.text import printable
from grading.files.leftovers import described


def read_bytes(path: Path, expected: str) -> bytes:
    """Read a regular file. Raises GradingError, which says what was expected, if it cannot be read."""
    shown = printable(str(path))
    try:
        if not path.is_file():  # reading a pipe may block, and a device may have no end
            raise GradingError(f"{shown} is not a file; expected {expected}")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise GradingError(f"{shown} has more than {MAX_FILE_BYTES} bytes; expected {expected}")
        return path.read_bytes()
    except OSError as error:
        raise GradingError(f"{shown} cannot be read ({error.strerror}); expected {expected}") from None


def read_object(path: Path, expected: str) -> dict[str, Any]:
    """Read a JSON object that is not empty. Raises GradingError, which says what was expected, for anything else."""
    content, shown = read_bytes(path, expected), printable(str(path))
    try:
        found = json.loads(content)
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair can be escaped but not printed
    except (ValueError, RecursionError) as error:
        if what := described(content, path.name):
            raise GradingError(f"{shown} {what}; expected {expected}") from None
        raise GradingError(f"{shown} is not valid JSON ({printable(str(error))}); correct it") from None
    if not isinstance(found, dict) or not found:
        raise GradingError(f"{shown} has no JSON object with entries; expected {expected}")
    return found
