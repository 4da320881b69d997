"""What grading found out, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Status = Literal["pass", "fail", "error"]
"""error: could not be done, which is nobody's zero."""


class GradingError(Exception):
    """The call cannot be carried out; the message is one sentence that says what to do. Exit status 2."""


@dataclass(frozen=True)
class Check:
    """One question and its answer. message: a sentence for the student; status "warning" costs nothing."""

    name: str
    status: Status | Literal["warning"]
    message: str


@dataclass(frozen=True)
class FacesResult:
    """Problem 2. Scores are means over the images that could be scored, None where there is none.

    mse: of 0-255 values, the official score. psnr (dB; None for identical images) and ssim are for information.
    """

    status: Status
    threshold: float
    mse: float | None = None
    mse_per_image: dict[str, float] = field(default_factory=dict)
    psnr: float | None = None
    psnr_per_image: dict[str, float | None] = field(default_factory=dict)
    ssim: float | None = None
    ssim_per_image: dict[str, float | None] = field(default_factory=dict)
    expected: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    problem: Literal["faces"] = "faces"


def printable(text: str) -> str:
    """Text that is safe to print: whatever could steer a terminal, or is no character at all, is spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
