"""What grading a class costs besides the submissions' own scripts: `python -m tests.benchmarks cohort`.

The submissions are trivial: three of twenty are hostile and one of twenty is broken. The embedded judges grade
Problems 1 and 2.
"""

from __future__ import annotations

import itertools
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict
from functools import partial
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from grading.cohort.find import find_submissions
from grading.cohort.process_engine import process_engine
from grading.cohort.screen import Screen
from grading.cohort.workers import grade_all
from grading.core.results import SubmissionResult
from grading.reports.class_page import class_page
from grading.reports.scores_csv import scores_csv
from grading.sandbox.run import Limits
from grading.submission.assignment import Assignment
from grading.submission.grader import Grader
from tests.commands import ROOT

ATTACKS = sorted(path for path in (ROOT / "fixtures" / "submissions" / "attacks").iterdir() if path.is_dir())
DATA = ROOT / "fixtures" / "hw2_data"

BROKEN = {
    "nothing": {},
    "exit": {"hw2_1.sh": "exit 1\n", "hw2_2.sh": "echo no >&2; exit 1\n"},
    "syntax": {"hw2_1.sh": "if then\n", "hw2_2.sh": "python3 -c 'import nothing_like_that'\n"},
    "no_images": {"hw2_1.sh": 'mkdir -p "$1/mnistm/0_001.png"\n', "hw2_2.sh": 'mkdir -p "$2"; echo > "$2/00.png"\n'},
    "download": {"hw2_download_ckpt.sh": "exit 7\n"},
}

GOOD = {
    "hw2_1.sh": 'for d in mnistm svhn; do mkdir -p "$1/$d"; cp digit.png "$1/$d/0_001.png"; done\n',
    "hw2_2.sh": 'mkdir -p "$2"; for n in "$1"/*.pt; do cp face.png "$2/$(basename "$n" .pt).png"; done\n',
}

LIMITS = Limits(seconds=3.0, memory_bytes=2**30, processes=128, space_bytes=2**27, files=5000, file_bytes=2**26)
"""Small, because attacks use up all that they are allowed."""


def make_class(folder: Path, count: int) -> None:
    """Write `count` submissions; the name of each says its kind."""
    attacks, broken = itertools.cycle(ATTACKS), itertools.cycle(BROKEN.items())
    for i in range(count):
        if i % 20 in (3, 10, 17):
            attack = next(attacks)
            shutil.copytree(attack, folder / f"{i:03d}-hostile-{attack.name}")
            continue
        kind, scripts = "good", GOOD
        if i % 20 == 7:
            name, scripts = next(broken)
            kind = f"broken-{name}"
        submission = folder / f"{i:03d}-{kind}"
        submission.mkdir(parents=True)
        for script, text in scripts.items():
            (submission / script).write_text(text)
        if kind == "good":
            face = sorted((DATA / "face" / "GT").glob("*.png"))[0]
            shutil.copy(face, submission / "face.png")
            Image.new("RGB", (28, 28), (200, 30, 60)).save(submission / "digit.png")


def memory(pid: int) -> int:
    """Bytes of memory that a process occupies; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def workers_memory() -> int:
    """Bytes of memory that all workers on this machine occupy together."""
    found = 0
    for title in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"process_engine import serve" in title.read_bytes():
                found += memory(int(title.parent.name))
        except OSError:
            continue
    return found


class Measured(Screen):
    """A screen that also records the seconds of each submission, and the memory in use once a second."""

    def __enter__(self) -> Measured:
        super().__enter__()
        self.took: dict[str, float] = {}
        self.samples: list[tuple[int, int, int]] = []
        self.over = threading.Event()
        threading.Thread(target=self.watch, daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.over.set()
        super().__exit__(None, None, None)

    def watch(self) -> None:
        """Record (submissions finished, bytes of this process, bytes of the workers) every second until the end."""
        while not self.over.wait(1):
            self.samples.append((len(self.took), memory(os.getpid()), workers_memory()))

    def finished(self, result: SubmissionResult, seconds: float) -> None:
        """Record the seconds of a submission as its line is shown."""
        self.took[result.submission] = seconds
        super().finished(result, seconds)


def bench_cohort(count: int, workers: int) -> None:
    """Grade a class of `count` submissions and print what it took."""
    root = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        make_class(root / "in", count)
        assignment = Assignment(
            DATA,
            unet=ROOT / "hw2" / "models" / "face_unet.safetensors",
            problems="1,2",
            judges="embedded",
            limits=asdict(LIMITS),
        )

        submissions, _ = find_submissions(root / "in", root / "out", {})
        start = time.perf_counter()
        with Measured(count, Console(stderr=True)) as screen, process_engine(workers) as engine:
            results = grade_all(submissions, partial(Grader, assignment), engine, screen)
            done = time.perf_counter()
        pages = time.perf_counter()
        size = len(class_page(results, assignment.edition)) + len(scores_csv(results))
        print_outcomes(results)
        print_seconds(screen, results)
        print_memory(screen)
        print(f"all graded in {done - start:.1f} s with {workers} workers,")
        print(f"class page and scores ({size / 2**20:.1f} MiB) in {time.perf_counter() - pages:.1f} s")
        assert [result.submission for result in results] == [submission.name for submission in submissions]
    finally:
        shutil.rmtree(root)


def print_outcomes(results: list[SubmissionResult]) -> None:
    """How many submissions of each kind ended how, and the reasons of all errors."""
    outcomes = Counter((result.submission.split("-")[1], result.status) for result in results)
    table = Table("kind", "outcome", "submissions", title="outcomes")
    for (kind, status), number in sorted(outcomes.items()):
        table.add_row(kind, status, str(number))
    console = Console()
    console.print(table)
    for result in results:
        if result.status == "error":
            lines = [line.message for line in result.lines if line.status == "error"]
            console.print(result.submission, lines, [check.message for check in result.warnings], markup=False)


def print_seconds(screen: Measured, results: list[SubmissionResult]) -> None:
    """For each kind of submission, the seconds that grading one takes besides its own scripts."""
    table = Table("kind", "median", "90 %", "most", title="seconds beside a submission's own scripts")
    beside: dict[str, list[float]] = {}
    for result in results:
        own = sum(stage.seconds for stage in result.stages)
        beside.setdefault(result.submission.split("-")[1], []).append(screen.took[result.submission] - own)
    for kind, values in beside.items():
        ordered = sorted(values)
        table.add_row(
            kind, f"{statistics.median(values):.2f}", f"{ordered[int(len(ordered) * 0.9)]:.2f}", f"{ordered[-1]:.2f}"
        )
    Console().print(table)


def print_memory(screen: Measured) -> None:
    """Memory at ten moments of the run."""
    table = Table("finished", "driver MiB", "workers MiB", title="memory")
    for index in range(10):
        finished, driver, workers = screen.samples[index * (len(screen.samples) - 1) // 9]
        table.add_row(str(finished), f"{driver / 2**20:.0f}", f"{workers / 2**20:.0f}")
    most = [max(sample[column] for sample in screen.samples) / 2**20 for column in (1, 2)]
    table.add_row("most", *(f"{each:.0f}" for each in most))
    Console().print(table)
