"""The short form of the fuzzing, and the proof that it finds what it looks for."""

from __future__ import annotations

import os
from collections.abc import Callable
from mmap import MAP_ANONYMOUS, MAP_POPULATE, MAP_PRIVATE, mmap
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz import engine
from tests.fuzz.engine import Fuzzer, Target, bounded
from tests.fuzz.mutate import change_text
from tests.fuzz.targets import TARGETS

TIMES = float(os.environ.get("FUZZ_TIMES", "1"))
"""The number of inputs is multiplied by this."""


@pytest.mark.parametrize("name", TARGETS)
def test_only_a_readers_own_errors_come_out(name: str, tmp_path: Path) -> None:
    fuzzer = Fuzzer(TARGETS[name], tmp_path, seed=int(os.environ.get("FUZZ_SEED", "0")))
    fuzzer.try_seeds()
    with bounded():
        for _ in range(round(fuzzer.target.inputs * TIMES)):
            fuzzer.step()
    for outcome, (why, content) in fuzzer.faults.items():
        kept = tmp_path.with_name(f"{tmp_path.name}-fault")
        kept.write_bytes(content)
        pytest.fail(f"{outcome}, for {kept} (seed {fuzzer.seed})\n{why}")


def fuzzed(read: Callable[[Path], object], folder: Path, inputs: int = 60, seed: int = 0) -> Fuzzer:
    """A run on a reader of numbers, one a line."""
    seeds = lambda: [b"12 14\n7\n"]  # noqa: E731
    fuzzer = Fuzzer(Target("numbers", "a.txt", read, seeds, (change_text,), (ValueError,)), folder, seed)
    for _ in range(inputs):
        fuzzer.step()
    return fuzzer


def numbers(folder: Path) -> list[int]:
    text = (folder / "a.txt").read_text(errors="replace")
    try:
        return [int(word) for word in text.split() if len(word) < 20]
    except ValueError:
        raise ValueError("a.txt has a word that is no number; correct it") from None


def test_a_reader_without_faults_passes(tmp_path: Path) -> None:
    fuzzer = fuzzed(numbers, tmp_path)
    assert not fuzzer.faults
    assert len(fuzzer.outcomes) == 2, "files that are read and files that are refused"


def leaks(folder: Path) -> None:
    if not numbers(folder):
        raise KeyError("nothing")


def prints(folder: Path) -> None:
    if len(numbers(folder)) > 10:
        raise ValueError("two\nlines")


def rambles(folder: Path) -> None:
    if len(numbers(folder)) > 10:
        raise ValueError("word " * 1000)


def warns(folder: Path) -> None:
    np.array(numbers(folder), np.float64) / np.zeros(1)


def dawdles(folder: Path) -> None:
    if len(numbers(folder)) > 10:
        while True:
            pass


HOARD: list[object] = []


def hoards(folder: Path) -> None:
    if len(numbers(folder)) > 10 and not HOARD:
        HOARD.append(mmap(-1, 2**29, flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE))  # no freed memory serves it


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (leaks, "KeyError"), (prints, "cannot be printed"), (rambles, "has 5000 characters"), (warns, "RuntimeWarning"),
        (dawdles, "not done after 0.2 s"), (hoards, "MiB"),
    ],
)  # fmt: skip
def test_it_finds_a_reader_that(
    read: Callable[[Path], object], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "HANGS", 0.2)
    monkeypatch.setattr(engine, "_peak", engine._memory)  # earlier tests had a higher peak
    monkeypatch.setattr(engine, "MEMORY", 2**26)
    found = [why for why, _ in fuzzed(read, tmp_path).faults.values()]
    HOARD.clear()
    assert any(fault in why for why in found), found


def test_the_seed_alone_decides_the_inputs(tmp_path: Path) -> None:
    seen: list[list[bytes]] = []
    for seed in (1, 1, 2):
        contents: list[bytes] = []
        fuzzed(lambda folder: contents.append((folder / "a.txt").read_bytes()), tmp_path, seed=seed)  # noqa: B023
        seen.append(contents)
    assert seen[0] == seen[1] != seen[2]
