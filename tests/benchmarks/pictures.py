"""What hostile pictures cost the grader: `python -m tests.benchmarks pictures`."""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.table import Table

from grading.files.decode import read_images
from grading.problems.metrics import near_pairs
from tests.grading.files import hostile

MOST_MIB = 150
"""Bound on the memory for the near-duplicates of 10,000 pictures, without their thumbnails."""

MOST_SECONDS = 120.0
"""Bound on 100 pictures that are made to take long, on a machine with a free core; the reader stops after 30."""

PICTURES: dict[str, Callable[[], bytes]] = {
    "PNG, transparent": hostile.transparent_png,
    "BMP, run-length encoded": hostile.slow_bmp,
    "JPEG of 60 scans, cut": hostile.cut_jpeg,
    "GIF of one colour": hostile.large_gif,
}


def bench_pictures(table: Table) -> None:
    """Rows about near-duplicates, and about 100 hostile pictures of each kind."""
    rows = np.random.default_rng(0).normal(128, 3, (10_000, 768)).astype(np.float32)  # no pair can be left out
    labels = np.array(list("0123456789") * 1000)
    tracemalloc.start()
    start = time.perf_counter()
    near_pairs(rows, labels, 4.0, 3)
    took, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    table.add_row("near-duplicates of 10,000", f"{took:.1f} s, {peak:.0f} MiB", f"{MOST_MIB} MiB at most", "")
    assert peak < MOST_MIB
    for kind, make in PICTURES.items():
        took = _hundred(make())
        table.add_row(f"100 x {kind}", f"{took:.1f} s", f"{MOST_SECONDS:g} s at most", f"{took / MOST_SECONDS:.2f}")
        assert took < MOST_SECONDS


def _hundred(content: bytes) -> float:
    """Seconds for 100 files of this content."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        names = [f"{i}.png" for i in range(100)]
        for each in names:
            (folder / each).write_bytes(content)
        start = time.perf_counter()
        found = read_images(folder, [], names)
        assert list(found) == names
        return time.perf_counter() - start
