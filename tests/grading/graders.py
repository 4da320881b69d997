"""Graders that do nothing, or what their submission's name says; workers import them from here."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from grading.cohort.workers import Grades
from grading.core.errors import GradingError
from grading.core.results import StageResult, SubmissionResult
from grading.files.storage import locked
from grading.points.staff import StaffEntry


def memory() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Fake:
    """Each try appends a line to `tries` in the submission's folder, then does as its name says.

    die-N-x, kill-N-x: lose the worker in the first N tries. raise-x, exit-x: what they say. slow-x: take a while.
    """

    def grade(self, source: Path, folder: Path, staff: StaffEntry, on_stage: Callable[[str], None]) -> SubmissionResult:
        with (folder / "tries").open("a") as tries:
            tries.write(f"{os.getpid()} {memory()}\n")
        on_stage("pretending")
        number = len((folder / "tries").read_text().splitlines())
        action, _, rest = source.name.partition("-")
        times = int(rest.partition("-")[0]) if action in ("die", "kill") else 0
        if number <= times and action == "die":
            os._exit(3)
        if number <= times and action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if action == "raise":
            raise ValueError("as I was told")
        if action == "exit":
            sys.exit(0)
        if action == "slow":
            time.sleep(1.5)
        hashes = {f"{i}.png": f"{i:064d}" for i in range(2000)}
        stages = [StageResult("copy", "pass", source.name), StageResult("hw2_1.sh", "pass", "", files=hashes)]
        return SubmissionResult(source.name, "pass", len(source.name), 100 - staff.late_days, 0, stages=stages)


class Journalled:
    """Takes STEPS steps of 0.1 s, each written down once it is taken; called again, goes on after the last one."""

    STEPS = 5

    def grade(self, source: Path, folder: Path, staff: StaffEntry, on_stage: Callable[[str], None]) -> SubmissionResult:
        with locked(folder):
            journal = folder / "journal"
            for step in range(len(journal.read_text().splitlines()) if journal.exists() else 0, self.STEPS):
                on_stage(f"step {step}")
                time.sleep(0.1)
                with journal.open("a") as file:
                    file.write(f"{step}\n")
        return SubmissionResult(source.name, "pass", 1, 1, 0)


def journalled(_assignment: object) -> Grades:
    return Journalled()


class HasGpu(Fake):
    """Writes the GPU that its worker has into the submission's folder."""

    def grade(self, source: Path, folder: Path, staff: StaffEntry, on_stage: Callable[[str], None]) -> SubmissionResult:
        with (folder / "gpu").open("a") as file:
            file.write(os.environ["CUDA_VISIBLE_DEVICES"] + "\n")
        return super().grade(source, folder, staff, on_stage)


class Talks(Fake):
    """Prints, as libraries do, what would break the screen."""

    def grade(self, source: Path, folder: Path, staff: StaffEntry, on_stage: Callable[[str], None]) -> SubmissionResult:
        os.write(1, b"TALK")
        os.write(2, b"TALK")
        return super().grade(source, folder, staff, on_stage)


def slow_to_make() -> Grades:
    time.sleep(600)
    return Fake()


class Counted:
    """Makes a Fake and leaves a file in `folder` for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> Grades:
        (self.folder / f"made-{os.getpid()}-{time.time_ns()}").touch()
        return Fake()


def unfit() -> Grades:
    raise GradingError("the data are missing; put them there")


def stillborn() -> Grades:
    os._exit(1)
