"""CLIP image and text scores of each prompt's pictures, computed as in grade_hw2_3.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from grading.core.arrays import ImageU8
from grading.core.errors import GradingError
from grading.core.results import Check, Judge, Status
from grading.core.text import beside, counted, ignored, printable
from grading.files.images import STAFF, ImageRefused, followed, read_image
from grading.files.layout import image_names
from grading.judges.protocols import ClipJudge, Features
from grading.problems.missing import missing_reasons, others_in
from grading.problems.prompts import Concept


@dataclass(frozen=True)
class ConceptsRules:
    """An edition's numbers.

    images: exact number in each prompt's folder. extensions: endings of image names, in upper or lower case. selected:
    number of images with the largest image score + text_weight * text score, which are averaged.
    """

    images: int
    extensions: tuple[str, ...]
    selected: int
    text_weight: float


@dataclass(frozen=True)
class PromptScore:
    """One prompt of Problem 3. clip_image_score, clip_text_score: means over the selected images, 0 to 100.

    threshold: (image, text); a prompt must reach both. selected: names of the selected images, the best last. images:
    (image, text) scores of each. Scores are None if there are too few images.
    """

    threshold: tuple[float, float]
    clip_image_score: float | None = None
    clip_text_score: float | None = None
    passed: bool = False
    selected: list[str] = field(default_factory=list)
    images: dict[str, tuple[float, float]] = field(default_factory=dict)
    src_image: str = ""
    prompt: str = ""


@dataclass(frozen=True)
class ConceptsResult:
    """Problem 3. prompts: by "concept/index", e.g. "0/1". passed: how many of total reach both thresholds."""

    status: Status
    passed: int = 0
    total: int = 0
    prompts: dict[str, PromptScore] = field(default_factory=dict)
    judge: Judge | None = None
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    problem: Literal["concepts"] = "concepts"


@dataclass(frozen=True)
class _Folder:
    """A prompt's folder. listed: names of its images. read: names of the images that could be read."""

    key: str
    listed: list[str]
    read: list[str] = field(default_factory=list)


def grade_concepts(
    output_dir: Path,
    concepts: Mapping[str, Concept],
    references: Path,
    judge: ClipJudge,
    rules: ConceptsRules,
    read: Callable[[Path, str], ImageU8] = read_image,
    refused: Mapping[str, str] | None = None,
) -> ConceptsResult:
    """Score OUTPUT/{concept}/{prompt index}/*.png against REFERENCES/{concept}/ and the concepts' sentences.

    The result passes if every prompt passes. A folder with a wrong number of images or an unreadable image fails its
    prompt, but is still scored if enough images are readable. The official script takes images in the arbitrary order
    of the folder. Here they are sorted by name.
    read: the function that reads the output. refused: {path: reason} of outputs that were not collected. Raises
    GradingError if references are missing.
    """
    shown = printable(str(output_dir))
    if output_dir.exists() and not output_dir.is_dir():
        raise GradingError(f"{shown} is a file; expected the folder with {printable(', '.join(concepts))}")
    known = {concept: _reference_names(references / concept, rules) for concept in concepts}
    checks: list[Check] = []
    if not output_dir.exists():
        checks.append(Check("folder", "fail", f"The folder {shown} does not exist."))
    missing: list[str] = []
    prompts: dict[str, PromptScore] = {}
    for concept, asked in concepts.items():
        keys = [f"{concept}/{index}" for index in range(len(asked.sentences))]
        folders = [_Folder(key, _listed(output_dir, key, rules, refused or {}, checks, missing)) for key in keys]
        pictures = _pictures(references / concept, known[concept], output_dir, folders, checks, read)
        features = judge.image_features(pictures)  # one call for all images of a concept
        of_references, rest = features[: len(known[concept])], features[len(known[concept]) :]
        texts = judge.text_features(asked.sentences)
        for index, folder in enumerate(folders):
            own, rest = rest[: len(folder.read)], rest[len(folder.read) :]
            scores = clip_scores(own, of_references, texts[index], judge.logit_scale)
            complete = len(folder.read) == len(folder.listed) == rules.images
            named = dict(zip(folder.read, scores, strict=True))
            score = score_prompt(
                named, asked.thresholds[index], rules, complete, asked.src_image, asked.sentences[index]
            )
            checks.append(_verdict(folder.key, score, complete))
            prompts[folder.key] = score
    passed = sum(score.passed for score in prompts.values())
    return ConceptsResult(
        status="pass" if passed == len(prompts) else "fail",
        passed=passed,
        total=len(prompts),
        prompts=prompts,
        judge=judge.identity,
        missing=missing,
        unexpected=_unexpected(output_dir, concepts, checks),
        checks=checks,
    )


def score_prompt(
    images: Mapping[str, tuple[float, float]],
    threshold: tuple[float, float],
    rules: ConceptsRules,
    complete: bool = True,
    src_image: str = "",
    prompt: str = "",
) -> PromptScore:
    """The official rule for one prompt. It averages the images with the best image + weight * text.

    If images are equal, the later is taken. images: name -> (image score, text score), in order. complete: whether the
    folder is complete. An incomplete folder cannot pass.
    """
    ranked = sorted(images, key=lambda name: images[name][0] + rules.text_weight * images[name][1])[-rules.selected :]
    if len(ranked) < rules.selected:
        return PromptScore(threshold, images=dict(images), src_image=src_image, prompt=prompt)
    image_score, text_score = (sum(images[name][i] for name in ranked) / rules.selected for i in (0, 1))
    reached = image_score >= threshold[0] and text_score >= threshold[1]
    return PromptScore(
        threshold, image_score, text_score, reached and complete, ranked, dict(images), src_image, prompt
    )


def official_lines(result: ConceptsResult) -> str:
    """The lines that grade_hw2_3.py prints for the same folders, without its rulers of equal signs."""
    lines = []
    for score in result.prompts.values():
        lines.append(f'Image source: "{printable(score.src_image)}", text prompt: {printable(score.prompt)}')
        if score.clip_image_score is not None and score.clip_text_score is not None:
            lines.append(f"CLIP Image Score: {score.clip_image_score:.2f}")
            lines.append(f"CLIP Text Score: {score.clip_text_score:.2f}")
        lines.append("PASS" if score.passed else f"Fail! Baseline is {score.threshold[0]:.2f}/{score.threshold[1]:.2f}")
    return "\n".join([*lines, f"You have passed {result.passed}/{result.total} cases"]) + "\n"


def clip_scores(
    images: Features, references: Features, text: Features, logit_scale: float
) -> list[tuple[float, float]]:
    """(image score, text score) of each image: mean of 100 * cosine over references, and logit_scale * cosine.

    images (N, D), references (M, D), text (D,): unit vectors.
    """
    exact = images.astype(np.float64)[:, None]  # (N, 1, D)
    # A matrix product adds up some rows in another order, so that equal images would not have equal scores.
    image_scores = 100 * np.mean((exact * references.astype(np.float64)).sum(axis=2), axis=1)
    text_scores = logit_scale * (exact * text.astype(np.float64)).sum(axis=2)[:, 0]
    return list(zip(image_scores.tolist(), text_scores.tolist(), strict=True))


def _reference_names(folder: Path, rules: ConceptsRules) -> list[str]:
    shown = printable(str(folder))
    try:
        names = image_names(folder, rules.extensions)
    except OSError as error:
        raise GradingError(f"{shown} cannot be listed ({error.strerror}); expected the concept's pictures") from None
    if not names:
        raise GradingError(f"{shown} has no images ({' '.join(rules.extensions)}); expected the concept's pictures")
    return names


def _read_reference(folder: Path, name: str) -> ImageU8:
    shown = printable(str(folder / name))
    try:
        path = followed(folder / name)  # staff may link to their pictures
        return read_image(path.parent, path.name, STAFF)
    except ImageRefused as refusal:
        raise GradingError(f"the reference {shown} {printable(str(refusal))}; expected a picture") from None


def _pictures(
    references: Path,
    reference_names: list[str],
    output_dir: Path,
    folders: list[_Folder],
    checks: list[Check],
    read: Callable[[Path, str], ImageU8],
) -> Iterator[ImageU8]:
    """The references, then each folder's readable images, one at a time to save memory. Fills folder.read."""
    for name in reference_names:
        yield _read_reference(references, name)
    for folder in folders:
        for name in folder.listed:
            try:
                image = read(output_dir / folder.key, name)
            except ImageRefused as refusal:
                sentence = f"{printable(folder.key)}/{printable(name)} {printable(str(refusal))}."
                checks.append(Check(f"{folder.key}/{name}", "fail", sentence))
                continue
            folder.read.append(name)
            yield image


def _listed(
    output_dir: Path,
    key: str,
    rules: ConceptsRules,
    refused: Mapping[str, str],
    checks: list[Check],
    missing: list[str],
) -> list[str]:
    """Sorted names of a prompt's images. Adds the folder's errors to checks and missing."""
    folder, shown = output_dir / key, printable(key)
    if not folder.is_dir() or any((output_dir / part).is_symlink() for part in (key, key.split("/")[0])):
        found = "is a link" if folder.is_symlink() or folder.parent.is_symlink() else "is missing"
        found = "is not a folder" if found == "is missing" and folder.exists() else found
        (reason,) = missing_reasons(output_dir, [key], [key], refused)
        found = reason.text if found == "is missing" else found
        missing.append(f"{key}/")
        checks.append(
            Check(f"{key} folder", "fail", f"{shown}/ {found}; expected a folder with {rules.images} images in it.")
        )
        return []
    names = image_names(folder, rules.extensions)
    if len(names) != rules.images:
        sentence = f"{shown}/ has {counted(len(names), 'image')}; expected exactly {rules.images}."
        others = others_in(output_dir, key, names, refused) if len(names) < rules.images else ""
        checks.append(Check(f"{key} count", "fail", f"{sentence} {others}".rstrip()))
    return names[: 4 * rules.images]  # enough for a useful message


def _verdict(key: str, score: PromptScore, complete: bool) -> Check:
    image, text = score.threshold
    if score.clip_image_score is None or score.clip_text_score is None:
        return Check(f"{key} score", "fail", f"{printable(key)}/ has fewer than five images that could be scored.")
    shown = beside(score.clip_image_score, [image], 4), beside(score.clip_text_score, [text], 4)
    found = f"{printable(key)}: image score {shown[0]}, text score {shown[1]}"
    reached = score.clip_image_score >= image and score.clip_text_score >= text
    if reached and not complete:
        return Check(f"{key} score", "fail", f"{found}. This reaches the baseline, but the folder is not complete.")
    sentence = f"{found}; {'reaches' if reached else 'expected at least'} {image:g} and {text:g}."
    return Check(f"{key} score", "pass" if reached else "fail", sentence)


def _unexpected(output_dir: Path, concepts: Mapping[str, Concept], checks: list[Check]) -> list[str]:
    """Entries that input.json does not ask for. They are ignored, as in the official script."""
    found = []
    expected = {"": set(concepts)} | {
        concept: {str(i) for i in range(len(asked.sentences))} for concept, asked in concepts.items()
    }
    for folder, wanted in expected.items():
        with_folder = output_dir / folder
        if with_folder.is_dir() and not with_folder.is_symlink():
            others = sorted({entry.name for entry in with_folder.iterdir()} - wanted)
            found += [f"{folder}/{name}" if folder else name for name in others]
    if found:
        checks.append(Check("files", "warning", ignored(found)))
    return found
