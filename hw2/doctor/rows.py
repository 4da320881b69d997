"""The rows of the table, and checks that cannot stop one another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from rich.table import Table
from rich.text import Text

from hw2.devices.memory import is_out_of_memory

Status = Literal["ok", "warning", "problem"]

STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}


@dataclass(frozen=True)
class Row:
    """One thing that was checked. found: what is there. remedy: what to do; empty if there is nothing to do.

    A warning is slow, or does not fit; a problem stops the commands or makes them wrong.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""


Check = Callable[[], Iterable[Row]]


def checked(name: str, check: Check) -> list[Row]:
    """The rows of a check; one row with the reason if it fails, whatever the exception is."""
    rows: list[Row] = []
    try:
        for row in check():
            rows.append(row)
    except Exception as error:  # CUDA, cuDNN, NCCL and the compilers have no exception in common
        rows.append(failed(name, error))
    return rows


def failed(name: str, error: Exception) -> Row:
    """The row of something that raised this error."""
    return Row(name, "problem", f"it failed: {first_line(error)}", remedy_for(error))


def first_line(error: BaseException) -> str:
    """The beginning of an error's message, which may have pages; its type if there is no message."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return (line or type(error).__name__)[:200]


def remedy_for(error: Exception) -> str:
    """What to do about an operation that raised this error."""
    if is_out_of_memory(error):
        return "close other programs that use this device"
    if "no kernel image" in str(error):
        return "install a PyTorch that has kernels for this card; see the row kernels"
    return "run hw2 doctor again; if it fails again, report its --json, and use --device cpu"


def table(rows: Iterable[Row]) -> Table:
    """The rows as a table for people."""
    shown = Table(title="Doctor", title_justify="left")
    for name in ("", "status", "found", "what to do"):
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(row.name, Text(row.status, STYLES[row.status]), Text(row.found), Text(row.remedy))
    return shown
