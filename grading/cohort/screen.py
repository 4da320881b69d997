"""Shows staff the progress of a class, on a live screen or, without a terminal, as a line per submission."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from grading.core.log import is_quiet, to_file
from grading.core.results import SubmissionResult
from grading.core.text import counted, printable
from grading.reports.terminal import STYLES

REFRESH = 2.0
"""Updates per second."""


@dataclass
class Running:
    """A submission that is being graded. began: time.monotonic() at its start. stage: "" before the first stage."""

    name: str
    began: float
    stage: str = ""


@dataclass
class Screen:
    """Shows the progress of a class; used in a `with`. Without a terminal, it prints a line per finished submission."""

    total: int
    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False, soft_wrap=True))
    outcomes: Counter[str] = field(default_factory=Counter)
    running: list[Running] = field(default_factory=list)
    workers: int = 0

    def __enter__(self) -> Screen:
        self.began = time.monotonic()
        self.live = Live(get_renderable=self.render, console=self.console, refresh_per_second=REFRESH)
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.running = []
        self.live.stop()

    def say(self, sentence: str, style: str = "yellow") -> None:
        """Print a note for staff, above the live screen."""
        if not is_quiet():
            self.console.print(sentence, style=style, markup=False)
        to_file(sentence)

    def finished(self, result: SubmissionResult, seconds: float) -> None:
        """Count a result. seconds: time since its grading began."""
        self.outcomes[result.status] += 1
        if not self.console.is_terminal:
            done = f"[{self.outcomes.total():>{len(str(self.total))}}/{self.total}]"
            points = f"{result.points:g} of {result.max_points:g}"
            line = f"{done} {result.status:<5}  {points:<12}  {_clock(seconds)}  {printable(result.submission)}"
            self.say(line, style="")

    def counts(self) -> dict[str, int]:
        """Numbers of submissions by their state."""
        done = {status: self.outcomes[status] for status in ("pass", "fail", "error")}
        waiting = self.total - self.outcomes.total() - len(self.running)
        return {"waiting": waiting, "running": len(self.running), **done}

    def remaining(self) -> float | None:
        """Estimated seconds for the rest, at the mean speed so far; None before the first result."""
        done = self.outcomes.total()
        return (time.monotonic() - self.began) / done * (self.total - done) if done else None

    def render(self) -> RenderableType:
        """The current screen."""
        counts = Text("  ").join(Text(f"{n} {name}", STYLES.get(name, "")) for name, n in self.counts().items())
        remaining = self.remaining()
        clock = f"{_clock(time.monotonic() - self.began)} elapsed"
        if self.outcomes.total() < self.total:
            clock += f", about {_clock(remaining)} left" if remaining is not None else ""
            clock += f", {counted(self.workers, 'worker')}" if self.workers else ", no worker yet"
        rows = Table.grid(padding=(0, 2))
        for each in self.running:
            elapsed = _clock(time.monotonic() - each.began)
            rows.add_row(Text(elapsed), Text(printable(each.name)), Text(each.stage or "starting", "dim"))
        bar = Table.grid()  # a bar alone would not end its line
        bar.add_row(ProgressBar(total=self.total, completed=self.outcomes.total(), width=60))
        return Group(bar, counts, Text(clock), *([rows] if self.running else []))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
