"""What it costs to start a command, and which part of that the imports are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from functools import partial

from rich.table import Table

from tests.benchmarks.measure import seconds
from tests.commands import ROOT

TRUTH = ROOT / "fixtures" / "hw2_data" / "face" / "GT"

COMMANDS = {
    "hw2 --help": (["hw2", "--help"], "0.2 s"),
    "hw2-grade --help": (["grading", "--help"], ""),
    "hw2-grade faces, ten images": (["grading", "faces", str(TRUTH), str(TRUTH)], "1.5 s"),
}
"""Name -> (module and arguments, the goal; empty for none)."""


def started(arguments: list[str], *python: str) -> str:
    """Run a command from another folder, without a terminal; return its stderr."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *python, "-m", *arguments]
        found = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=found)
    return done.stderr


def import_seconds(told: str) -> float:
    """The sum of what `python -X importtime` tells of each module on its own."""
    return sum(int(each) for each in re.findall(r"^import time:\s+(\d+) \|", told, re.MULTILINE)) / 1e6


def bench_start(table: Table) -> None:
    """The time from typing a command to its end."""
    for name, (arguments, goal) in COMMANDS.items():
        whole, bare = seconds(partial(started, arguments), partial(started, ["this"]), rounds=5)
        imports = import_seconds(started(arguments, "-X", "importtime"))
        table.add_row(
            name,
            f"{whole:.2f} s",
            f"imports {imports:.2f} s; Python itself {bare:.2f} s",
            f"{imports / whole:.0%} are imports" + f" (goal: {goal} in all)" * bool(goal),
        )
