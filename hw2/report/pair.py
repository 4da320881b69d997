"""Two learned words in one picture: which one wins, measured by halves, and how regions keep both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from hw2.concepts.attention import MapStore
from hw2.concepts.compose import Composition, draw_blended, pieces
from hw2.concepts.generate import ConceptSampler, image_to_u8
from hw2.concepts.zero_shot import wilson_interval
from hw2.errors import InputError
from hw2.figures import ImageU8
from hw2.progress import OnStep
from hw2.report.concepts import Pixels, concept_sampler, pictures
from hw2.report.inputs import Inputs
from hw2.report.part import Row

SEEDS, SHOWN = 50, 8
"""Pictures of both words in each order, and how many of them are shown, and blended."""
OF_A_WORD = 10
"""Pictures of each word twice: half of them are its reference, and the others check it."""
STEPS = 8
KEPT = 0.75
"""Share of its own look from which a half shows a word: nearer to the word alone than to an even mixture of both."""
BLENDED, ALL = "blended", "all"


@dataclass(frozen=True)
class Pair:
    """Two learned words in one prompt, in both orders.

    A half of a picture has a share of a word's look: 1 as in pictures of this word alone, 0 as in those of the other.
    checked_right of `checked` halves of such pictures are told right. counts: of the prompt, of the words swapped, and
    blended; see `outcomes`. wins, both: those of both orders together, with 95 % intervals (Wilson). shares: mean share
    of its own look of the word that stands first and of the second, each in its better half, in both orders. overlap:
    correlation of both words' attention maps, mean over the shown pictures. images: (2, shown, H, W, 3), naive and
    blended; maps: (2, shown, h, w), attention of the naive ones.
    """

    first: str
    second: str
    prompt: str
    swapped: str
    seeds: int
    checked: int
    checked_right: int
    kept: float
    counts: list[list[int]]
    pictures: int
    wins: int
    wins_interval: list[float]
    both: int
    both_interval: list[float]
    shares: list[float]
    blended: int
    blended_both: int
    blended_interval: list[float]
    overlap: float
    images: Pixels
    maps: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ruler:
    """Where CLIP's features stand between two words: 1 at `first`, 0 at `second`, along `direction` (D,)."""

    direction: Tensor
    first: float
    second: float

    @classmethod
    def between(cls, first: Tensor, second: Tensor) -> Ruler:
        """The ruler of features (N, D) of each word."""
        direction = F.normalize(first.mean(0), dim=0) - F.normalize(second.mean(0), dim=0)
        return cls(direction, float((first @ direction).mean()), float((second @ direction).mean()))

    def shares(self, features: Tensor) -> Tensor:
        """The first word's share in features (.., D)."""
        return (features @ self.direction - self.second) / (self.first - self.second)


def pair(inputs: Inputs, on_step: OnStep) -> Pair:
    """The first and the last of the learned words, without help and blended by regions."""
    sampler = replace(concept_sampler(inputs), num_inference_steps=STEPS)
    first, second = inputs.tokens[0], inputs.tokens[-1]
    if first == second:
        raise InputError("one learned word is given; give two to combine them", "embeddings")
    prompt, swapped = (_prompt(*words) for words in ((first, second), (second, first)))
    names = [f"two words {i}" for i in range(SEEDS)]  # other pictures than those on which KEPT was chosen
    ruler, right = _ruler(inputs, sampler, (first, second), on_step)
    shown, maps = _with_maps(sampler, prompt, (first, second), names[:SHOWN], on_step)
    naive = [*shown, *pictures(sampler, dict.fromkeys(names[SHOWN:], prompt), on_step)]
    other = pictures(sampler, dict.fromkeys(names, swapped), on_step)
    word = next(iter(inputs.ordinary.values()))
    composition = Composition(prompt, {each: inputs.ordinary.get(each, word) for each in (first, second)}, hold=0.0)
    blended = [image_to_u8(image) for _, image in draw_blended(sampler, composition, names[:SHOWN], on_step)]
    of_naive, of_other, of_blended = (ruler.shares(_features(inputs, each)) for each in (naive, other, blended))
    both_orders = torch.cat([of_naive, 1 - of_other])  # of the word that stands first
    wins, both = outcomes(both_orders)[:2]
    counts = [outcomes(each) for each in (of_naive, 1 - of_other, of_blended)]
    return Pair(
        first, second, prompt, swapped, SEEDS, 2 * OF_A_WORD, right, KEPT, counts, 2 * SEEDS,
        wins, list(wilson_interval(wins, 2 * SEEDS)), both, list(wilson_interval(both, 2 * SEEDS)),
        [float(own.mean()) for own in own_shares(both_orders)],
        SHOWN, counts[2][1], list(wilson_interval(counts[2][1], SHOWN)),
        _overlap(maps), np.stack([np.stack(shown), np.stack(blended)]), maps.transpose(0, 1).numpy(),
    )  # fmt: skip


def pair_steps(inputs: Inputs) -> int:  # noqa: ARG001
    """Steps of all its images together."""
    return (2 * OF_A_WORD + 2 * SEEDS + 2 * SHOWN) * STEPS


def pair_rows(data: Pair) -> list[Row]:
    """A row for each order, for both together, and for the blended pictures."""
    both = [sum(each) for each in zip(*data.counts[:2], strict=True)]
    named = zip((data.prompt, data.swapped, ALL, BLENDED), (*data.counts[:2], both, data.counts[2]), strict=True)
    return [Row(name, [sum(counts[1:]), *counts]) for name, counts in named]


def mirrored_halves(picture: ImageU8) -> tuple[ImageU8, ImageU8]:
    """The left and the right half (H, W / 2, 3), each beside its own mirror image, so that both are whole pictures."""
    middle = picture.shape[1] // 2
    left, right = picture[:, :middle], picture[:, middle:]
    return np.concatenate([left, left[:, ::-1]], axis=1), np.concatenate([right[:, ::-1], right], axis=1)


def own_shares(shares: Tensor) -> tuple[Tensor, Tensor]:
    """(the first word's share of its own look, the second's), each (N,) in its better half, from shares (N, 2)."""
    return shares.amax(1), 1 - shares.amin(1)


def outcomes(shares: Tensor) -> list[int]:
    """How many pictures the first word wins, and how many show both words, only the first, only the second, neither.

    shares: of the first word's look in both halves, (N, 2). A word wins if more of its own look is left than of the
    other's.
    """
    first, second = own_shares(shares)
    a, b = first >= KEPT, second >= KEPT
    return [int(each.sum()) for each in (first > second, a & b, a & ~b, ~a & b, ~a & ~b)]


def _prompt(first: str, second: str) -> str:
    return f"a {first} and a {second} on the grass"


def _ruler(inputs: Inputs, sampler: ConceptSampler, words: Sequence[str], on_step: OnStep) -> tuple[Ruler, int]:
    """(the ruler of half of the pictures of each word twice, how many halves of the others show their own word)."""
    known = []
    for word in words:
        names = {f"{word} {i}": _prompt(word, word) for i in range(OF_A_WORD)}
        known.append(_features(inputs, pictures(sampler, names, on_step)))
    (first, first_left), (second, second_left) = (each.split(OF_A_WORD // 2) for each in known)
    ruler = Ruler.between(first.flatten(0, 1), second.flatten(0, 1))
    own = torch.cat([ruler.shares(first_left), 1 - ruler.shares(second_left)])
    return ruler, int((own >= KEPT).sum())


def _features(inputs: Inputs, drawn: Sequence[ImageU8]) -> Tensor:
    """CLIP's features of both halves of every picture, (N, 2, D)."""
    clip = inputs.clip_model
    halves = [clip.preprocess(Image.fromarray(half)) for picture in drawn for half in mirrored_halves(picture)]
    found: Tensor = clip.image_features(torch.stack(halves)).unflatten(0, (-1, 2))
    return found


def _overlap(maps: Tensor) -> float:
    """Correlation of two maps (B, 2, h, w) over the pixels, mean over the pictures."""
    centred = (maps - maps.mean((2, 3), keepdim=True)).flatten(2)
    return float(F.cosine_similarity(centred[:, 0], centred[:, 1]).mean())


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
