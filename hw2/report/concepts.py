"""Problem 3's data: how CLIP classifies, what a learned word changes, and two learned words in one picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from hw2.concepts.attention import MapStore
from hw2.concepts.clip import clip_scores, openai_templates
from hw2.concepts.compose import Composition, draw_blended, pieces
from hw2.concepts.figures import shown_cases
from hw2.concepts.generate import ConceptSampler, image_to_u8
from hw2.concepts.zero_shot import Prediction, class_features, classify, read_pixels, wilson_interval
from hw2.errors import InputError
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
ORDERS, ALONE = 8, 4
"""Pictures of two words in each order, as many that are blended, and pictures of each word alone."""


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


# --- two words in one picture


@dataclass(frozen=True)
class Pair:
    """Two learned words in one prompt, in both orders.

    first_wins: how many of `each` pictures of an order are nearer, by CLIP, to pictures of the word that stands first
    alone than to those of the second; blended_first_wins: the same of `each` blended ones, in the first order.
    overlap: correlation of both words' attention maps, mean over the pictures. images: (2, each, H, W, 3), naive and
    blended; maps: (2, each, h, w), attention to each word in the naive ones.
    """

    first: str
    second: str
    prompt: str
    each: int
    first_wins: list[int]
    first_wins_all: int
    all: int
    blended_first_wins: int
    interval: list[float]
    overlap: float
    images: Pixels
    maps: npt.NDArray[np.float32]


def pair(inputs: Inputs, on_step: OnStep) -> Pair:
    """The first and the last of the learned words."""
    sampler = concept_sampler(inputs)
    first, second = inputs.tokens[0], inputs.tokens[-1]
    if first == second:
        raise InputError("one learned word is given; give two to combine them", "embeddings")
    prompt = f"a {first} and a {second} on the grass"
    swapped = f"a {second} and a {first} on the grass"
    names = [f"pair {i}" for i in range(ORDERS)]
    alone = {
        word: _mean_features(
            inputs, pictures(sampler, {f"{word} {i}": f"a {word} on the grass" for i in range(ALONE)}, on_step)
        )
        for word in (first, second)
    }
    naive, maps = _with_maps(sampler, prompt, (first, second), names, on_step)
    other = pictures(sampler, dict.fromkeys(names, swapped), on_step)
    wins = [
        _nearer(inputs, naive, alone[first], alone[second]),
        _nearer(inputs, other, alone[second], alone[first]),
    ]
    ordinary = {word: inputs.ordinary.get(word, next(iter(inputs.ordinary.values()))) for word in (first, second)}
    composition = Composition(prompt, ordinary, hold=0.0)
    blended = [image_to_u8(image) for _, image in draw_blended(
        sampler, composition, names, on_step
    )]  # fmt: skip
    centred = (maps - maps.mean((2, 3), keepdim=True)).flatten(2)  # (B, 2, h w)
    overlap = float(F.cosine_similarity(centred[:, 0], centred[:, 1]).mean())
    return Pair(
        first, second, prompt, ORDERS, wins, sum(wins), 2 * ORDERS,
        _nearer(inputs, blended, alone[first], alone[second]), list(wilson_interval(sum(wins), 2 * ORDERS)),
        overlap,
        np.stack([np.stack(naive), np.stack(blended)]), maps.transpose(0, 1).numpy(),
    )  # fmt: skip


def pair_steps(inputs: Inputs) -> int:  # noqa: ARG001
    """Steps of all its images together."""
    return (2 * ALONE + 4 * ORDERS) * STEPS


def _with_maps(
    sampler: ConceptSampler, prompt: str, tokens: Sequence[str], names: Sequence[str], on_step: OnStep
) -> tuple[list[ImageU8], Tensor]:
    """(pictures of one batch, attention maps (B, words, h, w)) of a prompt."""
    store = MapStore(len(names), [_places(sampler, prompt, token) for token in tokens])
    latents = torch.empty(0)
    with sampler.model.attention(store.keep):
        for state in sampler.states(names, [prompt] * len(names)):
            latents = state.sample
            on_step(names[0], len(names))
    drawn = [image_to_u8(image) for image in sampler.decode(names, latents)]
    return drawn, store.word_maps(sampler.model.latent_shape[1]).float().cpu()


def _places(sampler: ConceptSampler, prompt: str, token: str) -> list[int]:
    """Places of a token in a prompt; place 0 is the start of the text."""
    start, end = (len(pieces(sampler, text)) for text in (prompt.split(token)[0], token))
    return list(range(1 + start, 1 + start + end))


def _features(inputs: Inputs, drawn: Sequence[ImageU8]) -> Tensor:
    clip = inputs.clip_model
    return clip.image_features(torch.stack([clip.preprocess(Image.fromarray(picture)) for picture in drawn]))


def _mean_features(inputs: Inputs, drawn: Sequence[ImageU8]) -> Tensor:
    return F.normalize(_features(inputs, drawn).mean(0), dim=0)


def _nearer(inputs: Inputs, drawn: Sequence[ImageU8], this: Tensor, other: Tensor) -> int:
    """How many pictures have a larger cosine to `this` than to `other`."""
    features = _features(inputs, drawn)
    return int((features @ this > features @ other).sum())
