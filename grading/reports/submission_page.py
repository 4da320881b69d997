"""A submission's result as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from grading.core.results import Check, FacesResult, SubmissionResult
from grading.core.text import printable
from grading.reports.pictures import AMPLIFICATION, DATASET_NAMES, Picture, Pictures
from grading.reports.visibility import (
    OUTCOMES,
    is_private,
    log_tail,
    public_part,
    shown_points,
    shown_seconds,
    unchecked_sentence,
)

MARKS = {"pass": "✓", "fail": "✗", "error": "?", "warning": "!"}

ORDER = {"error": 0, "fail": 1, "pass": 2, "warning": 3}
"""What people should read first."""


def submission_page(result: SubmissionResult, pictures: Pictures | None = None, public_only: bool = False) -> str:
    """The page of one submission; readable on a phone, on paper, by day and by night.

    public_only: for students before grades are published: nothing private, no warnings. Whatever strangers wrote is
    shown as text, characters that are none spelled out.
    """
    shown = public_part(result) if public_only else result
    pictures = pictures or Pictures()
    digits = shown.digits

    def selected(part: str, key: str) -> list[tuple[Picture, str]]:
        score = shown.concepts[part].prompts[key]
        drawn = pictures.concepts.get(part, {}).get(key, [])
        captions = [f"{score.images[name][0]:.1f} · {score.images[name][1]:.1f}" for name in score.selected]
        return list(zip(drawn, captions, strict=False))[::-1]

    return environment().get_template("submission.html").render(
        result=shown,
        pictures=pictures,
        public_only=public_only,
        unchecked=unchecked_sentence(shown),
        accuracies={"mnistm": digits.accuracy_mnistm, "svhn": digits.accuracy_svhn} if digits else {},
        face_figures=_face_figures,
        selected=selected,
        record=list(_flat(_with_dates(shown.record))),
    )  # fmt: skip


@functools.cache
def environment() -> Environment:
    """Jinja, with autoescape for everything and `printable` before it."""
    found = Environment(
        loader=PackageLoader("grading.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=False,
    )
    found.filters |= {
        "points": shown_points,
        "seconds": shown_seconds,
        "percent": _percent,
        "tail": log_tail,
        "is_private": is_private,
        "sort_checks": _sorted_checks,
    }
    found.globals |= {
        "outcomes": OUTCOMES,
        "marks": MARKS,
        "amplification": AMPLIFICATION,
        "dataset_names": DATASET_NAMES,
    }
    return found


def _printable(value: Any) -> Any:
    """Applied to whatever a template prints. Markup is what templates themselves have made."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _percent(share: float, decimals: int = 2) -> str:
    return f"{100 * share:.{decimals}f}%"


def _sorted_checks(checks: list[Check]) -> list[Check]:
    return sorted(checks, key=lambda check: ORDER[check.status])


def _face_figures(faces: FacesResult, index: int) -> str:
    name = faces.expected[index]
    if name not in faces.mse_per_image:
        return "could not be scored"
    psnr, ssim = faces.psnr_per_image.get(name), faces.ssim_per_image.get(name)
    figures = [f"MSE {faces.mse_per_image[name]:.4g}"]
    figures += [f"PSNR {psnr:.1f} dB"] if psnr is not None else []
    figures += [f"SSIM {ssim:.3f}"] if ssim is not None else []
    return ", ".join(figures)


def _with_dates(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record, with times since 1970 as dates."""
    times = record.get("times")
    if not isinstance(times, Mapping):
        return dict(record)
    dates = {key: datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") for key, value in times.items()}
    return {**record, "times": dates}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, text) of everything in nested dicts."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        yield name, text or "–"
