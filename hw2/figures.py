"""The report's pictures: labelled grids of images at their own pixels, and curves below them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

ImageU8 = npt.NDArray[np.uint8]

DPI = 100
GAP = 4
CELL = 96
"""Narrower images are enlarged by a whole factor to about this many pixels, so that a person can see them."""
LABEL_WIDTH, LABEL_HEIGHT, TITLE_HEIGHT, PANEL_HEIGHT = 90, 28, 40, 300
TITLE_SIZE, TITLE_LINE = 12, 22


@dataclass(frozen=True)
class Panel:
    """A plot below the grid: curves by name over shared x values."""

    x: Sequence[float]
    curves: Mapping[str, Sequence[float]]
    x_label: str
    y_label: str


def image_grid_png(
    rows: Sequence[Sequence[ImageU8]],
    *,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str,
    panels: Sequence[Panel] = (),
) -> bytes:
    """As `image_grid`, the bytes of a PNG file."""
    return figure_png(image_grid(rows, row_labels=row_labels, column_labels=column_labels, title=title, panels=panels))


def figure_png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file, in its own resolution."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi, metadata={"Software": None})
    return buffer.getvalue()


def image_grid(
    rows: Sequence[Sequence[ImageU8]],
    *,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str,
    panels: Sequence[Panel] = (),
) -> Figure:
    """Images (H, W, 3), all of one size, in labelled rows and columns, with panels side by side below.

    Every image keeps its pixels, or shows each as a square of a whole number of pixels. Raises ValueError if the rows
    are not of one length, or labels and images do not match.
    """
    if len(rows) != len(row_labels) or any(len(row) != len(column_labels) for row in rows):
        raise ValueError("need one label for each row and column of the grid")
    height, width = rows[0][0].shape[:2]
    scale = max(1, CELL // width)
    cell_height, cell_width = height * scale + GAP, width * scale + GAP
    grid_width = LABEL_WIDTH + len(column_labels) * cell_width
    lines = _wrapped(_as_text(title), grid_width - LABEL_WIDTH - 2 * GAP)
    head_height = TITLE_HEIGHT + (len(lines) - 1) * TITLE_LINE + LABEL_HEIGHT
    grid_height = head_height + len(rows) * cell_height
    total_height = grid_height + (PANEL_HEIGHT if panels else 0) + GAP
    figure = Figure(figsize=(grid_width / DPI, total_height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)

    def text(x: float, y: float, words: str, size: float, align: str) -> None:
        x, y, words = x / grid_width, 1 - y / total_height, _as_text(words)
        figure.text(x, y, words, fontsize=size, ha=align, va="center", parse_math=False)

    for i, line in enumerate(lines):
        text(LABEL_WIDTH, TITLE_HEIGHT / 2 + i * TITLE_LINE, line, TITLE_SIZE, "left")
    for column, label in enumerate(column_labels):
        x = LABEL_WIDTH + (column + 0.5) * cell_width
        text(x, head_height - LABEL_HEIGHT / 2, label, 9, "center")
    for row, (images, label) in enumerate(zip(rows, row_labels, strict=True)):
        top = head_height + row * cell_height
        text(LABEL_WIDTH - 10, top + cell_height / 2, label, 9, "right")
        for column, image in enumerate(images):
            pixels = image.repeat(scale, axis=0).repeat(scale, axis=1)
            # figimage copies pixels without resampling; its origin is the lower left corner
            bottom = total_height - top - height * scale
            figure.figimage(pixels, xo=LABEL_WIDTH + column * cell_width, yo=bottom, origin="upper")
    _draw_panels(figure, panels, grid_width, total_height)
    return figure


def _draw_panels(figure: Figure, panels: Sequence[Panel], grid_width: int, total_height: int) -> None:
    """Draw the panels side by side at the lower edge of a figure, which is as wide as its grid; sizes in pixels."""
    for i, panel in enumerate(panels):
        left = (LABEL_WIDTH + i * (grid_width - LABEL_WIDTH) / len(panels)) / grid_width
        share = (grid_width - LABEL_WIDTH) / len(panels) / grid_width
        axes = figure.add_axes((left, 60 / total_height, share * 0.85, (PANEL_HEIGHT - 100) / total_height))
        for name, values in panel.curves.items():
            axes.plot(panel.x, values, marker="o", markersize=3, label=name)
        axes.set_xlabel(panel.x_label)
        axes.set_ylabel(panel.y_label)
        axes.grid(alpha=0.3)
        axes.legend()


def _as_text(name: str) -> str:
    """A file's name as text; bytes that are not text are escaped."""
    return name.encode(errors="backslashreplace").decode()


def _wrapped(title: str, width: int) -> list[str]:
    """The lines of a title, none wider than `width` pixels unless a single word is."""
    font, lines = FontProperties(size=TITLE_SIZE), [""]
    for word in title.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        points, _, _ = text_to_path.get_text_width_height_descent(longer, font, ismath=False)
        if lines[-1] and points * DPI / 72 > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
