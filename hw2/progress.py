"""What long work tells on stderr: a progress bar, or lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hw2 import log

OnStep = Callable[[str, int], None]
"""(note, number of units that are done) -> None."""

SOON, LATEST = 1.0, 30.0
"""Seconds between two lines about the same work: at least, and at most."""


def silent(note: str, count: int) -> None:
    """An `OnStep` that shows nothing."""


@contextmanager
def progress_bar(what: str, total: int, done: int = 0, *, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr. It yields a function to call with a note and the number of units just done.

    Where stderr is no terminal, there is a line for each tenth of the work, and at least one every 30 seconds.
    quiet: show nothing, e.g. in all processes but one.
    """
    lines = _Lines(what, total, done, quiet)
    console = Console(stderr=True, quiet=quiet or log.is_quiet())
    if not console.is_terminal:
        yield lines.advance
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False), console=console
    ) as progress:
        task = progress.add_task(what, total=total, completed=done, note="")

        def advance(note: str, count: int = 1) -> None:
            progress.update(task, advance=count, note=note)
            lines.advance(note, count)

        yield advance


@dataclass
class _Lines:
    """Lines about the progress of one work. tenth: of the work, at the last line."""

    what: str
    total: int
    done: int
    quiet: bool
    began: float = field(default_factory=lambda: time.monotonic())
    told: float = 0.0
    tenth: int = 0

    def __post_init__(self) -> None:
        self.told, self.tenth = self.began, self._tenth()

    def _tenth(self) -> int:
        return 10 * self.done // max(self.total, 1)

    def advance(self, note: str, count: int = 1) -> None:
        self.done += count
        now = time.monotonic()
        due = now - self.told >= (SOON if self._tenth() > self.tenth else LATEST)
        if self.quiet or not (due or self.done == self.total):
            return
        self.told, self.tenth = now, self._tenth()
        noted = f", {note}" if note else ""
        log.advance(f"{self.what}: {self.done} of {self.total} in {now - self.began:.0f} s{noted}")
