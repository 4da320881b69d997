"""Zero-shot classification: the accuracy of predictions, recomputed from the file names alone."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from pathlib import Path

from grading.metrics import wilson_interval
from grading.results import Check, GradingError, ZeroShotResult, printable
from grading.spec import MAX_FILE_BYTES

IMAGE_NAME = re.compile(r"(\d+)_(\d+)\.png")
"""{class_id}_{image_id}.png (slides p28): the class is in the name."""

COLUMNS = ("image_name", "predicted_id")


def read_labels(path: Path) -> dict[str, str]:
    """Class id -> name, from id2label.json. Raises GradingError for anything else."""
    content = _read(path, "the homework's id2label.json")
    try:
        labels = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise GradingError(f"{path} is not valid JSON ({error}); mend it") from None
    if not isinstance(labels, dict) or not labels or not all(isinstance(name, str) for name in labels.values()):
        raise GradingError(f"{path} is no JSON object of class names; expected the homework's id2label.json")
    return labels


def grade_zero_shot(predictions: Path, labels: dict[str, str]) -> ZeroShotResult:
    """Accuracy of a CSV with the columns image_name and predicted_id; further columns are not looked at.

    A row whose image or predicted class does not exist, or whose image came before, counts as wrong and fails.
    Raises GradingError if the file is no such CSV.
    """
    text = _read(predictions, "predictions as CSV").decode("utf-8-sig", errors="replace")
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        columns = rows[0].keys() if rows else ()
    except csv.Error as error:
        raise GradingError(f"{predictions} is not a CSV file ({error}); mend it") from None
    if absent := [column for column in COLUMNS if column not in columns]:
        raise GradingError(f"{predictions} has no rows with a column {absent[0]}; expected {', '.join(COLUMNS)}")
    checks: list[Check] = []
    seen: Counter[str] = Counter()
    confusion: dict[str, dict[str, int]] = {}
    correct = 0
    for number, row in enumerate(rows, start=2):
        image, predicted = (str(row[column] or "").strip() for column in COLUMNS)
        match = IMAGE_NAME.fullmatch(image)
        seen[image] += 1
        if match is None or match[1] not in labels:
            _fail(checks, number, f"{image!r} is no image of a class in the labels; expected a name such as 0_450.png")
        elif seen[image] > 1:
            _fail(checks, number, f"{image!r} came before; expected each image once")
        elif predicted not in labels:
            _fail(checks, number, f"{predicted!r} is no class id of the labels")
        else:
            of_class = confusion.setdefault(match[1], {})
            of_class[predicted] = of_class.get(predicted, 0) + 1
            correct += match[1] == predicted
    total = len(rows)
    per_class = {
        labels[class_id]: found.get(class_id, 0) / sum(found.values()) for class_id, found in sorted(confusion.items())
    }
    return ZeroShotResult(
        status="fail" if checks else "pass",
        accuracy=correct / total,
        correct=correct,
        total=total,
        wilson_95=wilson_interval(correct, total),
        per_class=per_class,
        confusion=confusion,
        checks=checks,
    )


def _fail(checks: list[Check], number: int, sentence: str) -> None:
    checks.append(Check(f"line {number}", "fail", f"Line {number}: {printable(sentence)}; it counts as wrong."))


def _read(path: Path, expected: str) -> bytes:
    try:
        if not path.is_file():
            raise GradingError(f"{path} is not a file; expected {expected}")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise GradingError(f"{path} has more than {MAX_FILE_BYTES} bytes; expected {expected}")
        return path.read_bytes()
    except OSError as error:
        raise GradingError(f"{path} cannot be read ({error.strerror}); expected {expected}") from None
