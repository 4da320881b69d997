"""Problem 3's pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hw2.concepts.zero_shot import Prediction, read_pixels
from hw2.figures import DPI

CASES = 5


def chosen_cases(predictions: Sequence[Prediction], correct: bool) -> list[Prediction]:
    """Five right or wrong predictions, or all if there are fewer: equally spaced in the order given, not selected."""
    found = [p for p in predictions if p.correct == correct]
    return [found[i * len(found) // CASES] for i in range(CASES)] if len(found) > CASES else found


def cases_png(predictions: Sequence[Prediction], names: Mapping[int, str], title: str) -> bytes:
    """A PNG of five right and five wrong cases: the image, its class, and the best three guesses below it.

    The guesses are given with their probabilities, the softmax over all classes.
    """
    rows = {"right": chosen_cases(predictions, True), "wrong": chosen_cases(predictions, False)}
    figure = Figure(figsize=(11, 7.4), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11, parse_math=False)
    for (row, cases), axes_row in zip(rows.items(), figure.subplots(len(rows), CASES), strict=True):
        for axes in axes_row:
            axes.set_axis_off()
        for case, axes in zip(cases, axes_row, strict=False):
            axes.imshow(read_pixels(case.path), interpolation="nearest")
            axes.set_title(f"{row}: {names[case.label]}\n{case.path.name}", fontsize=9, parse_math=False)
            guesses = [f"{names[i]}  {p:.1%}" for i, p in zip(case.guesses, case.probabilities, strict=True)]
            axes.text(
                0.5, -0.04, "\n".join(guesses), fontsize=9, ha="center", va="top", transform=axes.transAxes,
                parse_math=False,
            )  # fmt: skip
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
