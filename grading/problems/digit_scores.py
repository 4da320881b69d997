"""The official accuracies of two folders of generated digits, computed as in digit_classifier.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from grading.core.arrays import ImageU8
from grading.core.errors import GradingError
from grading.core.results import Check, Judge, Status
from grading.core.text import beside, counted, ignored, listed, printable
from grading.files.images import ImageRefused, PngReader, read_png
from grading.files.layout import check_layout
from grading.judges.protocols import DigitJudge
from grading.problems.metrics import confusion_matrix, wilson_interval
from grading.problems.missing import missing_reasons
from grading.problems.realism import (
    RealDigits,
    Realism,
    closest_rows,
    compare,
    load_real_digits,
    neighbours_png,
)

DATASETS = {"mnistm": "MNIST-M", "svhn": "SVHN"}
"""Folder of the outputs -> name of the data set."""


@dataclass(frozen=True)
class DigitsRules:
    """An edition's numbers.

    digits: the digits that each data set must have. per_digit: number of images of each digit. simple, strong:
    baselines of the mean accuracy, None if the homework has none.
    """

    digits: Mapping[str, Sequence[int]]
    per_digit: int
    simple: float | None = None
    strong: float | None = None

    def names(self, dataset: str) -> list[str]:
        """The images that one data set must have."""
        return [f"{digit}_{i:03d}.png" for digit in self.digits[dataset] for i in range(1, self.per_digit + 1)]

    @property
    def total(self) -> int:
        """The number of images that both data sets must have together."""
        return sum(len(self.names(dataset)) for dataset in DATASETS)

    @property
    def baselines(self) -> dict[str, float]:
        """The baselines that the homework has, by name."""
        found = {"simple": self.simple, "strong": self.strong}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class DigitsResult:
    """Problem 1. Accuracies are shares, 0 to 1, None if no image could be scored. `accuracy` is their mean.

    Dicts have the keys "mnistm" and "svhn". confusion: 10x10 counts; rows are labels, columns are predictions.
    per_digit: accuracy of each digit that has images. wilson_95: 95 % confidence interval of the accuracy. realism: for
    information only.
    """

    status: Status
    thresholds: dict[str, float] = field(default_factory=dict)
    accuracy: float | None = None
    accuracy_mnistm: float | None = None
    accuracy_svhn: float | None = None
    correct: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    per_digit: dict[str, dict[str, float]] = field(default_factory=dict)
    confusion: dict[str, list[list[int]]] = field(default_factory=dict)
    wilson_95: dict[str, tuple[float, float] | None] = field(default_factory=dict)
    judges: dict[str, Judge] = field(default_factory=dict)
    realism: dict[str, Realism] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    problem: Literal["digits"] = "digits"


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
    rules: DigitsRules,
    real: Path | None = None,
    show_neighbours: Callable[[Image.Image], None] | None = None,
    read: PngReader = read_png,
    refused: Mapping[str, str] | None = None,
) -> DigitsResult:
    """Score `output/{mnistm,svhn}/{digit}_{001..}.png` with one judge for each data set.

    As in the official script, an image's label is the first character of its name, images of any size are scored, and
    the score is the plain mean of the two accuracies. Unlike the official script, this function names images that are
    missing, unreadable or unexpected. Only a complete folder can pass, and it passes at the simple baseline.
    real: a folder with real images of both data sets in the homework's layout, compared for information.
    show_neighbours: is called with a picture of the images that are most similar to real ones. read: reads an image.
    refused: {path: reason} of outputs that were not collected.
    Raises GradingError if output is not a folder, or real is not such a folder.
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
            dataset: _grade_dataset(
                output / dataset, dataset, rules.names(dataset), judges[dataset], references[dataset], checks, read
            )
            for dataset in DATASETS
        }
    except OSError as error:
        raise GradingError(f"{printable(str(output))} cannot be listed ({error.strerror}); check its rights") from None
    checks += _incomplete(output, rules, {dataset: each.missing for dataset, each in scored.items()}, refused or {})
    if stray:
        checks.append(Check("unexpected", "warning", ignored(stray)))
    if show_neighbours and real:
        show_neighbours(neighbours_png([row for dataset in DATASETS for row in scored[dataset].closest]))
    accuracies = [each.accuracy for each in scored.values() if each.accuracy is not None]
    accuracy = sum(accuracies) / len(DATASETS) if len(accuracies) == len(DATASETS) else None
    for name, threshold in rules.baselines.items():
        checks.append(_baseline_check(name, threshold, accuracy))
    failed = {check.name for check in checks if check.status == "fail"} - {"strong baseline"}
    return DigitsResult(
        status="fail" if failed else "pass",
        accuracy=accuracy,
        thresholds=rules.baselines,
        accuracy_mnistm=scored["mnistm"].accuracy,
        accuracy_svhn=scored["svhn"].accuracy,
        correct={dataset: each.correct for dataset, each in scored.items()},
        total={dataset: each.total for dataset, each in scored.items()},
        per_digit={dataset: each.per_digit for dataset, each in scored.items()},
        confusion={dataset: each.confusion for dataset, each in scored.items()},
        wilson_95={dataset: each.wilson_95 for dataset, each in scored.items()},
        missing=[f"{dataset}/{name}" for dataset, each in scored.items() for name in each.missing],
        unexpected=[*stray, *(f"{dataset}/{name}" for dataset, each in scored.items() for name in each.unexpected)],
        judges={dataset: judges[dataset].identity for dataset in DATASETS},
        realism={dataset: each.realism for dataset, each in scored.items()},
        checks=checks,
    )


def _grade_dataset(
    folder: Path,
    dataset: str,
    expected: Sequence[str],
    judge: DigitJudge,
    real: RealDigits | None,
    checks: list[Check],
    read: PngReader,
) -> _Dataset:
    layout = check_layout(folder, expected)
    images: list[ImageU8] = []
    names: list[str] = []
    # The official script scores every file. Here, an unexpected image is scored if its name starts with a digit.
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
    if extra:
        sentence = f"{dataset}: the score includes {counted(len(extra), 'unexpected image')}: {listed(extra)}."
        checks.append(Check(f"{dataset} count", "fail", sentence))
    if others := sorted(set(layout.unexpected) - set(extra)):
        checks.append(Check(f"{dataset} files", "warning", ignored([f"{dataset}/{name}" for name in others])))
    labels = np.array([int(name[0]) for name in names], np.int64)
    predicted = judge.predict(images)
    confusion = confusion_matrix(labels, predicted.digits)
    realism = compare(names, images, labels, predicted, judge, real)
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


def _incomplete(
    output: Path, rules: DigitsRules, missing: Mapping[str, Sequence[str]], refused: Mapping[str, str]
) -> Iterator[Check]:
    """A check for each data set that lacks images, with the first reason if one is known."""
    expected = [f"{dataset}/{name}" for dataset in DATASETS for name in rules.names(dataset)]
    for dataset, names in missing.items():
        if not names:
            continue
        are = "is" if len(names) == 1 else "are"
        sentence = f"{dataset}: {len(names)} of {len(rules.names(dataset))} images {are} missing: {listed(names)}."
        reasons = missing_reasons(output, [f"{dataset}/{name}" for name in names], expected, refused)
        known = [reason.sentence(naming=False) for reason in reasons if reason.known]
        yield Check(f"{dataset} complete", "fail", " ".join([sentence, *known[:1]]))


def _baseline_check(name: str, threshold: float, accuracy: float | None) -> Check:
    if accuracy is None:
        return Check(f"{name} baseline", "fail", "At least one data set has no image that could be scored.")
    reached = accuracy >= threshold
    found = f"The mean accuracy is {beside(accuracy, [threshold], 2, '%')}"
    sentence = f"{found}; the {name} baseline is {threshold:.2%}." if reached else f"{found}; expected {threshold:.2%}."
    return Check(f"{name} baseline", "pass" if reached else "fail", sentence)
