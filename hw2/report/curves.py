"""Curves of a training: from TensorBoard's log, or from a CSV of them."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from hw2.errors import InputError
from hw2.files.small_file import read_small_file

Curves = Mapping[str, tuple[list[int], list[float]]]
"""Name -> (steps, values)."""

COLUMNS = ("curve", "step", "value")


def read_curves(path: Path | None, names: Sequence[str], option: str) -> Curves:
    """The curves of these names; none without a path.

    path: a folder that TensorBoard reads, or one with such a folder "tensorboard", or a CSV with the columns COLUMNS.
    Raises InputError, naming `option`, for anything else, and for a log without one of the names.
    """
    if path is None:
        return {}
    found = _from_csv(path, option) if path.is_file() else _from_tensorboard(path, option)
    missing = [name for name in names if not found.get(name, ([], []))[0]]
    if missing:
        raise InputError(f"{path} has no curve {missing[0]!r}; give the log of a training that wrote it", option)
    return {name: found[name] for name in names}


def _from_csv(path: Path, option: str) -> dict[str, tuple[list[int], list[float]]]:
    found: dict[str, tuple[list[int], list[float]]] = {}
    try:
        rows = list(csv.reader(read_small_file(path, "a CSV of curves").decode().splitlines()))
        if not rows or tuple(rows[0]) != COLUMNS:
            raise ValueError
        for name, step, value in rows[1:]:
            steps, values = found.setdefault(name, ([], []))
            steps.append(int(step))
            values.append(_finite(float(value)))
    except (ValueError, csv.Error):
        raise InputError(f"{path} is not a CSV of curves; expected the columns {', '.join(COLUMNS)}", option) from None
    return found


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError
    return value


def _from_tensorboard(path: Path, option: str) -> dict[str, tuple[list[int], list[float]]]:
    folder = path / "tensorboard" if (path / "tensorboard").is_dir() else path
    if not folder.is_dir() or not any(folder.glob("*tfevents*")):
        raise InputError(f"{path} has no TensorBoard log; give the output folder of a training", option)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        name: ([event.step for event in events.Scalars(name)], [float(event.value) for event in events.Scalars(name)])
        for name in events.Tags()["scalars"]
    }
