"""What long names cost the grader: `python -m tests.benchmarks names`.

One submission has as many files with as long names as the limits on numbers allow, and its script writes as many.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.commands import ROOT

FILES = 20_000

MAX_MIB, MAX_JOURNAL_MIB = 200, 50
"""Bounds on the memory beside that of an empty submission, and on the journal."""

WRITE = """
import os, sys
os.chdir(sys.argv[1])
for _ in range(3):
    os.mkdir(b"\\xff" * 255)
    os.chdir(b"\\xff" * 255)
for number in range(int(sys.argv[2])):
    open(b"%05d" % number + b"\\xff" * 250, "w").close()
"""

GRADE = """
import resource, sys
from pathlib import Path
from grading.submission.assignment import Assignment
from grading.submission.grader import Grader
data, source, folder = map(Path, sys.argv[1:])
Grader(Assignment(data, problems="1", judges="embedded", trust=True)).grade(source, folder)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def make_submission(folder: Path, handed_in: int, written: int) -> None:
    """Write a submission with `handed_in` files with long names, whose script writes `written` more."""
    folder.mkdir()
    (folder / "write.py").write_text(WRITE)
    (folder / "hw2_1.sh").write_text(f'python3 write.py "$1" {written}\n')
    subprocess.run([sys.executable, folder / "write.py", folder, str(handed_in)], check=True)


def peak(source: Path, folder: Path) -> float:
    """The most memory in MiB that grading a submission took, in a process of its own."""
    command = [sys.executable, "-c", GRADE, *map(str, (ROOT / "fixtures" / "hw2_data", source, folder))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return int(done.stdout.splitlines()[-1]) / 2**10


def bench_names() -> None:
    """Grade submissions with few and with many long names and print what each took."""
    table = Table("names", "peak MiB", "journal MiB", "grade.json MiB", "seconds", title="long names")
    with tempfile.TemporaryDirectory(prefix="bench-") as root:
        found = {}
        for title, handed_in, written in (
            ("none", 0, 0),
            ("handed in", FILES, 0),
            ("written", 0, FILES - 3),
            ("just within the limits", FILES // 8, FILES // 64),
        ):
            source, folder = Path(root, f"{title} in"), Path(root, f"{title} out")
            make_submission(source, handed_in, written)
            began = time.perf_counter()
            found[title] = peak(source, folder)
            seconds = time.perf_counter() - began
            journal, grade = ((folder / name).stat().st_size / 2**20 for name in ("journal.jsonl", "grade.json"))
            table.add_row(title, f"{found[title]:.0f}", f"{journal:.1f}", f"{grade:.1f}", f"{seconds:.1f}")
            assert found[title] - found["none"] <= MAX_MIB, title
            assert journal <= MAX_JOURNAL_MIB, title
    Console().print(table)
