"""The concepts and prompts that the homework's input.json asks for (Problem 3)."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grading.core.errors import GradingError
from grading.core.text import counted, printable
from grading.files.staff_files import read_object


@dataclass(frozen=True)
class Concept:
    """One entry of input.json.

    sentences[i]: the sentence that CLIP compares the pictures of prompt i with. thresholds[i]: their baseline (image,
    text).
    """

    src_image: str
    sentences: list[str]
    thresholds: list[tuple[float, float]]


def read_concepts(path: Path) -> dict[str, Concept]:
    """The concepts of the homework's input.json by name, in its order.

    Raises GradingError if the file is not such JSON, or is incomplete.
    """
    content = read_object(path, "the homework's input.json")
    return {concept: _concept(printable(str(path)), concept, entry) for concept, entry in content.items()}


def _concept(path: str, concept: str, entry: Any) -> Concept:
    shown = printable(concept)
    if concept in ("", ".", "..") or len(concept.encode()) > 255 or "/" in concept or "\0" in concept:
        raise GradingError(f"{path} has a concept '{shown:.80}'; expected the name of a folder")
    if not isinstance(entry, dict):
        raise GradingError(f"{path} has no JSON object for concept {shown}; correct it")
    source, sentences, thresholds = (entry.get(key) for key in ("src_image", "prompt_4_clip_eval", "baseline"))
    if not isinstance(source, str):
        raise GradingError(f"{path} has no text under src_image for concept {shown}; correct it")
    if not isinstance(sentences, list) or not sentences or not all(isinstance(s, str) and s for s in sentences):
        raise GradingError(f"{path} has no list of sentences under prompt_4_clip_eval for concept {shown}; correct it")
    if not isinstance(thresholds, list) or len(thresholds) < len(sentences):
        found = counted(len(thresholds), "baseline") if isinstance(thresholds, list) else "no baselines"
        raise GradingError(
            f"{path} has {found} for the {counted(len(sentences), 'prompt')} of concept {shown}; expected one for each"
        )
    if wrong := [t for t in thresholds if not _is_threshold(t)]:
        raise GradingError(
            f"{path} has the baseline {json.dumps(wrong[0]):.80} for concept {shown}; expected [image, text]"
        )
    pairs = [(float(image), float(text)) for image, text in thresholds]
    return Concept(source, sentences, pairs)


def _is_threshold(found: object) -> bool:
    return (
        isinstance(found, list)
        and len(found) == 2
        and all(isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= sys.float_info.max for x in found)
    )
