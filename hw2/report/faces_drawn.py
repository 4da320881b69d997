"""Problem 2's pictures."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hw2.figures import image_grid
from hw2.report.draw import BLUE, GREY, ORANGE, charts, curves
from hw2.report.faces import THRESHOLD, EtaGrid, Paths


def draw_eta(data: EtaGrid) -> dict[str, Figure]:
    """The grid, and the error over eta."""
    figure, (axes,) = charts(1)
    axes.fill_between(data.etas, data.lowest, data.highest, color=BLUE, alpha=0.15, label="range over the noises")
    curves(axes, data.etas, {"mean": data.mse}, "eta", "MSE to the ground truth")
    axes.axhline(THRESHOLD, color=ORANGE, linestyle="--", label="the homework's limit")
    axes.legend(fontsize=9)
    axes.set_ylim(bottom=0)
    labels = [*(f"eta {eta:g}" for eta in data.etas), "truth"]
    grid = image_grid(
        list(data.images), row_labels=labels, column_labels=[f"noise {name}" for name in data.noises], title=""
    )
    return {"grid": grid, "chart": figure}


def draw_paths(data: Paths) -> dict[str, Figure]:
    """Both strips and their difference, and what can be measured along them."""
    labels = ["slerp", "lerp", f"difference\nx {data.amplified}"]
    grid = image_grid(
        list(data.images), row_labels=labels, column_labels=[f"{alpha:g}" for alpha in data.alphas], title=""
    )
    figure, axes = charts(4)
    norms, contrasts, saturations, details = axes
    _compare(norms, data.alphas, data.slerp_norms, data.lerp_norms, "norm of the noise")
    norms.axhline(data.shell_mean, color=GREY, linestyle="--", label="mean of Gaussian noise")
    low, high = data.shell_mean - 3 * data.shell_deviation, data.shell_mean + 3 * data.shell_deviation
    norms.axhspan(low, high, color=GREY, alpha=0.2, label="within 3 deviations")
    norms.legend(fontsize=7)
    _compare(contrasts, data.alphas, data.slerp_contrast, data.lerp_contrast, "contrast of the face")
    _compare(saturations, data.alphas, data.slerp_saturation, data.lerp_saturation, "colour saturation")
    _compare(details, data.alphas, data.slerp_detail, data.lerp_detail, "share of fine detail")
    return {"grid": grid, "chart": figure}


def _compare(axes: Axes, alphas: Sequence[float], slerp: Sequence[float], lerp: Sequence[float], label: str) -> None:
    curves(axes, alphas, {"slerp": slerp, "lerp": lerp}, "alpha", label)
