"""How cost grows with images, steps, processes and submissions: `python -m tests.benchmarks growth`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from grading.cohort.find import find_submissions
from grading.cohort.process_engine import process_engine
from grading.cohort.screen import Screen
from grading.cohort.workers import grade_all
from grading.submission.assignment import Assignment
from grading.submission.grader import Grader
from hw2.digits.checkpoint import load_digit_model
from hw2.digits.recognizer import load_recognizer
from hw2.digits.sample import DigitSampler, official_names
from hw2.figures import figure_png
from hw2.files.bundled import DIGIT_RECOGNIZER, DIGIT_STUDENT, DIGIT_UNET
from hw2.files.output import write_file
from tests.benchmarks.cohort import DATA, LIMITS, make_class
from tests.benchmarks.measure import DEVICE
from tests.commands import ROOT

CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Growth:
    """Seconds for each amount of one thing."""

    what: str
    amount: str
    seconds: dict[int, float]


def timed(work: Callable[[], None]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@torch.inference_mode()
def draw(sampler: DigitSampler, images: int) -> None:
    """Draw that many of the homework's digits."""
    for _ in sampler.sample(official_names()[:images]):
        pass


def draw_in_processes(processes: int) -> None:
    """Draw the homework's digits by the teacher in processes that share the cores."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *launch,
            "-m",
            "hw2",
            "digits",
            "sample",
            "--checkpoint",
            str(DIGIT_UNET),
            "--output",
            f"{folder}/out",
        ]
        variables = {**os.environ, "OMP_NUM_THREADS": str(max(1, CORES // processes)), "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, *command], check=True, capture_output=True, env=variables)


def grade(submissions: int) -> None:
    """Grade a class, of which three of twenty are hostile and one is broken, with two workers."""
    with tempfile.TemporaryDirectory() as folder:
        make_class(Path(folder, "in"), submissions)
        face_unet = ROOT / "hw2" / "models" / "face_unet.safetensors"
        assignment = Assignment(DATA, unet=face_unet, problems="1,2", judges="embedded", limits=asdict(LIMITS))
        found, _ = find_submissions(Path(folder, "in"), Path(folder, "out"), {})
        quiet = Console(stderr=True, quiet=True)
        with Screen(submissions, quiet) as screen, process_engine(2) as engine:
            grade_all(found, partial(Grader, assignment), engine, screen)


def measured() -> list[Growth]:
    """One run of each amount, after a warm-up."""
    student, teacher = (load_digit_model(path, device=DEVICE) for path in (DIGIT_STUDENT, DIGIT_UNET))
    sampler = DigitSampler(student, device=DEVICE, recognizer=load_recognizer(DIGIT_RECOGNIZER, DEVICE))
    draw(sampler, 50)
    images = {count: timed(partial(draw, sampler, count)) for count in (100, 250, 500, 1000)}
    steps = {
        count: timed(partial(draw, DigitSampler(teacher, device=DEVICE, num_inference_steps=count), 100))
        for count in (3, 6, 12, 24)
    }
    processes = {count: timed(partial(draw_in_processes, count)) for count in (1, 2, 4, 8) if count <= CORES}
    submissions = {count: timed(partial(grade, count)) for count in (20, 40, 60)}
    return [
        Growth("digits by the student", "images", images),
        Growth("100 digits by the teacher, two evaluations a step", "steps", steps),
        Growth("1000 digits by the teacher, with the start", "processes that share the cores", processes),
        Growth("a class with two workers, Problems 1 and 2", "submissions", submissions),
    ]


def plot(growths: list[Growth]) -> bytes:
    """A PNG with a panel for each; the dashed line is exact proportion to the largest amount (or to one process)."""
    figure = Figure((10, 7), dpi=100, layout="constrained")
    for axes, growth in zip(figure.subplots(2, 2).flat, growths, strict=True):
        amounts, seconds = list(growth.seconds), list(growth.seconds.values())
        shared = growth.amount.startswith("processes")
        line = [seconds[0] if shared else seconds[-1] * amount / amounts[-1] for amount in amounts]
        axes.plot(amounts, line, "--", color="gray", label="no change" if shared else "in proportion")
        axes.plot(amounts, seconds, "o-", label="measured")
        axes.set(
            title=growth.what, xlabel=growth.amount, ylabel="seconds", ylim=(0, 1.15 * max(seconds)), xticks=amounts
        )
        axes.legend()
    figure.suptitle(f"{CORES} CPU cores" if DEVICE == "cpu" else DEVICE)
    return figure_png(figure)


def bench_growth(output: Path) -> None:
    """Print the seconds, and draw them into a PNG file."""
    growths = measured()
    table = Table("what", "amount", "seconds", title="how cost grows")
    for growth in growths:
        for amount, seconds in growth.seconds.items():
            table.add_row(growth.what, f"{amount} {growth.amount}", f"{seconds:.1f}")
    Console(width=120).print(table)
    write_file(output, plot(growths))
    Console().print(f"The picture is {output}.")
