"""Problem 1: two folders of generated digits -> the official accuracies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from grading.core.arrays import ImageU8
from grading.core.errors import GradingError
from grading.core.results import Card, Check, Figure, Frame, Judge, Outcome, Part, ProblemResult, Status
from grading.core.text import counted, listed, printable
from grading.files.images import ImageRefused, PngReader, read_png
from grading.files.layout import check_layout
from grading.judges.protocols import DigitJudge
from grading.problems import suspicions
from grading.problems.metrics import confusion_matrix, wilson_interval
from grading.problems.problem import Evidence, Explanation, Problem, Run, messages, plain
from grading.problems.realism import (
    RealDigits,
    Realism,
    closest_rows,
    compare,
    load_real_digits,
    neighbours_png,
    realism_figures,
)

DATASETS = {"mnistm": "MNIST-M", "svhn": "SVHN"}
"""Folder of the outputs -> name of the data set."""

GRID_COLUMNS = 10
"""Images of each digit in the gallery."""


@dataclass(frozen=True)
class DigitsRules:
    """An edition's numbers.

    digits: which digits each data set must have. per_digit: how many images of each. simple, strong: baselines of the
    mean accuracy, None where the homework has none.
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
        """How many images there must be in all."""
        return sum(len(self.names(dataset)) for dataset in DATASETS)

    @property
    def baselines(self) -> dict[str, float]:
        """Those that there are, by name."""
        found = {"simple": self.simple, "strong": self.strong}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class DigitsResult:
    """Problem 1. Accuracies are shares, 0 to 1, None where no image could be scored; `accuracy` is their mean.

    Dicts are by data set, "mnistm" and "svhn". confusion: 10x10 counts, rows labels, columns predictions. per_digit:
    accuracy of each digit that has images. wilson_95: the interval that the accuracy lies in with 95 % confidence.
    realism: for information only.
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
) -> DigitsResult:
    """Score `output/{mnistm,svhn}/{digit}_{001..}.png` with one judge for each data set.

    As in the official script an image's label is the first character of its name, every image of any size counts, and
    the score is the plain mean of the two accuracies. Unlike it, images that are missing, unreadable or not asked for
    are named; only a complete folder can pass, and it passes at the simple baseline.
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
            dataset: _grade_dataset(
                output / dataset, dataset, rules.names(dataset), judges[dataset], references[dataset], checks, read
            )
            for dataset in DATASETS
        }
    except OSError as error:
        raise GradingError(f"{printable(str(output))} cannot be listed ({error.strerror}); check its rights") from None
    if stray:
        checks.append(Check("unexpected", "warning", f"Not asked for, and ignored: {listed(stray)}."))
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
        sentence = f"{dataset}: {len(layout.missing)} of {len(expected)} images are missing: {listed(layout.missing)}."
        checks.append(Check(f"{dataset} complete", "fail", sentence))
    if extra:
        sentence = f"{dataset}: {len(extra)} more than asked for, counted too: {listed(extra)}."
        checks.append(Check(f"{dataset} count", "fail", sentence))
    if ignored := sorted(set(layout.unexpected) - set(extra)):
        checks.append(
            Check(f"{dataset} files", "warning", f"{dataset}: not asked for, and ignored: {listed(ignored)}.")
        )
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


def _baseline_check(name: str, threshold: float, accuracy: float | None) -> Check:
    if accuracy is None:
        return Check(f"{name} baseline", "fail", "At least one data set has no image that could be scored.")
    reached = accuracy >= threshold
    found = f"The mean accuracy is {accuracy:.2%}"
    sentence = f"{found}; the {name} baseline is {threshold:.2%}." if reached else f"{found}; expected {threshold:.2%}."
    return Check(f"{name} baseline", "pass" if reached else "fail", sentence)


@dataclass(frozen=True, kw_only=True)
class Digits(Problem):
    """MNIST-M and SVHN digits, judged by two classifiers."""

    rules: DigitsRules

    name = "digits"
    parts = (Part.WHOLE,)
    judges = ("mnistm", "svhn")

    @property
    def unknown(self) -> tuple[tuple[str, str], ...]:  # type: ignore[override]
        """See `Problem`."""
        return tuple((name, f"{name} baseline") for name in self.rules.baselines) or (("accuracy", "accuracy"),)

    def score(self, run: Run) -> ProblemResult:
        """See `Problem`."""
        return self.result(grade_digits(run.output, run.judges, self.rules, read=run.images.read_png), run.part)

    def result(self, graded: DigitsResult, part: Part = Part.WHOLE) -> ProblemResult:
        """What reports show of a result."""
        return ProblemResult(
            self.number, part, self.name, self.title(part), graded.status,
            summary=_summary(graded), figures=list(_figures(graded)), outcomes=self.outcomes(graded),
            cards=[self.card(graded, dataset) for dataset in DATASETS], checks=graded.checks,
            judges=list(graded.judges.values()), details=plain(graded),
        )  # fmt: skip

    def outcomes(self, graded: DigitsResult) -> list[Outcome]:
        """One for each baseline; none can pass where the folders are not complete."""
        names = {f"{name} baseline" for name in self.rules.baselines}
        others = [check for check in graded.checks if check.name not in names]
        unmet = messages(others, "fail")
        found = []
        for key, title in self.unknown:
            own = [check for check in graded.checks if check.name == f"{key} baseline"]
            passed = not unmet and all(check.status == "pass" for check in own)
            met = messages([*own, *others], "pass")
            found.append(Outcome(key, title, passed, met, (*messages(own, "fail"), *unmet)))
        return found

    def card(self, graded: DigitsResult, dataset: str) -> Card:
        """A grid: a row for each digit, with its first images."""
        digits = self.rules.digits[dataset]
        columns = range(1, min(GRID_COLUMNS, self.rules.per_digit) + 1)
        per_digit = graded.per_digit.get(dataset, {})
        shares = [per_digit.get(str(digit)) for digit in digits]
        low = self.rules.simple or 0.0
        frame = Frame(
            f"Generated {DATASETS[dataset]} digits: a row for each digit, with its first {len(columns)} images.",
            tuple(tuple(f"{dataset}/{digit}_{i:03d}.png" for i in columns) for digit in digits),
            size=28, row_labels=tuple(map(str, digits)),
            row_notes=tuple("–" if share is None else f"{share:.0%}" for share in shares),
            low=tuple(i for i, share in enumerate(shares) if share is not None and share < low),
        )  # fmt: skip
        accuracy = {"mnistm": graded.accuracy_mnistm, "svhn": graded.accuracy_svhn}[dataset]
        interval = graded.wilson_95.get(dataset)
        note = "no image could be scored"
        if accuracy is not None:
            note = f"{accuracy:.2%} of {counted(graded.total[dataset], 'image')}"
            note += f", 95% interval {interval[0]:.2%} to {interval[1]:.2%}" if interval else ""
        footnote = (
            f"Rows are digits, with their first {len(columns)} images. On the right: how many of all "
            f"{self.rules.per_digit} the classifier recognises."
        )
        return Card(DATASETS[dataset], note, frames=(frame,), footnote=footnote)

    def groups(self, evidence: Evidence) -> dict[str, Mapping[str, ImageU8]]:
        """See `Problem`: the data sets."""
        return {
            f"{evidence.where} {dataset}": {
                name.removeprefix(f"{dataset}/"): pixels
                for name, pixels in evidence.images.items()
                if name.startswith(f"{dataset}/")
            }
            for dataset in DATASETS
        }

    def suspicions(self, evidence: Evidence) -> list[Check]:
        """See `Problem`."""
        found = super().suspicions(evidence)
        for where, images in self.groups(evidence).items():
            found += suspicions.near_duplicates_across_digits(where, images)
        return [*found, *suspicions.too_fast(evidence.where, evidence.seconds, len(evidence.images))]

    def explanations(self) -> Iterable[Explanation]:
        """See `Problem`."""
        return explanations(self)


def _summary(graded: DigitsResult) -> str:
    if graded.accuracy is None:
        return ""
    limits = [f"the {name} baseline is {value:.2%}" for name, value in graded.thresholds.items()]
    return f"Mean accuracy {graded.accuracy:.2%}{'; ' if limits else ''}{', '.join(limits)}."


def _figures(graded: DigitsResult) -> Iterable[Figure]:
    """Headline figures first; then accuracy by digit, and what is for information."""
    baseline = min(graded.thresholds.values(), default=None)
    yield Figure("accuracy", "mean accuracy", graded.accuracy, "%", baseline=baseline, leaderboard="Digits accuracy %")
    accuracies = {"mnistm": graded.accuracy_mnistm, "svhn": graded.accuracy_svhn}
    for dataset, name in DATASETS.items():
        interval = graded.wilson_95.get(dataset)
        yield Figure(f"accuracy_{dataset}", f"{name} accuracy", accuracies[dataset], "%", interval=interval)
    for dataset, name in DATASETS.items():
        for digit, share in graded.per_digit.get(dataset, {}).items():
            title = f"{name} digit {digit}"
            yield Figure(
                "per_digit", title, share, "%", 0, informative=True, table="accuracy", row=f"digit {digit}", column=name
            )
    for dataset, realism in graded.realism.items():
        yield from realism_figures(DATASETS[dataset], realism)


def explanations(problem: Digits) -> Iterable[Explanation]:
    """How the lines and figures of Problem 1 are computed."""
    rules = problem.rules
    accuracy = {
        dataset: (
            "The classifier of the data set judges every image (28x28, values scaled to -1..1); the label is the first "
            f"character of the file's name. Accuracy = right answers / images. {len(rules.names(dataset))} images are "
            f"asked for in {dataset}/: {{digit}}_{{001..{rules.per_digit:03d}}}.png for the digits "
            f"{', '.join(map(str, rules.digits[dataset]))}."
        )
        for dataset in DATASETS
    }
    everything = f"All {rules.total} images must be there and readable, and no more than those."
    for name, threshold in rules.baselines.items():
        points = f"{problem.points[name]:g} {'more ' if name == 'strong' else ''}points" if problem.points else "Passed"
        yield Explanation(
            f"{problem.number} {name}",
            rf"{problem.number} {name}|{name} baseline",
            f"{points} if the plain mean of the MNIST-M and the SVHN accuracy is at least {threshold:.2%}. "
            f"{everything}",
            f"{problem.source}; digit_classifier.py (accuracy).",
        )
    if not rules.baselines:
        yield Explanation(
            f"{problem.number} accuracy",
            rf"{problem.number} accuracy",
            f"{everything} The accuracy is reported; see accuracy. This homework's points and baselines are not known.",
            f"{problem.source}.",
        )
    yield Explanation(
        "accuracy",
        r"(digits )?accuracy",
        "Problem 1's score: the plain mean of the MNIST-M and the SVHN accuracy, (accuracy_mnistm + accuracy_svhn) / "
        "2, however many images each has.",
        f"{problem.source}; digit_classifier.py.",
    )
    yield Explanation(
        "accuracy_mnistm",
        r"accuracy[ _]mnistm|mnistm",
        f"{accuracy['mnistm']} The judge is the course's small convolutional network, Classifier.pth.",
        f"digit_classifier.py; {problem.source}.",
    )
    yield Explanation(
        "accuracy_svhn",
        r"accuracy[ _]svhn|svhn",
        f"{accuracy['svhn']} The judge is resnet34_svhn of the package detectors, fed with 28x28 images as the "
        "official script does, although it was trained at 32x32.",
        f"digit_classifier.py; {problem.source}.",
    )
    yield Explanation(
        "confusion",
        r"confusion|per_digit|digit \d",
        "How many images of each digit (rows) the classifier takes for which digit (columns). The diagonal's share "
        "of a row is that digit's accuracy. It is for information and gives no points.",
        "ours, from the same answers as accuracy.",
    )
    yield Explanation(
        "wilson_95",
        r"wilson(_95)?|95 % interval|interval",
        "The range in which the accuracy would lie with 95 % confidence if images were drawn again: Wilson's score "
        "interval of right answers among all. It is for information and gives no points.",
        "Wilson 1927, JASA 22; ours.",
    )
    yield Explanation(
        "realism",
        r"realism|diversity(_real)?|frechet[ _]distance|nearest(_rms(_real)?)?",
        "How digits compare with each other and with real ones in the classifier's features: mean distance of two "
        "images of a digit, Frechet distance, and the root mean squared difference to the nearest real image. They "
        "are for information and give no points.",
        "ours; Frechet distance: Heusel et al. 2017, equation 6.",
    )
