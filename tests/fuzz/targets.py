"""All readers by name."""

from __future__ import annotations

from tests.fuzz.engine import Target
from tests.fuzz.targets_grading import TARGETS as GRADING
from tests.fuzz.targets_hw2 import TARGETS as HW2

TARGETS: dict[str, Target] = {target.name: target for target in (*GRADING, *HW2)}
"""Targets of both packages."""
