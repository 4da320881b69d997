"""The recipes of `hw2 digits train` and `hw2 faces train`, for tiny networks.

In the test's own process, `tiny_recipes` gives each module its recipes. `python -m tests.models.tiny_recipes` is `hw2`
with them, for tests of signals and of several processes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import hw2.digits.train
import hw2.faces.train
from tests.models.tiny_digits import TINY_DIGITS
from tests.models.tiny_faces import TINY


def _with(network: object, preset: Callable[..., Any], *arguments: object) -> Any:
    return dataclasses.replace(preset(*arguments), network=network)


TINY_RECIPES = [
    (hw2.digits.train, partial(_with, TINY_DIGITS, hw2.digits.train.preset)),
    (hw2.faces.train, partial(_with, TINY, hw2.faces.train.preset)),
]
"""(module, what takes the place of its `preset`)."""
