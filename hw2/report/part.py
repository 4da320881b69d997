"""A part of the report: data that are computed once and kept, and pictures that are drawn from them."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from hw2.figures import figure_png
from hw2.files.output import write_file
from hw2.progress import OnStep
from hw2.report.inputs import Inputs, sha256

Value = str | int | float


@dataclass(frozen=True)
class Row:
    """One row of a table. key: the row's name among the texts, or itself where they have none."""

    key: str
    cells: Sequence[Value]


@dataclass(frozen=True)
class Part:
    """One part of the page.

    kind: the dataclass of its data: numbers, text and lists of these, and numpy arrays. compute: (inputs, on_step) ->
    data, in `steps` steps. draw: data -> name -> picture; a picture called "grid" consists of pixels. rows: data -> the
    rows of its table. formats: of a table's cells, as in format(); "" for text. command: what draws the same alone.
    given: whether its inputs are given; a part without them is a sentence on the page, `absent` among its texts.
    """

    name: str
    problem: int
    kind: Callable[..., Any]
    compute: Callable[[Inputs, OnStep], Any]
    steps: Callable[[Inputs], int] = lambda inputs: 1
    draw: Callable[[Any], Mapping[str, Figure]] = lambda data: {}
    rows: Callable[[Any], Sequence[Row]] = lambda data: ()
    formats: Sequence[str] = ()
    command: str = ""
    given: Callable[[Inputs], bool] = lambda inputs: True


@dataclass(frozen=True)
class Made:
    """A part that is finished. numbers: its data without arrays. pictures: name -> file without ending."""

    part: Part
    data: Any
    numbers: Mapping[str, Any]
    seconds: float
    pictures: Mapping[str, Path]


def make(part: Part, inputs: Inputs, folder: Path, on_step: OnStep) -> Made:
    """The part, computed and drawn unless `folder` holds it already for the same inputs and the same code."""
    stamp = fingerprint(part, inputs)
    kept = _read(part, folder, stamp)
    if kept is not None:
        on_step("read", part.steps(inputs))
        return kept
    begin = time.perf_counter()
    data = part.compute(inputs, on_step)
    pictures: dict[str, Path] = {}
    for name, figure in part.draw(data).items():
        pictures[name] = folder / f"{part.name}_{name}"
        write_file(pictures[name].with_suffix(".png"), figure_png(figure))
        write_file(pictures[name].with_suffix(".svg"), figure_svg(figure))
    arrays, numbers = _divided(data)
    seconds = time.perf_counter() - begin
    write_file(folder / f"{part.name}.npz", _npz(arrays))
    write_file(folder / f"{part.name}.csv", numbers_csv(numbers))
    about = {"fingerprint": stamp, "seconds": seconds, "pictures": list(pictures), "data": numbers}
    write_file(folder / f"{part.name}.json", json.dumps(about, indent=1, ensure_ascii=False).encode())
    return Made(part, data, numbers, seconds, pictures)


def fingerprint(part: Part, inputs: Inputs) -> str:
    """SHA-256 of all that a part depends on: its input files, this package's code and the kind of device."""
    about = [part.name, inputs.files(part.problem), code_digest(), inputs.device.split(":")[0]]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


@cache
def code_digest() -> str:
    """SHA-256 of this package's modules."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)} {sha256(path)}\n".encode())
    return digest.hexdigest()


def figure_svg(figure: Figure) -> bytes:
    """A figure as the bytes of an SVG file, the same each time."""
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "hw2", "image.composite_image": False}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _read(part: Part, folder: Path, stamp: str) -> Made | None:
    """What an earlier run kept; None if there is nothing of these inputs, or a file is missing or damaged."""
    try:
        about = json.loads((folder / f"{part.name}.json").read_bytes())
        if about["fingerprint"] != stamp:
            return None
        pictures = {name: folder / f"{part.name}_{name}" for name in about["pictures"]}
        if not all(path.with_suffix(end).is_file() for path in pictures.values() for end in (".png", ".svg")):
            return None
        if not (folder / f"{part.name}.csv").is_file():
            return None
        with np.load(folder / f"{part.name}.npz", allow_pickle=False) as arrays:
            data = part.kind(**about["data"], **arrays)
        return Made(part, data, about["data"], float(about["seconds"]), pictures)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def _divided(data: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """(arrays, everything else) of a dataclass, by field."""
    fields = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    return arrays, {name: value for name, value in fields.items() if name not in arrays}


def _npz(arrays: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def numbers_csv(numbers: Mapping[str, Any]) -> bytes:
    """Every number and text in a row of its own: its field, its place in the lists of that field, and the value."""
    rows = list(_places(numbers))
    deepest = max((len(place) for place, _ in rows), default=1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["field", *(f"index {i}" for i in range(1, deepest)), "value"])
    writer.writerows([*place, *[""] * (deepest - len(place)), value] for place, value in rows)
    return text.getvalue().encode()


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """(keys and places that lead to it, value) of everything in nested mappings and lists."""
    if isinstance(value, Mapping | list):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _places(inner, (*place, key))
    else:
        yield place, value
