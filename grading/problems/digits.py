"""Problem 1: two folders of generated digits -> the official accuracies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from grading.core.arrays import ImageU8
from grading.core.errors import GradingError
from grading.core.results import Check, DigitsResult, Realism
from grading.core.spec import DATASETS, DIGITS_PER_CLASS, DIGITS_SIMPLE, DIGITS_STRONG
from grading.core.text import printable
from grading.files.images import ImageRefused, PngReader, read_png
from grading.files.layout import check_layout
from grading.judges.classifiers import DigitJudge
from grading.problems.metrics import wilson_interval
from grading.problems.realism import RealDigits, closest_rows, compare, load_real_digits, neighbours_png

EXPECTED = [f"{digit}_{i:03d}.png" for digit in range(10) for i in range(1, DIGITS_PER_CLASS + 1)]
SHOWN = 5


@dataclass(frozen=True)
class _Dataset:
    """One data set's part of the result; see `DigitsResult`."""

    accuracy: float | None
    correct: int
    total: int
    per_digit: dict[str, float]
    confusion: list[list[int]]
    wilson_95: tuple[float, float] | None
    missing: list[str]
    unexpected: list[str]
    realism: Realism
    closest: list[tuple[str, ImageU8, str, ImageU8, float]]


def grade_digits(
    output: Path,
    judges: Mapping[str, DigitJudge],
    real: Path | None = None,
    show_neighbours: Callable[[Image.Image], None] | None = None,
    read: PngReader = read_png,
) -> DigitsResult:
    """Score `output/{mnistm,svhn}/{digit}_{001..050}.png` with one judge for each data set.

    As in the official script an image's label is the first character of its name, every image of any size counts, and
    the score is the plain mean of the two accuracies. Unlike it, whatever is missing, unreadable or not asked for is
    named; only a complete folder can pass, and it passes at the simple baseline.
    real: a folder with real images of both data sets in the homework's layout, to compare with, for information.
    show_neighbours: given a picture of the images that are most similar to real ones. read: what reads images.
    Raises GradingError if output is no folder or real is not such a folder.
    """
    if output.exists() and not output.is_dir():
        raise GradingError(f"{printable(str(output))} is a file; expected the folder with mnistm/ and svhn/")
    references = {dataset: load_real_digits(real / dataset) if real else None for dataset in DATASETS}
    checks: list[Check] = []
    if not output.exists():
        checks.append(Check("folder", "fail", f"The folder {printable(str(output))} does not exist."))
    try:
        stray = check_layout(output, DATASETS).unexpected
        scored = {
            dataset: _grade_dataset(output / dataset, dataset, judges[dataset], references[dataset], checks, read)
            for dataset in DATASETS
        }
    except OSError as error:
        raise GradingError(f"{printable(str(output))} cannot be listed ({error.strerror}); check its rights") from None
    if stray:
        checks.append(Check("unexpected", "warning", f"Not asked for, and ignored: {_some(stray)}."))
    if show_neighbours and real:
        show_neighbours(neighbours_png([row for dataset in DATASETS for row in scored[dataset].closest]))
    accuracies = [scored[dataset].accuracy for dataset in DATASETS]
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    accuracy = sum(known) / len(DATASETS) if len(known) == len(DATASETS) else None
    for name, threshold in (("simple", DIGITS_SIMPLE), ("strong", DIGITS_STRONG)):
        checks.append(_baseline_check(name, threshold, accuracy))
    failed = {check.name for check in checks if check.status == "fail"} - {"strong baseline"}
    return DigitsResult(
        status="fail" if failed else "pass",
        accuracy=accuracy,
        thresholds={"simple": DIGITS_SIMPLE, "strong": DIGITS_STRONG},
        accuracy_mnistm=scored["mnistm"].accuracy,
        accuracy_svhn=scored["svhn"].accuracy,
        correct={dataset: scored[dataset].correct for dataset in DATASETS},
        total={dataset: scored[dataset].total for dataset in DATASETS},
        per_digit={dataset: scored[dataset].per_digit for dataset in DATASETS},
        confusion={dataset: scored[dataset].confusion for dataset in DATASETS},
        wilson_95={dataset: scored[dataset].wilson_95 for dataset in DATASETS},
        missing=[f"{d}/{name}" for d in DATASETS for name in scored[d].missing],
        unexpected=[*stray, *(f"{d}/{name}" for d in DATASETS for name in scored[d].unexpected)],
        judges={dataset: judges[dataset].identity for dataset in DATASETS},
        realism={dataset: scored[dataset].realism for dataset in DATASETS},
        checks=checks,
    )


def _grade_dataset(
    folder: Path,
    dataset: str,
    judge: DigitJudge,
    real: RealDigits | None,
    checks: list[Check],
    read: PngReader,
) -> _Dataset:
    layout = check_layout(folder, EXPECTED)
    images: list[ImageU8] = []
    names: list[str] = []
    # The official script takes every file; a name outside the list counts if it starts with its digit.
    extra = [name for name in layout.unexpected if name[0] in "0123456789" and name.lower().endswith(".png")]
    for name in sorted([*layout.found, *extra]):
        try:
            image = read(folder, name)
        except ImageRefused as refusal:
            sentence = f"{dataset}/{printable(name)} {printable(str(refusal))}."
            checks.append(Check(f"{dataset}/{name}", "fail", sentence))
            continue
        images.append(image.pixels_u8)
        names.append(name)
    if layout.missing:
        sentence = f"{dataset}: {len(layout.missing)} of {len(EXPECTED)} images are missing: {_some(layout.missing)}."
        checks.append(Check(f"{dataset} complete", "fail", sentence))
    if extra:
        sentence = f"{dataset}: {len(extra)} more than asked for, counted too: {_some(extra)}."
        checks.append(Check(f"{dataset} count", "fail", sentence))
    if ignored := sorted(set(layout.unexpected) - set(extra)):
        checks.append(Check(f"{dataset} files", "warning", f"{dataset}: not asked for, and ignored: {_some(ignored)}."))
    labels = np.array([int(name[0]) for name in names], np.int64)
    look = judge.look(images)
    confusion = confusion_matrix(labels, look.digits)
    realism = compare(names, images, labels, look, judge, real)
    correct, total = int(np.trace(confusion)), len(labels)
    per_digit = {
        str(digit): float(confusion[digit, digit] / row.sum()) for digit, row in enumerate(confusion) if row.any()
    }
    return _Dataset(
        accuracy=correct / total if total else None,
        correct=correct,
        total=total,
        per_digit=per_digit,
        confusion=confusion.tolist(),
        wilson_95=wilson_interval(correct, total) if total else None,
        missing=layout.missing,
        unexpected=layout.unexpected,
        realism=realism,
        closest=closest_rows(dataset, names, images, realism, real) if real else [],
    )


def confusion_matrix(labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(10, 10) counts, rows the labels, columns the predictions."""
    confusion = np.zeros((10, 10), np.int64)
    np.add.at(confusion, (labels, predictions), 1)
    return confusion


def _baseline_check(name: str, threshold: float, accuracy: float | None) -> Check:
    if accuracy is None:
        return Check(f"{name} baseline", "fail", "At least one data set has no image that could be scored.")
    reached = accuracy >= threshold
    found = f"The mean accuracy is {accuracy:.2%}"
    sentence = f"{found}; the {name} baseline is {threshold:.2%}." if reached else f"{found}; expected {threshold:.2%}."
    return Check(f"{name} baseline", "pass" if reached else "fail", sentence)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(printable(name) for name in names[:SHOWN]) + more
