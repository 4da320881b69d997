"""Text for people: safe to print, with numbers that agree and lists of bounded length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SHOWN = 5
"""Entries of a long list that a sentence names."""

MOST_DECIMALS = 17
"""Decimals after which a number is not told from a limit any more."""


def printable(text: str) -> str:
    """Text that is safe to print. Characters that could control a terminal, or that no font shows, are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, most: int) -> str:
    """The text without its middle, if it has more than `most` characters."""
    return text if len(text) <= most else f"{text[: most // 2]} .. {text[4 - most // 2 :]}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 day", "2 days". plural: needed if it is not noun + s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def beside(value: float, limits: Iterable[float | None], decimals: int, unit: str = "f") -> str:
    """A number as text, with more decimals where rounding would move it onto a limit or to the limit's other side.

    So 79.996 % that misses a baseline of 80 % is not shown as 80.00 %. unit: "f" for a plain number, "%" for a share.
    """
    known = [limit for limit in limits if limit is not None]
    # A number that equals a limit may have too many decimals to be shown so; it still keeps its side of the others.
    for kept in (known, [limit for limit in known if limit != value]):
        for places in range(decimals, MOST_DECIMALS + 1):
            text = f"{value:.{places}{unit}}"
            shown = float(text.replace("%", "e-2"))  # a division by 100 would round once more
            if all((shown > limit) == (value > limit) and (shown < limit) == (value < limit) for limit in kept):
                return text
    return f"{value:.{decimals}{unit}}"


def ignored(names: Sequence[str]) -> str:
    """A sentence about entries that the homework does not ask for."""
    return f"The grader ignored {counted(len(names), 'unexpected entry', 'unexpected entries')}: {listed(names)}."


def listed(names: Sequence[str], shown: int = SHOWN) -> str:
    """The first names of a list, safe to print, and how many more there are: "a, b and 3 more"."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(printable, names[:shown])) + more
