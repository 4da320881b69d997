"""Small text files that a user wrote, checked while they are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hw2.errors import InputError
from hw2.files.leftovers import described

MAX_BYTES = 2**20


def read_small_file(path: Path, expected: str) -> bytes:
    """The content of a regular file of at most 1 MiB. Raises InputError, with what was expected, for anything else."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe could wait forever
            raise InputError(f"{path} is not a file; {expected}")
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} is larger than {MAX_BYTES} bytes; {expected}")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); {expected}") from None


def read_json(path: Path, expected: str) -> Any:
    """What a small JSON file holds. Raises InputError also for a repeated key or invalid Unicode."""
    found = read_small_file(path, expected)
    try:
        content = json.loads(found, object_pairs_hook=_without_repetition)
        json.dumps(content, ensure_ascii=False).encode()  # half a surrogate pair can be escaped, but is not text
    except (ValueError, RecursionError) as error:
        if what := described(found, path.name):
            raise InputError(f"{path} {what}; {expected}") from None
        raise InputError(f"{path} is not valid JSON ({error}); fix it") from None
    return content


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    if repeated := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"the key {repeated[0]!r} is there twice")
    return dict(pairs)
