"""Problem 3's pictures."""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hw2.concepts.figures import ShownCase, cases_figure
from hw2.figures import DPI, image_grid
from hw2.report.concepts import Case, Cases, Templates, Words
from hw2.report.draw import BLUE, ORANGE, bars, charts
from hw2.report.pair import Pair
from hw2.report.training import WordCurves


def draw_case(data: Case) -> dict[str, Figure]:
    """The image, its cosines to the classes' sentences, and the softmax of them."""
    figure = Figure(figsize=(8, 2.9), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    image, cosines, shares = figure.subplots(1, 3)
    image.set_axis_off()
    image.imshow(data.image, interpolation="nearest")
    image.set_title(f"{data.file}\n{data.sentence}", fontsize=9, parse_math=False)
    right = data.names.index(data.label) if data.label in data.names else None
    bars(cosines, data.names, data.cosines, "cosine", right)
    bars(shares, [""] * len(data.names), data.probabilities, f"softmax of {data.logit_scale:.0f} x cosine", right)
    return {"chart": figure}


def draw_templates(data: Templates) -> dict[str, Figure]:
    """Accuracy of each template with its interval."""
    figure, (axes,) = charts(1, height=3.2)
    figure.set_figwidth(6.4)
    places = range(len(data.names))
    below = [share - low for share, (low, _) in zip(data.accuracy, data.interval, strict=True)]
    above = [high - share for share, (_, high) in zip(data.accuracy, data.interval, strict=True)]
    axes.errorbar(data.accuracy, places, xerr=[below, above], fmt="o", color=BLUE, capsize=3)
    axes.set_yticks(list(places), data.names, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("accuracy")
    return {"chart": figure}


def draw_cases(data: Cases) -> dict[str, Figure]:
    """Right cases above wrong ones, the best three guesses below each."""
    columns = zip(data.right, data.labels, data.files, data.guesses, data.probabilities, data.images, strict=True)
    title = f"{data.correct} of {data.total} images are right"
    return {"chart": cases_figure([ShownCase(*case) for case in columns], title)}


def draw_words(data: Words) -> dict[str, Figure]:
    """The concept's images above the pictures of each prompt with both words."""
    numbers = [str(i + 1) for i in range(data.pictures)]
    return {"grid": image_grid(list(data.images), row_labels=data.labels, column_labels=numbers, title="")}


def draw_pair(data: Pair) -> dict[str, Figure]:
    """Naive pictures, the attention of their pixels to both words, and blended pictures from the same noises."""
    naive, blended = data.images
    low, high = data.maps.min(), data.maps.max()
    rows = {"naive": list(naive)}
    for word, maps in zip((data.first, data.second), data.maps, strict=True):
        grey = ((maps - low) / max(high - low, 1e-8) * 255).astype(np.uint8)
        scale = naive.shape[1] // grey.shape[1]
        rows[f"attention\nto {word}"] = [
            np.repeat(each.repeat(scale, axis=0).repeat(scale, axis=1)[..., None], 3, axis=2) for each in grey
        ]
    rows["blended"] = list(blended)
    columns = [str(i + 1) for i in range(len(naive))]
    return {"grid": image_grid(list(rows.values()), row_labels=list(rows), column_labels=columns, title=data.prompt)}


def draw_word_curves(data: WordCurves) -> dict[str, Figure]:
    """Loss and validation loss over the steps of the training."""
    figure, (axes,) = charts(1)
    axes.plot(data.steps, data.loss, color=BLUE, linewidth=1, label="training")
    axes.plot(data.validation_steps, data.validation, color=ORANGE, marker="s", markersize=4, label="validation")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(fontsize=9)
    return {"chart": figure}
