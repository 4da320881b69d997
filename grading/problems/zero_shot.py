"""The accuracy of zero-shot predictions, recomputed from the file names alone."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from grading.core.errors import GradingError
from grading.core.results import Check, Figure, Part, ProblemResult, Status
from grading.core.text import counted, listed, printable
from grading.files.leftovers import described
from grading.files.staff_files import read_bytes, read_object
from grading.problems.metrics import wilson_interval
from grading.problems.problem import plain

IMAGE_NAME = re.compile(r"(?:.*[/\\])?((\d+)_\d+\.png)", re.IGNORECASE)
"""{class_id}_{image_id}.png (slides p28), after any folder. The name contains the class."""

WHOLE_NUMBER = re.compile(r"\+?0*(\d+)(?:\.0*)?")

COLUMNS = ("image_name", "predicted_id")

SHOWN = 10
"""Maximum number of invalid lines with separate checks, and of classes that a sentence names."""


@dataclass(frozen=True)
class ZeroShotResult:
    """Zero-shot classification. accuracy: share of right predictions. per_class: accuracy by class name.

    confusion: counts; rows are true classes, columns are predicted classes, both in the order of the labels' file.
    """

    status: Status
    accuracy: float | None = None
    correct: int = 0
    total: int = 0
    wilson_95: tuple[float, float] | None = None
    per_class: dict[str, float] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    problem: Literal["zero-shot"] = "zero-shot"


def read_labels(path: Path) -> dict[str, str]:
    """Class id -> name, from id2label.json, in its order. Raises GradingError if the file is invalid."""
    labels = read_object(path, "the homework's id2label.json")
    if not all(isinstance(name, str) for name in labels.values()) or len(set(labels.values())) < len(labels):
        raise GradingError(
            f"{printable(str(path))} has an empty or repeated class name; expected the homework's id2label.json"
        )
    return labels


def grade_zero_shot(predictions: Path, labels: dict[str, str]) -> ZeroShotResult:
    """Accuracy of a CSV with the columns image_name and predicted_id. Other columns are ignored.

    A row counts as wrong and fails if its image or predicted class does not exist, or if its image is repeated.
    Raises GradingError if the file is not such a CSV.
    """
    content, shown = read_bytes(predictions, "predictions as CSV"), printable(str(predictions))
    if what := described(content, predictions.name):
        raise GradingError(f"{shown} {what}; expected predictions as CSV")
    text = content.decode("utf-8-sig", errors="replace")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        rows = [(reader.line_num, row) for row in reader if any(str(value or "").strip() for value in row.values())]
    except csv.Error as error:
        raise GradingError(f"{shown} is not a CSV file ({error}); correct it") from None
    if wanting := [column for column in COLUMNS if not rows or columns.count(column) != 1]:
        found = "several columns" if wanting[0] in columns and rows else "no rows with a column"
        raise GradingError(f"{shown} has {found} {wanting[0]}; expected {', '.join(COLUMNS)}, each once")
    place = {class_id: i for i, class_id in enumerate(labels)}
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    of_class = np.zeros(len(labels), np.int64)  # number of images
    wrong: list[Check] = []
    seen: set[str] = set()
    for number, row in rows:
        image, predicted = (str(row[column] or "").strip() for column in COLUMNS)
        match = IMAGE_NAME.fullmatch(image)
        if match is None or match[2] not in labels:
            _fail(wrong, number, f"{image!r:.80} is not an image of a class in the labels; expected e.g. 0_450.png")
            continue
        if match[1].lower() in seen:
            _fail(wrong, number, f"{image!r:.80} is repeated; expected each image once")
            continue
        seen.add(match[1].lower())
        of_class[place[match[2]]] += 1
        if (found := _class_id(predicted, labels)) in labels:
            confusion[place[match[2]], place[found]] += 1
        else:
            _fail(wrong, number, f"{predicted!r:.80} is not a class id of the labels")
    correct, total = int(np.trace(confusion)), len(rows)
    checks = wrong[:SHOWN]
    if len(wrong) > SHOWN:
        checks.append(
            Check("lines", "fail", f"Predictions on {counted(len(wrong) - SHOWN, 'more invalid line')} count as wrong.")
        )
    names = list(labels.values())
    if unseen := [name for name, count in zip(names, of_class, strict=True) if not count]:
        some = f"{len(unseen)} of {counted(len(labels), 'class', 'classes')}"
        sentence = f"The predictions have no image of {some}: {listed(unseen, SHOWN)}."
        checks.append(Check("classes", "warning", sentence))
    low, high = wilson_interval(correct, total)
    sentence = f"{correct} of {total} predictions are right: {correct / total:.2%} ({low:.1%} .. {high:.1%})."
    checks.append(Check("accuracy", "fail" if wrong else "pass", sentence))
    return ZeroShotResult(
        status="fail" if wrong else "pass",
        accuracy=correct / total,
        correct=correct,
        total=total,
        wilson_95=(low, high),
        per_class={
            name: float(confusion[i, i] / count)
            for i, (name, count) in enumerate(zip(names, of_class, strict=True))
            if count
        },
        confusion=confusion.tolist(),
        checks=checks,
    )


def _class_id(predicted: str, labels: Mapping[str, str]) -> str:
    """The class that a cell names. pandas writes 5.0 for 5 if a column has gaps, and other programs 05."""
    number = WHOLE_NUMBER.fullmatch(predicted)
    return number[1] if number and predicted not in labels else predicted


def _fail(checks: list[Check], number: int, sentence: str) -> None:
    checks.append(Check(f"line {number}", "fail", f"Line {number}: {printable(sentence)}. The line counts as wrong."))


def zero_shot_result(graded: ZeroShotResult) -> ProblemResult:
    """The result for reports. It belongs to Problem 3's written report and gives no separate points."""
    figures = [Figure("zero-shot", "accuracy", graded.accuracy, "%", interval=graded.wilson_95)]
    figures += [
        Figure("zero-shot", name, share, "%", 0, informative=True, table="class", row=name, column="accuracy")
        for name, share in sorted(graded.per_class.items(), key=lambda item: -item[1])
    ]
    return ProblemResult(
        3, Part.WHOLE, "zero-shot", "Problem 3: zero-shot classification", graded.status, figures=figures,
        checks=graded.checks, details=plain(graded),
    )  # fmt: skip
