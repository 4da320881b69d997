"""Problem 3's data: how CLIP classifies, what a learned word changes, and two learned words in one picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from hw2.concepts.clip import clip_scores, openai_templates
from hw2.concepts.figures import shown_cases
from hw2.concepts.generate import ConceptSampler, image_to_u8
from hw2.concepts.zero_shot import Prediction, class_features, classify, read_pixels, wilson_interval
from hw2.figures import ImageU8
from hw2.files.bundled import SMALL_SD
from hw2.progress import OnStep, silent
from hw2.report.inputs import SEED, Inputs
from hw2.report.part import Row

Pixels = npt.NDArray[np.uint8]
TEMPLATE = "A photo of {object}."
"""The homework's sentence."""
TEMPLATES = (TEMPLATE, "A photo of {object}", "{object}", "a picture of a {object}", "a drawing of a {object}")
MEAN, OPENAI = "mean", "openai80"
SHOWN_CLASSES = 8
BATCH = 100
PICTURES = 3
"""Pictures of each prompt."""
STEPS = 15


# --- CLIP as a classifier


@dataclass(frozen=True)
class Case:
    """One image and its nearest classes, the nearest first. image: (H, W, 3)."""

    file: str
    label: str
    sentence: str
    logit_scale: float
    classes: int
    names: list[str]
    cosines: list[float]
    probabilities: list[float]
    image: Pixels


def case(inputs: Inputs, on_step: OnStep) -> Case:
    """The first image of the folder."""
    clip, path = inputs.clip_model, inputs.classified[0]
    names = list(inputs.class_names.values())
    features = class_features(clip, names, [TEMPLATE])
    pixels = read_pixels(path)
    cosines = features @ clip.image_features(clip.preprocess(Image.fromarray(pixels))[None])[0]
    shares = (clip.logit_scale * cosines).softmax(0)
    order = cosines.argsort(descending=True)[:SHOWN_CLASSES].tolist()
    label = inputs.class_names[int(path.name.partition("_")[0])]
    on_step("", 1)
    return Case(
        path.name, label, TEMPLATE.replace("{object}", label), clip.logit_scale, len(names),
        [names[i] for i in order], cosines[order].tolist(), shares[order].tolist(), pixels,
    )  # fmt: skip


@dataclass(frozen=True)
class Templates:
    """Accuracy of each template, with its 95 % interval. best: the most accurate."""

    images: int
    names: list[str]
    accuracy: list[float]
    interval: list[list[float]]
    best: str
    best_accuracy: float
    worst: str
    worst_accuracy: float


def templates(inputs: Inputs, on_step: OnStep) -> Templates:
    """Every sentence, the mean of all, and the mean of OpenAI's 80."""
    sentences = {**{each: [each] for each in TEMPLATES}, MEAN: list(TEMPLATES), OPENAI: openai_templates()}
    accuracy, intervals = [], []
    for each in sentences.values():
        correct = sum(p.correct for p in predictions(inputs, each))
        accuracy.append(correct / len(inputs.classified))
        intervals.append(list(wilson_interval(correct, len(inputs.classified))))
        on_step("", 1)
    names = list(sentences)
    best, worst = max(accuracy), min(accuracy)
    return Templates(
        len(inputs.classified), names, accuracy, intervals, names[accuracy.index(best)], best,
        names[accuracy.index(worst)], worst,
    )  # fmt: skip


def template_rows(data: Templates) -> list[Row]:
    """A row for each template."""
    return [
        Row(name, [share, low, high])
        for name, share, (low, high) in zip(data.names, data.accuracy, data.interval, strict=True)
    ]


def predictions(inputs: Inputs, sentences: Sequence[str]) -> list[Prediction]:
    """The prediction of every image by the mean of these sentences."""
    features = class_features(inputs.clip_model, list(inputs.class_names.values()), sentences)
    return list(classify(inputs.clip_model, inputs.classified, inputs.class_names, features, BATCH))


@dataclass(frozen=True)
class Cases:
    """Five right and five wrong cases: file, class, guesses and probabilities. images: (cases, H, W, 3), of one size.

    taken, taken_for, times: the class that is most often taken for another, for which, and how often.
    """

    accuracy: float
    correct: int
    total: int
    taken: str
    taken_for: str
    times: int
    right: list[bool]
    files: list[str]
    labels: list[str]
    guesses: list[list[str]]
    probabilities: list[list[float]]
    images: Pixels


def cases(inputs: Inputs, on_step: OnStep) -> Cases:
    """The homework's sentence on all images."""
    found, names = predictions(inputs, [TEMPLATE]), inputs.class_names
    wrong = Counter((p.label, p.guesses[0]) for p in found if not p.correct)
    (taken, taken_for), times = wrong.most_common(1)[0] if wrong else ((found[0].label, found[0].label), 0)
    shown = shown_cases(found, names)
    correct = sum(p.correct for p in found)
    size = shown[0].image.shape[1::-1]
    on_step("", 1)
    return Cases(
        correct / len(found), correct, len(found), names[taken], names[taken_for], times,
        [case.right for case in shown], [case.file for case in shown], [case.label for case in shown],
        [list(case.guesses) for case in shown], [list(case.probabilities) for case in shown],
        np.stack([np.asarray(Image.fromarray(case.image).resize(size)) for case in shown]),
    )  # fmt: skip


# --- learned words


@dataclass(frozen=True)
class Words:
    """Each prompt drawn with the ordinary word and with the learned one. Scores are means over `pictures` pictures.

    image and text scores: [ordinary, learned] of each prompt. gain: mean image score that the learned words add.
    images: (rows, pictures, H, W, 3), for each concept its own images and then both rows of each prompt.
    """

    pictures: int
    prompts: list[str]
    labels: list[str]
    image_scores: list[list[float]]
    text_scores: list[list[float]]
    gain: float
    text_change: float
    images: Pixels


def words(inputs: Inputs, on_step: OnStep) -> Words:
    """All prompts of input.json, from the same noises with both words."""
    sampler = concept_sampler(inputs)
    image_scores, text_scores, prompts, labels, rows = [], [], [], [], []
    for concept, entry in inputs.prompts.items():
        given = [image_to_u8(image) for image in inputs.concept_images[concept]]
        rows.append([given[i % len(given)] for i in range(PICTURES)])
        labels.append(f"given {concept}")
        for index, prompt in enumerate(entry.prompts):
            ordinary = inputs.ordinary[entry.token_name]
            drawn = []
            for said in (prompt.replace(entry.token_name, ordinary), prompt):
                drawn.append(pictures(sampler, {f"{concept} {index} {i}": said for i in range(PICTURES)}, on_step))
            sentence = [inputs.sentences[concept][index]]
            scores = [clip_scores(inputs.clip_model, row, given, sentence) for row in drawn]
            image_scores.append([score for score, _ in scores])
            text_scores.append([score for _, score in scores])
            prompts.append(prompt)
            rows += drawn
            labels += [f"{concept}/{index}\n{ordinary}", f"{concept}/{index}\n{entry.token_name}"]
    gain, text_change = (float(np.mean([b - a for a, b in each])) for each in (image_scores, text_scores))
    images = np.stack([np.stack(row) for row in rows])
    return Words(PICTURES, prompts, labels, image_scores, text_scores, gain, text_change, images)


def word_steps(inputs: Inputs) -> int:
    """Steps of all its images together."""
    return 2 * PICTURES * STEPS * sum(len(entry.prompts) for entry in inputs.prompts.values())


def word_rows(data: Words) -> list[Row]:
    """A row for each prompt."""
    return [
        Row(prompt, [*image, *text])
        for prompt, image, text in zip(data.prompts, data.image_scores, data.text_scores, strict=True)
    ]


def concept_sampler(inputs: Inputs) -> ConceptSampler:
    """A sampler with the learned words, of few steps."""
    scale = 3.0 if inputs.stable_diffusion == SMALL_SD else 7.5
    return ConceptSampler(inputs.model, num_inference_steps=STEPS, guidance_scale=scale, seed=SEED, batch_size=8)


def pictures(sampler: ConceptSampler, names: Mapping[str, str], on_step: OnStep = silent) -> list[ImageU8]:
    """The pictures of name -> prompt, each (H, W, 3)."""
    return [pixels for _, pixels in sampler.pixels(names, on_step)]
