"""Problem 3's pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hw2.concepts.zero_shot import Prediction, read_pixels
from hw2.figures import DPI, ImageU8, figure_png

CASES = 5


@dataclass(frozen=True)
class ShownCase:
    """One classified image with its class, and the likeliest classes with their probabilities."""

    right: bool
    label: str
    file: str
    guesses: Sequence[str]
    probabilities: Sequence[float]
    image: ImageU8


def chosen_cases(predictions: Sequence[Prediction], correct: bool) -> list[Prediction]:
    """Five right or wrong predictions, or all if there are fewer: equally spaced in the order given, not selected."""
    found = [p for p in predictions if p.correct == correct]
    return [found[i * len(found) // CASES] for i in range(CASES)] if len(found) > CASES else found


def shown_cases(predictions: Sequence[Prediction], names: Mapping[int, str]) -> list[ShownCase]:
    """Five right and then five wrong cases, with their images."""
    return [
        ShownCase(
            right, names[p.label], p.path.name, [names[i] for i in p.guesses], p.probabilities, read_pixels(p.path)
        )
        for right in (True, False)
        for p in chosen_cases(predictions, right)
    ]


def cases_png(predictions: Sequence[Prediction], names: Mapping[int, str], title: str) -> bytes:
    """As `cases_figure` of five right and five wrong predictions, the bytes of a PNG file."""
    return figure_png(cases_figure(shown_cases(predictions, names), title))


def cases_figure(cases: Sequence[ShownCase], title: str) -> Figure:
    """Right cases above wrong ones: the image, its class, and the best three guesses below it.

    The guesses are given with their probabilities, the softmax over all classes.
    """
    figure = Figure(figsize=(11, 7.4), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11, parse_math=False)
    for right, axes_row in zip((True, False), figure.subplots(2, CASES), strict=True):
        for axes in axes_row:
            axes.set_axis_off()
        for case, axes in zip([c for c in cases if c.right == right], axes_row, strict=False):
            axes.imshow(case.image, interpolation="nearest")
            row = "right" if right else "wrong"
            axes.set_title(f"{row}: {case.label}\n{case.file}", fontsize=9, parse_math=False)
            guesses = [f"{name}  {p:.1%}" for name, p in zip(case.guesses, case.probabilities, strict=True)]
            axes.text(
                0.5, -0.04, "\n".join(guesses), fontsize=9, ha="center", va="top", transform=axes.transAxes,
                parse_math=False,
            )  # fmt: skip
    return figure
