"""One input after the other to one reader, and what may come out: what it documents, soon, in bounded memory."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import resource
import signal
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.fuzz.mutate import Mutator, mutated

SECONDS = 10.0
"""Processor time that one input may take; most take a millisecond."""

HANGS = 60.0
"""Seconds after which an input is given up, however little it computes."""

MEMORY = 3 * 2**29
"""Bytes that one input may add to the process's memory."""

ADDRESSES = 4 * 2**30
"""Bytes of address space that all inputs together may add, so that no input harms the machine."""

MAX_MESSAGE = 1010
"""Characters of a message, without the path of the file."""

MAX_CORPUS = 300
"""Inputs that are kept to be mutated again, because something new came out."""


class TooSlow(BaseException):
    """Raised in the middle of an input; no reader catches it."""


@dataclass(frozen=True)
class Target:
    """One reader.

    file: name of the file that is mutated, below a folder. read: calls the reader with that folder, and may return a
    word on what it found, so that files with new findings are mutated again. seeds: makes valid files; None: there is
    one, which `prepare` made. errors: what may come out; with `shown`, a message for people. prepare: makes the other
    files of the folder.
    inputs: how many the short form tries.
    """

    name: str
    file: str
    read: Callable[[Path], object]
    seeds: Callable[[], Sequence[bytes]] | None
    mutators: Sequence[Mutator]
    errors: tuple[type[Exception], ...]
    prepare: Callable[[Path], object] = lambda folder: None
    inputs: int = 60
    shown: bool = True


@dataclass
class Fuzzer:
    """The state of a run. outcomes: how often each came out. faults: by their place, each with its first input."""

    target: Target
    folder: Path
    seed: int = 0
    inputs: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    faults: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.target.prepare(self.folder)
        first = self.folder / self.target.file
        self.seeds = list(self.target.seeds()) if self.target.seeds else [first.read_bytes()]
        self.corpus: list[bytes] = []

    def try_seeds(self) -> None:
        """Read all seeds; afterwards everything that the reader needs is loaded."""
        for content in self.seeds:
            self.attempt(content)

    def step(self, current: Path | None = None) -> None:
        """Mutate one file and read it. current: keeps the input, in case that it ends the process."""
        rng = Random(f"{self.seed} {self.target.name} {self.inputs}")
        known = self.corpus if self.corpus and rng.random() < 0.3 else self.seeds
        content = mutated(rng, known, self.target.mutators)
        if current:
            current.write_bytes(content)
        if self.attempt(content) and len(self.corpus) < MAX_CORPUS:
            self.corpus.append(content)

    def attempt(self, content: bytes) -> bool:
        """Read one file. Whether something new came out."""
        self.inputs += 1
        path = self.folder / self.target.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        outcome, fault = self._outcome()
        if fault:
            self.faults.setdefault(outcome, (fault, content))
        new = outcome not in self.outcomes
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        return new

    def _outcome(self) -> tuple[str, str]:
        """(what came out, without numbers and names; what is wrong with it, empty if nothing is)."""
        before, peak, started = _memory(), _peak(), time.process_time()
        try:
            with _within(HANGS), warnings.catch_warnings():
                warnings.simplefilter("error")
                found = self.target.read(self.folder)
            outcome, fault = f"read {found}" if isinstance(found, str) else "read", ""
        except self.target.errors as error:
            outcome = f"{type(error).__name__}: {self._shape(str(error))}"
            fault = self._wrong_words(str(error)) if self.target.shown else ""
        except (Exception, TooSlow) as error:
            outcome = f"{type(error).__name__} at {_place(error)}"
            fault = "".join(traceback.format_exception(error))[-4000:]
        if time.process_time() - started > SECONDS:
            outcome, fault = f"slow: {outcome}", f"it took {time.process_time() - started:.1f} s"
        if _peak() > peak and _peak() - before > MEMORY:
            outcome, fault = f"large: {outcome}", f"it took {(_peak() - before) / 2**20:.0f} MiB"
        return outcome, fault

    def _wrong_words(self, message: str) -> str:
        """Why a message is none for people."""
        bare = message.replace(str(self.folder), "")
        if not bare.isprintable() or not bare.strip():
            return f"its message cannot be printed: {bare[:500]!r}"
        if len(bare) > MAX_MESSAGE:
            return f"its message has {len(bare)} characters: {bare[:500]!r}"
        if re.search(r"weights_only.{0,20}False|trust_remote_code", bare):
            return f"its message tells how to switch a protection off: {bare[:500]!r}"
        return ""

    def _shape(self, message: str) -> str:
        bare = message.replace(str(self.folder), "")
        plain = re.sub(r"'[^']*'|\"[^\"]*\"|\([^)]*\)|[^\x20-\x7e]|[\d.]+", "*", bare[:2000])
        return re.sub(r"(\*|(.)\2\2)+(.?(\*|\2))*", "*", plain)[:60]


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Limit what this process may take in addition to what it has, until the end of the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    most = now + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        gc.collect()


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: types.FrameType | None) -> None:
        raise TooSlow(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _place(error: BaseException) -> str:
    """The innermost line of our own code in a traceback."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if re.search(r"/(hw2|grading)/", frame.filename)
    ]
    return f"{re.sub(r'.*/(?=(hw2|grading)/)', '', frames[-1].filename)}:{frames[-1].lineno}" if frames else "tests"


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
