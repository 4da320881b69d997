"""The caller's own small text files: prompts, labels, predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grading.core.errors import GradingError
from grading.core.spec import MAX_FILE_BYTES
from grading.core.text import printable


def read_bytes(path: Path, expected: str) -> bytes:
    """A regular file's content. Raises GradingError, with what was expected, if it cannot be had."""
    shown = printable(str(path))
    try:
        if not path.is_file():  # a pipe could keep us waiting, a device give bytes for ever
            raise GradingError(f"{shown} is not a file; expected {expected}")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise GradingError(f"{shown} has more than {MAX_FILE_BYTES} bytes; expected {expected}")
        return path.read_bytes()
    except OSError as error:
        raise GradingError(f"{shown} cannot be read ({error.strerror}); expected {expected}") from None


def read_object(path: Path, expected: str) -> dict[str, Any]:
    """A JSON object that is not empty. Raises GradingError, with what was expected, for anything else."""
    content, shown = read_bytes(path, expected), printable(str(path))
    try:
        found = json.loads(content)
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair can be escaped, but never printed
    except (ValueError, RecursionError) as error:
        raise GradingError(f"{shown} is not valid JSON ({printable(str(error))}); mend it") from None
    if not isinstance(found, dict) or not found:
        raise GradingError(f"{shown} is no JSON object with entries; expected {expected}")
    return found
