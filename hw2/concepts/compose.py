"""Several learned words in one picture, after OMG (Kong et al. 2024, ECCV, arXiv 2403.10983).

Words are trained separately: in one prompt, one concept often replaces the other. OMG walks twice from the same noise
(its figure 3). The first walk has ordinary words in the concepts' places. It fixes the layout, and its cross-attention
maps are kept (section 3.2). In the second walk each concept predicts the noise of its own region, and the predictions
are blended by the concepts' masks (section 3.3, "concept noise blending"), while the kept maps preserve the layout.
A concept's own prompt has its word in every concept's place, so that nothing else can be drawn in its region.
OMG finds its masks by a detector in the first picture; here they are given boxes, or come from the kept maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hw2.concepts import generate
from hw2.concepts.attention import MapStore
from hw2.concepts.generate import ConceptSampler, Fit
from hw2.concepts.stable_diffusion import PLACEHOLDER
from hw2.devices.memory import in_batches
from hw2.diffusion.samplers import StepOutput, classifier_free_guidance, walk
from hw2.errors import InputError
from hw2.progress import OnStep, silent
from hw2.wording import shortened

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of the picture from 0 to 1."""


@dataclass(frozen=True)
class Composition:
    """A prompt with two or more learned tokens, and the word that replaces each while the layout is drawn.

    words: token -> ordinary word, e.g. {"<new1>": "dog"}. boxes: one for each token, if regions are given.
    hold: the share of the steps in which the second walk uses the first one's cross-attention maps.
    Raises InputError if a token is not in the prompt exactly once, or if a box is empty or outside the picture.
    """

    prompt: str
    words: Mapping[str, str]
    boxes: Mapping[str, Box] | None = None
    hold: float = 0.4

    def __post_init__(self) -> None:
        found = PLACEHOLDER.findall(self.prompt)
        if sorted(found) != sorted(self.words) or len(found) < 2:
            raise InputError(
                f"the prompt {self.prompt!r} has the tokens {', '.join(found) or '(none)'}; "
                f"expected two or more, each once, and a word for each (given: {', '.join(self.words) or 'none'})"
            )
        if self.boxes is not None:
            if sorted(self.boxes) != sorted(self.words):
                raise InputError(
                    f"boxes are given for {shortened(sorted(self.boxes))}; give one for every token or for none"
                )
            for token, (left, top, right, bottom) in self.boxes.items():
                if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                    raise InputError(
                        f"the box of {token} is {left},{top},{right},{bottom}; expected left < right and top < bottom, "
                        "as shares of the picture from 0 to 1"
                    )
        if not 0 <= self.hold <= 1:
            raise InputError(f"hold is {self.hold}; expected a share of the steps, from 0 to 1", "hold")

    @property
    def tokens(self) -> list[str]:
        """The tokens, in order of the prompt."""
        return PLACEHOLDER.findall(self.prompt)

    def prompts(self) -> list[str]:
        """All prompts of the second walk: each concept's own, and last the layout's."""
        return [self.prompt_of(token) for token in [*self.tokens, None]]

    def prompt_of(self, token: str | None) -> str:
        """The prompt with `token` in every concept's place; None: with the ordinary words, for the layout."""
        return PLACEHOLDER.sub(lambda found: token or self.words[found[0]], self.prompt)


def blend(
    sampler: ConceptSampler,
    composition: Composition,
    names: Sequence[str],
    on_layout: OnStep = silent,
) -> Iterator[StepOutput]:
    """The second walk of one batch, latents (B, 4, h, w); see the module. The first walk comes before it."""
    model, tokens, B = sampler.model, composition.tokens, len(names)
    *own, layout, empty = (
        states.expand(B, -1, -1) for states in model.encode_prompts([*composition.prompts(), ""]).split(1)
    )
    noise, store = sampler.noise(names), map_store(sampler, composition, B)
    with model.attention(store.keep):
        for _ in walk(sampler.step(), sampler.guided(layout), noise, model.schedule, sampler.pairs()):
            on_layout("layout", B)
    masks = region_masks(sampler, composition, store).to(noise.device)  # (B or 1, concepts, h, w)
    outside = 1 - masks.sum(1, keepdim=True)
    held_maps = [_held_maps(sampler, composition, token) for token in tokens]
    calls = iter([*store.calls, *[{}] * len(sampler.pairs())])
    states = torch.cat([*own, layout, empty])

    def prediction(sample: Tensor, timesteps: Tensor) -> Tensor:
        kept = next(calls)

        def replace(name: str, weights: Tensor) -> Tensor:
            held = kept[name].to(weights.dtype)
            rows = list(
                weights.split(B)
            )  # of each concept and the layout; those of the empty prompt and beyond are kept
            for i, held_by_own in enumerate(held_maps):
                rows[i] = held_by_own(held, rows[i])
            rows[len(held_maps)] = held
            return torch.cat(rows)

        times = len(tokens) + 2
        with model.attention(replace) if kept else nullcontext():
            parts = model.predict(sample.repeat(times, 1, 1, 1), timesteps.repeat(times), states).split(B)
        *concepts, base = (classifier_free_guidance(p, parts[-1], sampler.guidance_scale) for p in parts[:-1])
        blended = outside * base
        for i, concept in enumerate(concepts):
            blended = blended + masks[:, i : i + 1] * concept
        return blended

    yield from walk(sampler.step(), prediction, noise, model.schedule, sampler.pairs())


def draw_blended(
    sampler: ConceptSampler, composition: Composition, names: Sequence[str], on_step: OnStep = silent
) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, image (3, H, W) float32 on the CPU, unclamped) for each name, in order; on_step: at every step."""

    def draw(batch: Sequence[str], on_step: OnStep) -> list[tuple[str, Tensor]]:
        latents = torch.empty(0)
        for state in blend(sampler, composition, batch, on_step):
            latents = state.sample
            on_step(batch[0], len(batch))
        return list(zip(batch, sampler.decode(batch, latents), strict=True))

    return in_batches(names, sampler.batch_size, draw, on_step)


def map_store(sampler: ConceptSampler, composition: Composition, rows: int) -> MapStore:
    """An empty store for the layout's walk of `rows` pictures: it keeps only what is used."""
    kept = round(composition.hold * len(sampler.pairs()))
    found = composition.boxes is None
    places = [_word_places(sampler, composition, token) for token in composition.tokens] if found else []
    return MapStore(rows, places, kept, sampler.model.dtype)


def fit_batch(sampler: ConceptSampler, composition: Composition) -> Fit:
    """How many pictures to blend at once: as `generate.fit_batch`, for what a picture needs here."""
    model = sampler.model
    if model.device.type != "cuda":  # where a trial would take as long as a step
        return generate.fit_batch(model)
    kept = kept_bytes(sampler, composition)
    with model.attention(lambda name, weights: weights):
        return generate.fit_batch(model, rows=len(composition.tokens) + 2, kept=kept)


@torch.no_grad()
def kept_bytes(sampler: ConceptSampler, composition: Composition) -> int:
    """Bytes of the layout's maps of one picture until the second walk, measured by one call of the network."""
    model, store = sampler.model, map_store(sampler, composition, rows=1)
    if not store.calls:
        return 0
    sample = torch.zeros(1, *model.latent_shape, device=model.device)
    with model.attention(store.keep):
        model.predict(sample, torch.zeros(1, dtype=torch.int64, device=model.device), model.encode_prompts([""]))
    return len(store.calls) * sum(weights.nbytes for weights in store.calls[0].values())


def region_masks(sampler: ConceptSampler, composition: Composition, store: MapStore) -> Tensor:
    """(B or 1, concepts, h, w) of 0 and 1, no pixel in two: the given boxes, or where each word had most attention.

    A pixel belongs to the concept whose word it attends to most, if its attention is at least 0.3 of the word's
    strongest pixel, after smoothing.
    """
    _, side, _ = sampler.model.latent_shape
    tokens = composition.tokens
    if composition.boxes is not None:
        masks = torch.zeros(1, len(tokens), side, side)
        for i, token in enumerate(tokens):
            left, top, right, bottom = (round(edge * side) for edge in composition.boxes[token])
            masks[:, i, top:bottom, left:right] = 1
        return masks * (masks.cumsum(1) == 1)  # overlapping boxes: the first one's
    maps = store.word_maps(side)
    maps = F.avg_pool2d(F.pad(maps, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    maps = (maps - low) / (high - low).clamp(min=1e-8)
    strongest = F.one_hot(maps.argmax(1), len(tokens)).permute(0, 3, 1, 2)
    return (strongest * (maps >= 0.3)).float()


def check_boxes(sampler: ConceptSampler, composition: Composition) -> None:
    """Raises InputError if a given box is too small for the latents' grid, or covered by those before it."""
    if composition.boxes is None:
        return
    masks = region_masks(sampler, composition, MapStore(rows=1))[0]
    side = masks.shape[-1]
    for token, mask in zip(composition.tokens, masks, strict=True):
        if not mask.any():
            raise InputError(
                f"the box of {token} has none of the picture's {side}x{side} cells for itself; make it larger, or move "
                "it away from the others"
            )


def pieces(sampler: ConceptSampler, text: str) -> list[int]:
    """Token ids of a text, without start and end."""
    return list(sampler.model.tokenizer(sampler.model._expanded(text), add_special_tokens=False).input_ids)


def _word_places(sampler: ConceptSampler, composition: Composition, token: str) -> list[int]:
    """Places of the word that replaces `token` in the layout's prompt; place 0 is the start of the text."""
    before = composition.prompt.split(token)[0]
    for other, word in composition.words.items():
        before = before.replace(other, word)
    first = 1 + len(pieces(sampler, before))
    return list(range(first, first + len(pieces(sampler, composition.words[token]))))


def _held_maps(sampler: ConceptSampler, composition: Composition, token: str) -> Callable[[Tensor, Tensor], Tensor]:
    """(layout's map, own map) -> the map that `token`'s own prompt is drawn with; all (rows, heads, pixels, places).

    The layout is preserved: the attention of the layout's words goes to the token in their places. It is divided among
    the token's vectors in the same proportions as in its own map.
    """
    vectors, length = len(pieces(sampler, token)), sampler.model.tokenizer.model_max_length
    order: list[int] = []  # for each place of the own prompt, the layout's
    pairs: list[tuple[slice, slice]] = []
    end = 0
    for word in (_word_places(sampler, composition, other) for other in composition.tokens):
        order += range(end, word[0])
        pairs.append((slice(word[0], word[-1] + 1), slice(len(order), len(order) + vectors)))
        order += [word[0]] * vectors
        end = word[-1] + 1
    order = ([*order, *range(end, length)] + [length - 1] * length)[:length]
    places = torch.tensor(order, device=sampler.model.device)

    def held(layout: Tensor, weights: Tensor) -> Tensor:
        found = layout[..., places]
        for word, own in pairs:
            given, shares = layout[..., word].sum(-1, keepdim=True), weights[..., own]
            found[..., own] = given * shares / shares.sum(-1, keepdim=True).clamp(min=1e-8)
        return found

    return held
