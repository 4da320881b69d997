"""Problem 1's pictures."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from hw2.digits.figures import TITLES, digit_grid
from hw2.digits.sample import official_names
from hw2.figures import image_grid
from hw2.report.digits import Grids, Reverse
from hw2.report.draw import BLUE, charts, curves, with_intervals
from hw2.report.settings import Guidance, Solvers
from hw2.report.training import DigitCurves, Nearest

NAMED = tuple(enumerate(TITLES.values()))
"""Place of a data set in the data, and its title."""


def draw_grids(data: Grids) -> dict[str, Figure]:
    """Both 10x10 grids, and whom the judges take for whom."""
    figure, axes = charts(2, height=3.6)
    for each, title, counts in zip(axes, TITLES.values(), data.confusion, strict=True):
        each.grid(visible=False)
        each.imshow(counts, cmap="Blues", vmin=0)
        for row, column in np.argwhere(np.array(counts) > 0):
            count = counts[row][column]
            colour = "white" if count > np.max(counts) / 2 else "black"
            each.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
        each.set_xticks(range(10))
        each.set_yticks(range(10))
        each.set_xlabel("judged as")
        each.set_ylabel("drawn")
        each.set_title(title, fontsize=10)
    return {"grid": digit_grid(dict(zip(official_names(10), data.images, strict=True))), "chart": figure}


def draw_reverse(data: Reverse) -> dict[str, Figure]:
    """Both strips, each with its predictions below."""
    labels = [f"{title}\n{what}" for title in TITLES.values() for what in ("x_t", "prediction")]
    grid = image_grid(
        list(data.images), row_labels=labels, column_labels=[f"t = {t}" for t in data.steps],
        title="From noise (t = 0) to image (t = 1000)",
    )  # fmt: skip
    return {"grid": grid}


def draw_guidance(data: Guidance) -> dict[str, Figure]:
    """Accuracy with intervals, and diversity, over guidance scale."""
    figure, (accuracy, diversity) = charts(2)
    shown = {title: ([row[i] for row in data.accuracy], [row[i] for row in data.interval]) for i, title in NAMED}
    with_intervals(accuracy, data.scales, shown, "guidance scale", "accuracy")
    accuracy.set_ylim(0, 1.02)
    lines = {title: [row[i] for row in data.diversity] for i, title in NAMED}
    curves(diversity, range(len(data.scales)), lines, "guidance scale", "diversity")
    diversity.set_xticks(range(len(data.scales)), [f"{scale:g}" for scale in data.scales])
    return {"chart": figure}


def draw_solvers(data: Solvers) -> dict[str, Figure]:
    """Accuracy with intervals of every solver over the number of steps, for each data set."""
    figure, axes = charts(len(TITLES))
    for each, (i, title) in zip(axes, NAMED, strict=True):
        shown = {
            name: ([row[i] for row in accuracy], [row[i] for row in interval])
            for name, accuracy, interval in zip(data.solvers, data.accuracy, data.interval, strict=True)
        }
        with_intervals(each, data.steps, shown, "steps", "accuracy")
        each.set_ylim(0, 1.02)
        each.set_title(title, fontsize=10)
    return {"chart": figure}


def draw_curves(data: DigitCurves) -> dict[str, Figure]:
    """Loss and accuracy over the steps of the training."""
    figure, (loss, accuracy) = charts(2)
    loss.plot(data.steps, data.loss, color=BLUE, linewidth=1)
    loss.set_xlabel("step")
    loss.set_ylabel("loss")
    lines = {title: data.accuracy[i] for i, title in NAMED}
    curves(accuracy, data.accuracy_steps, lines, "step", "recognized")
    accuracy.set_ylim(0, 1.02)
    return {"chart": figure}


def draw_nearest(data: Nearest) -> dict[str, Figure]:
    """Drawn digits above the nearest training images, with their distance in levels."""
    labels = [f"{title}\n{what}" for title in TITLES.values() for what in ("drawn", "nearest")]
    digits = [str(digit) for digit in range(data.images.shape[1])]
    return {"grid": image_grid(list(data.images), row_labels=labels, column_labels=digits, title="")}
