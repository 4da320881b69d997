"""The digits' training set: the official folders on disk, one block of uint8 in memory."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from hw2.digits.network import DATASETS, IMAGE_SIZE, NUM_DIGITS
from hw2.errors import InputError
from hw2.files.leftovers import described, leftover
from hw2.files.output import write_file
from hw2.progress import progress_bar

COLUMNS = ["image_name", "label"]
MAX_IMAGE_BYTES = 2**16
"""Twenty times the size of 28x28 pixels."""

T = TypeVar("T")
Result = TypeVar("Result")


@dataclass(frozen=True)
class DigitImages:
    """Labelled digits: images_u8 (N, 3, 28, 28) uint8, digits (N,) int64 in 0 .. 9, datasets (N,) indices."""

    images_u8: Tensor
    digits: Tensor
    datasets: Tensor

    def __len__(self) -> int:
        return len(self.digits)

    def to(self, device: torch.device | str) -> DigitImages:
        """The same digits on a device."""
        return DigitImages(self.images_u8.to(device), self.digits.to(device), self.datasets.to(device))

    @staticmethod
    def concatenate(parts: Iterable[DigitImages]) -> DigitImages:
        """All parts one after the other."""
        columns = zip(*((part.images_u8, part.digits, part.datasets) for part in parts), strict=True)
        return DigitImages(*(torch.cat(column) for column in columns))


def cache_folder() -> Path | None:
    """The folder of decoded data sets: `$XDG_CACHE_HOME/hw2`, by default `~/.cache/hw2`; None without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hw2"
    except RuntimeError:
        return None


def load_digits(data: Path, cache: Path | None = None) -> DigitImages:
    """The digits of both data sets in `data/digits/{mnistm,svhn}/{data/*.png,train.csv}`, `data` or its `digits`.

    Images are decoded once; later calls read them from `cache` as long as no byte of the listed files has changed.
    Without `cache` that is `cache_folder()`, if it can be written. Files that train.csv does not list are ignored.
    Raises InputError, naming file and line, for a missing file, an image of another size or mode or an unreadable one,
    a label outside 0 .. 9, other columns than image_name and label, and an image listed twice.
    """
    folder = data / "digits" if (data / "digits").is_dir() else data
    return DigitImages.concatenate(_load_dataset(folder / name, i, cache) for i, name in enumerate(DATASETS))


def read_labels(table: Path) -> dict[str, int]:
    """image_name -> label as a train.csv lists them, in its order. Raises InputError as `load_digits` does."""
    return {name: label for name, (label, _) in _read_table(table).items()}


def _read_table(table: Path) -> dict[str, tuple[int, int]]:
    """image_name -> (label, line of the file)."""
    if not table.is_file():
        raise InputError(
            f"{table} is missing; expected the homework's layout digits/{{{','.join(DATASETS)}}}/data/*.png, train.csv"
        )
    try:
        reader = csv.reader(io.StringIO(table.read_text(encoding="utf-8-sig")))
        numbered = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        if what := leftover(table):
            raise InputError(f"{table} {what}") from None
        raise InputError(f"{table} is not comma-separated text in UTF-8 ({error}); save it as CSV") from None
    rows = [row for _, row in numbered]
    if not rows or rows[0] != COLUMNS:
        if what := leftover(table):
            raise InputError(f"{table} {what}")
        found = ",".join(rows[0]) if rows else "nothing"
        raise InputError(f"{table} starts with {found[:80]!r}; expected the columns {','.join(COLUMNS)}")
    labels: dict[str, tuple[int, int]] = {}
    for number, row in numbered[1:]:
        if len(row) != len(COLUMNS):
            raise InputError(f"{table} row {number} has {len(row)} columns; expected {','.join(COLUMNS)}")
        name, label = row
        if not name or Path(name).name != name or "\0" in name:
            raise InputError(f"{table} row {number} names {name[:80]!r}; expected a file in data/, without a folder")
        if not (label.isascii() and label.isdigit() and len(label) < 10 and int(label) < NUM_DIGITS):
            raise InputError(f"{table} row {number} ({name}) has the label {label[:80]!r}; expected a digit 0 to 9")
        if name in labels:
            raise InputError(f"{table} row {number} lists {name} again; expected every image once")
        labels[name] = int(label), number
    if not labels:
        raise InputError(f"{table} lists no images; expected one row for each image in data/")
    return labels


def _load_dataset(folder: Path, dataset: int, cache: Path | None) -> DigitImages:
    """cache: None for the default, which may fail to keep anything."""
    table = _read_table(folder / "train.csv")
    labels = {name: label for name, (label, _) in table.items()}
    rows = {name: line for name, (_, line) in table.items()}

    def read(name: str) -> bytes:
        path = folder / "data" / name
        where = f"{path} (row {rows[name]} of train.csv)"
        try:
            with path.open("rb") as file:
                content = file.read(MAX_IMAGE_BYTES + 1)
        except OSError as error:
            raise InputError(f"{where} cannot be read: {error.strerror}; put it there or remove the row") from None
        if len(content) > MAX_IMAGE_BYTES:
            raise InputError(f"{where} is larger than any {IMAGE_SIZE}x{IMAGE_SIZE} PNG; expected a digit")
        return content

    contents = _in_parallel(f"reading {folder.name}", read, list(labels))
    key = hashlib.sha256(repr(list(labels.items())).encode())
    for content in contents:
        key.update(hashlib.sha256(content).digest())
    place = cache or cache_folder()
    cached = place / f"{folder.name}-{key.hexdigest()[:32]}.safetensors" if place else None
    images_u8 = _read_cache(cached, len(labels)) if cached else None
    if images_u8 is None:
        places = [f"{folder / 'data' / name} (row {rows[name]} of train.csv)" for name in labels]
        decoded = _in_parallel(f"decoding {folder.name}", _decode, list(zip(contents, places, strict=True)))
        images_u8 = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()
        with nullcontext() if cache else suppress(InputError):
            if cached:
                write_file(cached, save({"images_u8": images_u8}))
    digits = torch.tensor(list(labels.values()))
    return DigitImages(images_u8, digits, torch.full_like(digits, dataset))


def _decode(job: tuple[bytes, str]) -> npt.NDArray[np.uint8]:
    """One digit (28, 28, 3) from the bytes of a PNG file."""
    content, where = job
    try:
        with Image.open(BytesIO(content), formats=("PNG",)) as image:
            if image.size != (IMAGE_SIZE, IMAGE_SIZE):
                found = f"{image.width}x{image.height} pixels"
                raise InputError(f"{where} is {found}; expected {IMAGE_SIZE}x{IMAGE_SIZE}")
            if image.mode != "RGB":
                raise InputError(f"{where} has the mode {image.mode}; expected 8-bit RGB, convert it")
            return np.asarray(image)
    except InputError:
        raise
    except Exception:  # given invalid bytes, PIL raises nearly every exception of Python
        what = described(content) or "is not a readable PNG; restore it or remove the row"
        raise InputError(f"{where} {what}") from None


def _read_cache(path: Path, count: int) -> Tensor | None:
    """The images that an earlier call decoded, or None if there are none of this kind."""
    try:
        images_u8 = load(path.read_bytes())["images_u8"]
    except (OSError, SafetensorError, KeyError):
        return None
    fits = images_u8.dtype == torch.uint8 and images_u8.shape == (count, 3, IMAGE_SIZE, IMAGE_SIZE)
    return images_u8 if fits else None


def _in_parallel(what: str, work: Callable[[T], Result], jobs: list[T]) -> list[Result]:
    """work(job) for each job, in order, on all cores, with a progress bar."""
    chunks = [jobs[i : i + 500] for i in range(0, len(jobs), 500)]
    results: list[Result] = []
    with ThreadPoolExecutor() as pool, progress_bar(what, len(jobs)) as advance:
        for chunk in pool.map(lambda chunk: [work(job) for job in chunk], chunks):
            results += chunk
            advance("", len(chunk))
    return results
