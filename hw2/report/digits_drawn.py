"""Problem 1's pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from hw2.digits.figures import TITLES, digit_grid
from hw2.digits.sample import official_names
from hw2.figures import image_grid
from hw2.report.digits import Grids, Reverse, Settings
from hw2.report.draw import charts, curves, with_intervals


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


def draw_settings(data: Settings) -> dict[str, Figure]:
    """Accuracy with intervals, and diversity, over guidance and over steps."""
    figure, (by_scale, by_steps, scale_diversity, steps_diversity) = charts(4)
    for axes, x, accuracy, interval, label in (
        (by_scale, data.scales, data.scale_accuracy, data.scale_interval, "guidance scale"),
        (by_steps, data.steps, data.steps_accuracy, data.steps_interval, "steps"),
    ):
        with_intervals(axes, x, _by_dataset(accuracy, interval), label, "accuracy")
        axes.set_ylim(0, 1.02)
    for axes, x, diversity, label in (
        (scale_diversity, data.scales, data.scale_diversity, "guidance scale"),
        (steps_diversity, data.steps, data.steps_diversity, "steps"),
    ):
        lines = {title: [each[i] for each in diversity] for i, title in enumerate(TITLES.values())}
        curves(axes, range(len(x)), lines, label, "diversity")
        axes.set_xticks(range(len(x)), [f"{value:g}" for value in x])
    return {"chart": figure}


def _by_dataset(
    accuracy: Sequence[Sequence[float]], interval: Sequence[Sequence[Sequence[float]]]
) -> dict[str, tuple[list[float], list[Sequence[float]]]]:
    return {
        title: ([each[i] for each in accuracy], [each[i] for each in interval])
        for i, title in enumerate(TITLES.values())
    }
