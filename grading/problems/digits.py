"""Problem 1: MNIST-M and SVHN digits, judged by two classifiers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from grading.core.arrays import ImageU8
from grading.core.results import Card, Check, Figure, Frame, Outcome, Part, ProblemResult
from grading.core.text import beside, counted
from grading.problems import suspicions
from grading.problems.digit_scores import DATASETS, DigitsResult, DigitsRules, grade_digits
from grading.problems.problem import Evidence, Explanation, Problem, Run, messages, plain
from grading.problems.realism import (
    realism_figures,
)

BASELINE = " baseline"
"""The ending of the names of checks on accuracy."""

GRID_COLUMNS = 10
"""Images of each digit in the gallery."""


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
        graded = grade_digits(run.output, run.judges, self.rules, read=run.images.read_png, refused=run.refused)
        return self.result(graded, run.part)

    def result(self, graded: DigitsResult, part: Part = Part.WHOLE) -> ProblemResult:
        """The result for reports."""
        return ProblemResult(
            self.number, part, self.name, self.title(part), graded.status,
            summary=_summary(graded), figures=list(_figures(graded)), outcomes=self.outcomes(graded),
            cards=[self.card(graded, dataset) for dataset in DATASETS], checks=graded.checks,
            judges=list(graded.judges.values()), details=plain(graded),
            complete=not graded.missing and not any("/" in check.name for check in _amiss(graded)),
        )  # fmt: skip

    def outcomes(self, graded: DigitsResult) -> list[Outcome]:
        """One for each baseline. None can pass if the folders are not complete."""
        unmet = messages(_amiss(graded), "fail")
        others = [check for check in graded.checks if not check.name.endswith(BASELINE)]
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
            f"Each row shows the first {len(columns)} images of a digit. The number on the right is the share of all "
            f"{self.rules.per_digit} images that the classifier recognises."
        )
        return Card(DATASETS[dataset], note, frames=(frame,), footnote=footnote)

    def groups(self, evidence: Evidence) -> dict[str, Mapping[str, ImageU8]]:
        """See `Problem`. The groups are the data sets."""
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


def _amiss(graded: DigitsResult) -> list[Check]:
    """What is wrong with the images themselves, whatever they show."""
    return [check for check in graded.checks if check.status == "fail" and not check.name.endswith(BASELINE)]


def _summary(graded: DigitsResult) -> str:
    if graded.accuracy is None:
        return ""
    limits = [f"the {name} baseline is {value:.2%}" for name, value in graded.thresholds.items()]
    accuracy = beside(graded.accuracy, graded.thresholds.values(), 2, "%")
    return f"The mean accuracy is {accuracy}{'; ' if limits else ''}{', '.join(limits)}."


def _figures(graded: DigitsResult) -> Iterable[Figure]:
    """Headline figures, then the accuracy of each digit, then figures for information."""
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


def _line_explanations(problem: Digits) -> Iterable[Explanation]:
    rules = problem.rules
    everything = f"All {rules.total} images must exist and be readable, without any others."
    for name, threshold in rules.baselines.items():
        more = "more " if name == "strong" else ""
        points = f"Gives {problem.points[name]:g} {more}points" if problem.points else "Passes"
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
            f"{everything} The accuracy is reported (see accuracy). The homework's points and baselines are not known.",
            f"{problem.source}.",
        )


def explanations(problem: Digits) -> Iterable[Explanation]:
    """How the lines and figures of Problem 1 are computed."""
    yield from _line_explanations(problem)
    rules = problem.rules
    accuracy = {
        dataset: (
            "The classifier of the data set runs on every image (28x28, values scaled to -1..1). The label is the "
            "first character of the file's name. The accuracy is the share of right predictions among all images. "
            f"{dataset}/ must have {len(rules.names(dataset))} images {{digit}}_{{001..{rules.per_digit:03d}}}.png for "
            f"the digits {', '.join(map(str, rules.digits[dataset]))}."
        )
        for dataset in DATASETS
    }
    yield Explanation(
        "accuracy",
        r"(digits )?accuracy",
        "The score of Problem 1 is the plain mean of the MNIST-M and the SVHN accuracy, (accuracy_mnistm + "
        "accuracy_svhn) / 2. It is not weighted by the number of images.",
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
        f"{accuracy['svhn']} The judge is resnet34_svhn of the package detectors. As in the official script, it "
        "runs on 28x28 images, although it was trained at 32x32.",
        f"digit_classifier.py; {problem.source}.",
    )
    yield Explanation(
        "confusion",
        r"confusion|per_digit|digit \d",
        "The table counts images by digit (rows) and predicted digit (columns). The diagonal's share of a row is that "
        "digit's accuracy. The table is for information and gives no points.",
        "ours, from the same predictions as accuracy.",
    )
    yield Explanation(
        "wilson_95",
        r"wilson(_95)?|95 % interval|interval",
        "The 95 % confidence interval of the accuracy (Wilson's score interval). It is for information and gives no "
        "points.",
        "Wilson 1927, JASA 22; ours.",
    )
    yield Explanation(
        "realism",
        r"realism|diversity(_real)?|frechet[ _]distance|nearest(_rms(_real)?)?",
        "These figures compare digits with each other and with real ones: the mean distance of two images of a digit "
        "and the Frechet distance, both in the classifier's features, and the root mean squared difference to the "
        "nearest real image. They are for information and give no points.",
        "ours; Frechet distance: Heusel et al. 2017, equation 6.",
    )
