"""CLIP as a classifier: an image gets the name whose sentences are nearest (Radford et al. 2021)."""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from hw2.errors import InputError
from hw2.files.leftovers import described, leftover
from hw2.files.output import HARMLESS
from hw2.files.small_file import read_small_file
from hw2.wording import counted, shortened

if TYPE_CHECKING:
    from hw2.concepts.clip import Clip

OBJECT = "{object}"
CLASS_NUMBER = re.compile(r"[0-9]{1,9}")
IMAGE_NAME = re.compile(r"([0-9]+)_[0-9]+\.png")
MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}
MAX_PIXELS = 2**26
"""64 megapixels; a file can claim billions of pixels in a few bytes."""
MAX_RATIO = 200
"""Largest ratio of an image's sides: CLIP enlarges the shorter one to 224 pixels, and 60000x1 would fill any memory."""
GUESSES = 3
SENTENCES = 64
"""Batch size of the text encoder. It is fixed, so that predictions do not depend on that of the images."""


@dataclass(frozen=True)
class Prediction:
    """One image and its nearest names: ids and probabilities of the best three, the best first."""

    path: Path
    label: int
    guesses: list[int]
    probabilities: list[float]

    @property
    def correct(self) -> bool:
        """Whether the best guess is the label."""
        return self.guesses[0] == self.label


def read_class_names(path: Path) -> dict[int, str]:
    """Class id -> name of an id2label.json, in order of ids. Names are kept as they are, with underscores.

    Raises InputError if it is not a JSON object of numbers "0", "1", .. and distinct names.
    """
    text = read_small_file(path, "expected the homework's id2label.json")
    try:
        content = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        if what := described(text, path.name):
            raise InputError(f"{path} {what}; expected the homework's id2label.json") from None
        raise InputError(f"{path} is not JSON ({error}); expected the homework's id2label.json") from None
    expected = 'expected class numbers and their names, {"0": "apple", ..}'
    if not isinstance(content, list) or not content or not all(isinstance(entry, tuple) for entry in content):
        raise InputError(f"{path} is not a JSON object with entries; {expected}")
    names: dict[int, str] = {}
    for key, name in content:
        if not CLASS_NUMBER.fullmatch(key):
            raise InputError(f"{path} has the class {key[:80]!r}; {expected}")
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            found = "a list or an object" if isinstance(name, list) else repr(str(name)[:80])
            raise InputError(f"{path} calls class {key} {found}; {expected}")
        if int(key) in names or name in names.values():
            raise InputError(f"{path} lists class {key} ({name}) again; expected every number and name once")
        names[int(key)] = name
    return dict(sorted(names.items()))


def list_images(folder: Path, names: Mapping[int, str]) -> tuple[list[Path], list[str]]:
    """(images called {class id}_{image id}.png, other entries), both sorted by name, without hidden files.

    Raises InputError if there are no images, or if the class of one is not in names.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected one with images called {{class id}}_{{image id}}.png")
    entries = [path for path in folder.iterdir() if path.name not in HARMLESS and not path.name.startswith(".")]
    images = sorted(path for path in entries if IMAGE_NAME.fullmatch(path.name) and path.is_file())
    if not images:
        raise InputError(f"{folder} has no images called {{class id}}_{{image id}}.png, such as 0_450.png")
    if unknown := [path.name for path in images if class_id(path) not in names]:
        raise InputError(
            f"{folder} has {counted(len(unknown), 'image')} ({shortened(unknown)}) of a class that is not in the "
            f"labels ({min(names)} to {max(names)}); give the labels of these images"
        )
    return images, sorted(path.name for path in entries if path not in set(images))


def class_id(path: Path) -> int:
    """The class in an image's name."""
    match = IMAGE_NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def class_features(
    clip: Clip,
    names: Sequence[str],
    templates: Sequence[str],
    on_batch: Callable[[str, int], None] = lambda sentence, count: None,
) -> Tensor:
    """Unit vectors (C, D) float64: for each name the mean over templates of its sentences' unit vectors.

    templates: sentences with {object} in them. Names are put in unchanged.
    Raises InputError if the model cannot distinguish the sentences of two names: it truncates long ones.
    """
    sentences = [template.replace(OBJECT, name) for name in names for template in templates]
    features = []
    for start in range(0, len(sentences), SENTENCES):
        batch = sentences[start : start + SENTENCES]
        features.append(clip.text_features(batch))
        on_batch(batch[-1], len(batch))
    of_class = torch.cat(features).unflatten(0, (len(names), len(templates))).mean(1)  # (C, D)
    seen: dict[tuple[float, ...], str] = {}
    for name, row in zip(names, of_class.tolist(), strict=True):
        if (other := seen.setdefault(tuple(row), name)) != name:
            raise InputError(
                f"the model cannot distinguish the sentences of {other} and {name}; shorten them or the template"
            )
    return F.normalize(of_class, dim=-1)


def classify(
    clip: Clip, images: Sequence[Path], names: Mapping[int, str], features: Tensor, batch_size: int
) -> Iterator[Prediction]:
    """Yield a prediction for each image, in order. features: (C, D) of names, in their order.

    Equally near names are ranked in their order. Raises InputError for an image that cannot be read.
    """
    ids = list(names)
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            pixels = torch.stack(list(pool.map(lambda path: clip.preprocess(_read_rgb(path)), batch)))
            # Pair by pair: a matrix product may round a row differently by its place and by the number of rows.
            cosines = torch.stack([(features * image).sum(-1) for image in clip.image_features(pixels)])  # (B, C)
            if not bool(cosines.isfinite().all()):
                raise InputError(f"the features of {batch[0]} came out as NaN or infinity; use another model", "clip")
            probabilities = (clip.logit_scale * cosines).softmax(-1)
            order = cosines.argsort(dim=-1, descending=True, stable=True)[:, :GUESSES]
            for path, best, share in zip(batch, order.tolist(), probabilities.gather(1, order).tolist(), strict=True):
                yield Prediction(path, class_id(path), [ids[i] for i in best], share)


def predictions_csv(predictions: Sequence[Prediction], names: Mapping[int, str]) -> bytes:
    """A row for each image: its name, its class's name, the predicted class's number and name, 1 if correct."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["image_name", "label", "predicted_id", "predicted_label", "correct"])
    for p in predictions:
        writer.writerow([p.path.name, names[p.label], p.guesses[0], names[p.guesses[0]], int(p.correct)])
    return buffer.getvalue().encode()


def results(predictions: Sequence[Prediction], names: Mapping[int, str]) -> dict[str, Any]:
    """Accuracy with its 95 % interval, the accuracy of each class, and the confusion matrix.

    A class without images has the accuracy None. confusion: rows true classes, columns predicted ones, in order of ids.
    """
    place = {number: i for i, number in enumerate(names)}
    confusion = np.zeros((len(names), len(names)), dtype=int)
    for p in predictions:
        confusion[place[p.label], place[p.guesses[0]]] += 1
    correct, total = int(np.trace(confusion)), len(predictions)
    return {
        "accuracy": correct / total,
        "interval": wilson_interval(correct, total),
        "correct": correct,
        "total": total,
        "per_class": {
            name: {
                "correct": int(row[i]),
                "total": int(row.sum()),
                "accuracy": int(row[i]) / int(row.sum()) if row.any() else None,
            }
            for i, (name, row) in enumerate(zip(names.values(), confusion, strict=True))
        },
        "confusion": {"labels": list(names.values()), "counts": confusion.tolist()},
    }


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927, JASA 22), by scipy. Raises ValueError for total 0."""
    from scipy.stats import binomtest

    interval = binomtest(correct, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def read_pixels(path: Path) -> npt.NDArray[np.uint8]:
    """An image (H, W, 3). Raises InputError if it cannot be read."""
    return np.asarray(_read_rgb(path))


def _read_rgb(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL warns about odd files; what matters is checked here
            with Image.open(path, formats=("PNG",)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InputError(f"{path} claims {image.width}x{image.height} pixels; make it smaller")
                if max(image.size) > MAX_RATIO * min(image.size):
                    raise InputError(f"{path} is {image.width}x{image.height} pixels, too long and thin; crop it")
                if image.mode not in MODES:
                    raise InputError(f"{path} has the mode {image.mode}; expected 8-bit RGB, convert it")
                return image.convert("RGB")
    except InputError:
        raise
    except Exception as error:  # fed with foreign bytes, PIL raises nearly everything that Python has
        if what := leftover(path):
            raise InputError(f"{path} {what}") from None
        raise InputError(f"{path} is not a readable PNG ({type(error).__name__}); restore or remove it") from None
