"""A class of trivial submissions, every tenth hostile and every tenth broken: what grading costs beside their scripts.

`python -m tests.benchmarks.bench_cohort [SUBMISSIONS [WORKERS]]`, 200 and 2 by default: Problems 1 and 2, our judges.
"""

from __future__ import annotations

import functools
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from grading.cohort.cohort import _grader, find_submissions, grade_all, ray_engine
from grading.cohort.screen import Screen
from grading.core.results import SubmissionResult
from grading.reports.class_page import class_page, scores_csv
from grading.sandbox.run import Limits
from grading.submission.assignment import Assignment
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
"""Attacks use up all that they may."""


def make_class(folder: Path, count: int) -> None:
    """Names say what each submission is."""
    for i in range(count):
        if i % 10 == 3:
            attack = ATTACKS[i // 10 % len(ATTACKS)]
            shutil.copytree(attack, folder / f"{i:03d}-hostile-{attack.name}")
            continue
        name, scripts = list(BROKEN.items())[i // 10 % len(BROKEN)]
        kind, scripts = (f"broken-{name}", scripts) if i % 10 == 7 else ("good", GOOD)
        submission = folder / f"{i:03d}-{kind}"
        submission.mkdir(parents=True)
        for script, text in scripts.items():
            (submission / script).write_text(text)
        if kind == "good":
            face = sorted((DATA / "face" / "GT").glob("*.png"))[0]
            shutil.copy(face, submission / "face.png")
            Image.new("RGB", (28, 28), (200, 30, 60)).save(submission / "digit.png")


def memory(pid: int) -> int:
    """Bytes of a process that are in memory."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def workers_memory() -> int:
    """Of all that calls itself a worker of ours."""
    found = 0
    for title in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if title.read_bytes().startswith(b"ray::Worker"):
                found += memory(int(title.parent.name))
        except OSError:
            continue
    return found


class Measured(Screen):
    """Notes what each submission took, and memory each second."""

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
        while not self.over.wait(1):
            self.samples.append((len(self.took), memory(os.getpid()), workers_memory()))

    def finished(self, result: SubmissionResult, seconds: float) -> None:
        self.took[result.submission] = seconds
        super().finished(result, seconds)


def main(count: int, workers: int) -> None:
    root = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        make_class(root / "in", count)
        assignment = Assignment(
            DATA, unet=ROOT / "hw2" / "models" / "face_unet.safetensors", problems=(1, 2), limits=LIMITS
        )
        submissions, _ = find_submissions(root / "in", root / "out", {})
        start = time.perf_counter()
        with Measured(count, Console(stderr=True)) as screen, ray_engine("", workers) as engine:
            ready = time.perf_counter()
            results = grade_all(submissions, functools.partial(_grader, assignment), engine, screen)
            done = time.perf_counter()
        pages = time.perf_counter()
        size = len(class_page(results)) + len(scores_csv(results))
        report(screen, results)
        print(f"Ray up in {ready - start:.1f} s, all graded in {done - ready:.1f} s with {workers} workers,")
        print(f"class page and scores ({size / 2**20:.1f} MiB) in {time.perf_counter() - pages:.1f} s")
        assert [result.submission for result in results] == [submission.name for submission in submissions]
    finally:
        shutil.rmtree(root)


def report(screen: Measured, results: list[SubmissionResult]) -> None:
    """All figures as tables."""
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
    console.print(table)

    table = Table("finished", "driver MiB", "workers MiB", title="memory")
    for index in range(10):
        finished, driver, workers = screen.samples[index * (len(screen.samples) - 1) // 9]
        table.add_row(str(finished), f"{driver / 2**20:.0f}", f"{workers / 2**20:.0f}")
    console.print(table)


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    main(*(given + [200, 2][len(given) :]))
