"""What tests and benchmarks want of a walk."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from hw2.diffusion.samplers import StepOutput


def last_sample(states: Iterable[StepOutput]) -> Tensor:
    """The sample at the end of a walk of one step or more."""
    for state in states:  # not kept: a long walk of large images would fill the memory
        last = state
    return last.sample
