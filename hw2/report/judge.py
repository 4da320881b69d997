"""The grader's judges, asked as another program: `hw2` and `grading` meet in files only."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw2.digits.network import DATASETS, NUM_DIGITS
from hw2.errors import InputError
from hw2.figures import ImageU8
from hw2.files.output import png_bytes, write_file


@dataclass(frozen=True)
class Verdict:
    """What the judges say about digits. Lists have a number for each of DATASETS.

    accuracy: a share; interval: 95 % (Wilson). diversity: mean distance of two images of a digit in the judge's
    features; 0 if every digit has one image. confusion: (10, 10) counts, rows are digits.
    """

    accuracy: list[float]
    interval: list[list[float]]
    diversity: list[float]
    confusion: list[list[list[int]]]


def judged(digits: Mapping[str, ImageU8]) -> Verdict:
    """The embedded judges' verdict on images by name, such as "svhn/7_042.png".

    Raises InputError if the grader cannot judge them.
    """
    with tempfile.TemporaryDirectory() as place:
        for name, pixels in digits.items():
            write_file(Path(place) / "digits" / name, png_bytes(pixels))
        answer = Path(place) / "result.json"
        command = [sys.executable, "-m", "grading", "digits", f"{place}/digits", "--judges", "embedded"]
        done = subprocess.run(  # noqa: S603 - our own program
            [*command, "--device", "cpu", "--json", str(answer)], capture_output=True, text=True, check=False
        )
        try:
            found = json.loads(answer.read_bytes())
            return _verdict(found)
        except (OSError, ValueError, KeyError, TypeError):
            said = (done.stderr or done.stdout).strip().splitlines() or ["it printed nothing"]
            raise InputError(f"hw2-grade digits could not judge the digits: {said[-1]}; run hw2-grade doctor") from None


def _verdict(found: dict[str, Any]) -> Verdict:
    accuracy = [float(found[f"accuracy_{dataset}"]) for dataset in DATASETS]
    intervals: list[list[float]] = [list(found["wilson_95"][dataset]) for dataset in DATASETS]
    diversity = []
    for dataset in DATASETS:
        each = [value for value in found["realism"][dataset]["diversity"].values() if value is not None]
        diversity.append(sum(each) / max(len(each), 1))
    confusion = [found["confusion"][dataset] for dataset in DATASETS]
    assert all(len(counts) == NUM_DIGITS for counts in confusion)
    return Verdict(accuracy, intervals, diversity, confusion)
