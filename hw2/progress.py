"""What long work tells on stderr: a progress bar, and sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

OnStep = Callable[[str, int], None]
"""(note, number of units that are done) -> None."""


def silent(note: str, count: int) -> None:
    """An `OnStep` that shows nothing."""


@contextmanager
def progress_bar(what: str, total: int, done: int = 0, *, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr. It yields a function to call with a note and the number of units just done.

    quiet: show nothing, e.g. in all processes but one.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True, quiet=quiet)
    with Progress(
        *columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False), console=console
    ) as progress:
        task = progress.add_task(what, total=total, completed=done, note="")
        yield lambda note, count=1: progress.update(task, advance=count, note=note)


def say(sentence: str) -> None:
    """Print a sentence on stderr, above a progress bar if there is one."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"hw2: {sentence}", markup=False)
