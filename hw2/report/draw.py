"""The report's charts: colours that colour-blind readers tell apart (Okabe & Ito 2008), on a light background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hw2.figures import DPI

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
COLOURS = (BLUE, ORANGE, GREEN, GREY)
MARKERS = ("o", "s", "^", "D")
WIDTH, HEIGHT = 6.4, 2.9
"""Inches of one chart in a row of its own, so that its text is as large as the page's."""


def charts(count: int, columns: int = 2, height: float = HEIGHT) -> tuple[Figure, list[Axes]]:
    """A figure with `count` empty charts in rows of `columns`."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH * columns / 1.6, height * rows), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    for each in axes:
        each.grid(alpha=0.3)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def curves(axes: Axes, x: Sequence[float], lines: Mapping[str, Sequence[float]], x_label: str, y_label: str) -> None:
    """Lines by name over shared x values, each with its own colour and marker."""
    for (name, values), colour, marker in zip(lines.items(), COLOURS, MARKERS, strict=False):
        axes.plot(x, values, color=colour, marker=marker, markersize=4, label=name)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if len(lines) > 1:
        axes.legend(fontsize=9)


def with_intervals(
    axes: Axes,
    x: Sequence[float],
    lines: Mapping[str, tuple[Sequence[float], Sequence[Sequence[float]]]],
    x_label: str,
    y_label: str,
) -> None:
    """Lines by name, (values, [low, high] of each), over shared x values; their bars are moved apart a little."""
    places = range(len(x))
    for i, (name, (values, intervals)) in enumerate(lines.items()):
        beside = [place + 0.08 * (i - (len(lines) - 1) / 2) for place in places]
        below = [value - low for value, (low, _) in zip(values, intervals, strict=True)]
        above = [high - value for value, (_, high) in zip(values, intervals, strict=True)]
        axes.errorbar(
            beside,
            values,
            yerr=[below, above],
            color=COLOURS[i],
            marker=MARKERS[i],
            markersize=4,
            capsize=3,
            label=name,
        )
    axes.set_xticks(list(places), [f"{value:g}" for value in x])
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if len(lines) > 1:
        axes.legend(fontsize=9)


def bars(axes: Axes, names: Sequence[str], values: Sequence[float], x_label: str, right: int | None = None) -> None:
    """Horizontal bars by name, the first on top. right: the bar with another colour."""
    colours = [ORANGE if i == right else BLUE for i in range(len(names))]
    axes.barh(range(len(names)), list(values), color=colours)
    axes.set_yticks(range(len(names)), list(names))
    axes.invert_yaxis()
    axes.set_xlabel(x_label)
