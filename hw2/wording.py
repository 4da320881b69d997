"""Lists and counts in sentences, the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 3
"""How many entries of a long list a sentence names."""


def shortened(names: Sequence[object], shown: int = SHOWN) -> str:
    """The first few names, and how many more there are: "a, b, c and 2 more"."""
    rest = len(names) - shown
    return ", ".join(map(str, names[:shown])) + (f" and {rest} more" if rest > 0 else "")


def are(count: int) -> str:
    """The verb after a number of things."""
    return "is" if count == 1 else "are"


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """Number and noun, such as "1 file" or "2 files"; plural: of a noun that does not take an s."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"
