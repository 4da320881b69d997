"""Problem 1's comparisons: what guidance changes, and what each solver reaches in as many evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hw2.diffusion.table import SAMPLERS
from hw2.digits.sample import official_names
from hw2.progress import OnStep
from hw2.report.digits import NUM_STEPS, SCALE, sampler
from hw2.report.inputs import Inputs
from hw2.report.judge import Verdict, judged

PER_DIGIT = 3
"""Images of each digit in each data set for every setting that is compared."""
SCALES = (1.0, 2.0, SCALE, 8.0)
STEPS = (2, 4, 8)
Setting = tuple[float, int, str]
"""Guidance scale, number of steps, name of the sampler."""


@dataclass(frozen=True)
class Guidance:
    """What guidance changes. Accuracies, intervals and diversities: of each scale, for each data set."""

    images_each: int
    steps: int
    scales: list[float]
    accuracy: list[list[float]]
    interval: list[list[list[float]]]
    diversity: list[list[float]]


@dataclass(frozen=True)
class Solvers:
    """What each solver reaches. Accuracies, intervals and diversities: of each solver and number, for each data set."""

    images_each: int
    scale: float
    solvers: list[str]
    steps: list[int]
    accuracy: list[list[list[float]]]
    interval: list[list[list[list[float]]]]
    diversity: list[list[list[float]]]


def guidance(inputs: Inputs, on_step: OnStep) -> Guidance:
    """Every scale draws the same names from the same noises."""
    verdicts = _verdicts(inputs, [(scale, NUM_STEPS, "dpm++") for scale in SCALES], on_step)
    return Guidance(
        len(official_names(PER_DIGIT)) // 2, NUM_STEPS, list(SCALES), [v.accuracy for v in verdicts],
        [v.interval for v in verdicts], [v.diversity for v in verdicts],
    )  # fmt: skip


def solvers(inputs: Inputs, on_step: OnStep) -> Solvers:
    """Every solver draws the same names from the same noises."""
    names = list(SAMPLERS)
    found = _verdicts(inputs, [(SCALE, steps, name) for name in names for steps in STEPS], on_step)
    rows = [found[i : i + len(STEPS)] for i in range(0, len(found), len(STEPS))]
    return Solvers(
        len(official_names(PER_DIGIT)) // 2, SCALE, names, list(STEPS), [[v.accuracy for v in row] for row in rows],
        [[v.interval for v in row] for row in rows], [[v.diversity for v in row] for row in rows],
    )  # fmt: skip


def _verdicts(inputs: Inputs, settings: Sequence[Setting], on_step: OnStep) -> list[Verdict]:
    """The judges' verdict on the digits of each setting; two judge at a time, since each mostly loads its network."""
    names = official_names(PER_DIGIT)
    drawn = [dict(sampler(inputs, *setting).pixels(names, on_step)) for setting in settings]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(judged, drawn))


def guidance_steps(inputs: Inputs) -> int:  # noqa: ARG001
    """Steps of all its images together."""
    return len(SCALES) * NUM_STEPS * len(official_names(PER_DIGIT))


def solver_steps(inputs: Inputs) -> int:  # noqa: ARG001
    """Steps of all its images together."""
    return len(SAMPLERS) * sum(STEPS) * len(official_names(PER_DIGIT))
