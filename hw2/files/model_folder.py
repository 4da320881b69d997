"""A model's folder of the libraries: what is checked before they build what its config.json describes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from hw2.errors import InputError

MAX_LAYERS = 1000
"""Far more than any model has of anything; a config of a few bytes can claim layers without end."""

COUNTS = ("layers", "blocks", "depth")


def check_layers(config: Path) -> None:
    """Raises InputError if a config.json claims more layers than anybody builds.

    Whatever else is wrong with the file, the library that reads it will find.
    """
    try:
        found = json.loads(config.read_bytes())
    except (OSError, ValueError, RecursionError):
        return
    for name, value in _counts(found):
        if value > MAX_LAYERS:
            raise InputError(f"{config} has {value} under {name}; expected at most {MAX_LAYERS}, download it again")


def _counts(found: object) -> Iterator[tuple[str, float]]:
    """The numbers, also in lists, whose names speak of layers."""
    waiting: list[tuple[str, object]] = [("", found)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(str(key), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(name, inner) for inner in value]
        elif isinstance(value, int | float) and any(word in name for word in COUNTS):
            yield name, value
