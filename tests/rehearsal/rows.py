"""The rows of figures, and the table of memory and operations made of them."""

from __future__ import annotations

from dataclasses import dataclass

LIMIT_GIB = 20.0
"""Memory of the homework's GPU, less what CUDA itself takes (24 GB cards)."""

TOLERANCE = 1.10
"""How far the living tensors may exceed the figure of the table."""


@dataclass(frozen=True)
class Row:
    """What one case took. error: what failed, or nothing; place: where.

    peak_gib: of living tensors on one device. step_tflop: operations of one step; steps: of the homework's whole task.
    syncs: most waits of the CPU in one step. seconds: of this CPU. most_gib, most_syncs: what is allowed.
    """

    name: str
    error: str
    place: str = ""
    peak_gib: float = 0.0
    step_tflop: float | None = None
    steps: int | None = None
    syncs: int | None = None
    seconds: float = 0.0
    most_gib: float | None = None
    most_syncs: int | None = None

    @property
    def allowed_gib(self) -> float:
        """Most memory that the living tensors may take."""
        return LIMIT_GIB if self.most_gib is None else min(LIMIT_GIB, self.most_gib * TOLERANCE)

    def faults(self) -> list[str]:
        """What is wrong, one sentence each."""
        found = [f"{self.error} (at {self.place})" if self.place else self.error] if self.error else []
        if self.peak_gib > self.allowed_gib:
            found.append(f"tensors of {self.peak_gib:.2f} GiB lived at once; expected at most {self.allowed_gib:.2f}")
        if not self.error and self.most_syncs is not None and (self.syncs is None or self.syncs > self.most_syncs):
            found.append(f"the CPU waited {self.syncs} times in a step; expected at most {self.most_syncs}")
        return found
