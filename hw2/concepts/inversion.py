"""Textual inversion (Gal et al. 2023, arXiv 2208.01618): a new word is trained, and everything else is frozen.

A step is a function of (seed, its number).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from hw2.concepts import templates
from hw2.concepts.recipe import InversionConfig
from hw2.concepts.stable_diffusion import StableDiffusion
from hw2.diffusion.seeding import image_generator
from hw2.errors import InputError
from hw2.files.pictures import image_paths
from hw2.files.small_file import read_json
from hw2.wording import shortened

EXPECTED = "a few images of the concept"
VALIDATION = 16
"""Number of fixed (image, noise, timestep, sentence) tuples of the validation loss."""
PAIRS_OF_EACH = 6
"""Number of pictures of an image beside itself, each of another size."""


def read_captions(path: Path, folder: Path, token: str) -> list[str | None]:
    """For each image of a folder, in order, its sentence in a JSON object, {} replaced by token; None: it has none.

    Raises InputError if it is not an object of image names and sentences, or a sentence has no place for the token.
    """
    expected = 'expected an object of image names and sentences, {"00.jpg": "a tree in the style of {}"}'
    content = read_json(path, expected)
    if not isinstance(content, dict) or not all(isinstance(sentence, str) for sentence in content.values()):
        raise InputError(f"{path} holds no such object; {expected}")
    names = [image.name for image in image_paths(folder, EXPECTED)]
    if unknown := sorted(set(content) - set(names)):
        raise InputError(f"{path} has a sentence for {unknown[0]}, which is not in {folder} ({shortened(names, 5)})")
    filled = {name: sentence.replace("{}", token) for name, sentence in content.items()}
    if without := [name for name, sentence in filled.items() if token not in sentence]:
        raise InputError(f"{path} has {content[without[0]]!r} for {without[0]}; expected {{}} in place of {token}")
    return [filled.get(name) for name in names]


def paired_images(images_pm1: Tensor, cell: int, generator: torch.Generator, mirror: bool) -> tuple[Tensor, Tensor]:
    """(N, 3, H, W) with every image twice, side by side, and the loss weights (N, 1, H / cell, W / cell) of it.

    An image is scaled to between 0.66 and 0.76 of its size, and its middle is half as wide as the picture; both copies
    are at the lower edge. The fill above them has weight 0, the rest equal weights of mean 1 over the picture.
    cell: pixels that make one latent. mirror: the right one is mirrored in half of the pictures.
    """
    H, W = images_pm1.shape[-2:]
    pictures, shares = [], []
    for image in images_pm1:
        size, turned = torch.rand(2, generator=generator).tolist()
        side = round((0.66 + 0.1 * size) * H / cell) * cell
        small = F.interpolate(image[None], size=(side, side), mode="area")
        cut = (side - W // 2) // 2
        left = small[..., cut : cut + W // 2]
        right = left.flip(-1) if mirror and turned < 0.5 else left
        pictures.append(F.pad(torch.cat([left, right], -1), (0, 0, H - side, 0), mode="replicate"))
        share = torch.zeros(1, 1, H // cell, W // cell)
        share[:, :, (H - side) // cell :] = H / side
        shares.append(share)
    return torch.cat(pictures), torch.cat(shares)


class Inversion:
    """The new word's vectors inside a frozen model, and the loss that they are trained with."""

    def __init__(
        self,
        model: StableDiffusion,
        images_pm1: Tensor,
        config: InversionConfig,
        captions: Sequence[str | None] | None = None,
    ) -> None:
        """images_pm1: (N, 3, H, W), as `read_images` gives them. Adds the token to the model.

        captions: for each image a sentence with the token, or None. It is used half of the time; otherwise, and for
        None, a sentence of `templates` is used.
        Raises InputError if the initializer is not one word of the vocabulary, or if the token is a word already.
        """
        self.model, self.config = model, config
        start = _initial_vector(model, config.initializer)
        model.add_words({config.token: start.repeat(config.vectors, 1)})
        first = len(model.words.vectors) - config.vectors
        if first:
            raise ValueError("the model has learned words already; learn one word at a time")
        self.vectors = model.words.vectors.requires_grad_(True)
        self._norm = start.norm()
        sides = [images_pm1, images_pm1.flip(-1)] if config.flip else [images_pm1]
        distributions = [model.latent_distribution(side) for side in sides]  # once: (N, 4, h, w) each
        sentences: Sequence[str] = templates.OBJECT if config.kind == "object" else templates.STYLE
        self._singles = len(sides) * len(images_pm1), len(sentences)
        shares = [torch.ones(self._singles[0], 1, *model.latent_shape[1:])]
        if config.pairs:
            pixels, share = paired_images(
                torch.cat(sides).repeat(PAIRS_OF_EACH, 1, 1, 1),
                model.image_size // model.latent_shape[1],
                image_generator(config.seed, "pairs"),
                config.flip,
            )
            distributions.append(model.latent_distribution(pixels))
            shares.append(share)
            sentences = [*sentences, *templates.PAIR]
        self._mean, self._std = (torch.cat(parts) for parts in zip(*distributions, strict=True))
        self._share = torch.cat(shares).to(model.device)
        texts = [sentence.format(config.token) for sentence in sentences]
        self._general, self._captioned = len(texts), bool(captions)
        own = [-1] * len(images_pm1)  # index of each image's own sentence
        for i, caption in enumerate(captions or ()):
            if caption is not None:
                own[i] = len(texts)
                texts.append(caption)
        self._own = torch.tensor([*own * len(sides), *[-1] * (len(self._mean) - self._singles[0])])
        self._ids = model.tokenize(texts)

    def loss(self, generator: torch.Generator, count: int, part: slice) -> Tensor:
        """Mean squared error of the network's output for `part` of `count` noisy latents drawn from generator."""
        model, T = self.model, self.model.schedule.num_train_timesteps
        images, sentences = self._singles
        index = torch.randint(images, (count,), generator=generator)
        chosen = torch.randint(sentences, (count,), generator=generator)
        if self.config.pairs:
            index[1::2] = torch.randint(images, len(self._mean), (count // 2,), generator=generator)
            chosen[1::2] = torch.randint(sentences, self._general, (count // 2,), generator=generator)
        own = self._own[index]
        if self._captioned:  # half of the time: a word needs general sentences too, or it stays weak
            own[torch.rand(count, generator=generator) < 0.5] = -1
        index, chosen = index[part], torch.where(own < 0, chosen, own)[part]
        order = torch.randperm(count, generator=generator)  # one timestep from each of `count` equal parts
        timesteps = ((order + torch.rand(count, generator=generator)) / count * T).long().clamp(max=T - 1)[part]
        shape = (count, *model.latent_shape)
        spread, noise = (torch.randn(shape, generator=generator)[part].to(model.device) for _ in range(2))
        latents = self._mean[index] + self._std[index] * spread
        timesteps = timesteps.to(model.device)
        noisy = model.schedule.add_noise(latents, noise, timesteps)
        output = model.predict(noisy, timesteps, model.encode_tokens(self._ids[chosen]))
        target = noise
        if model.prediction_type == "v_prediction":
            abar = model.schedule.alphas_cumprod.to(model.device)[timesteps].float().view(-1, 1, 1, 1)
            target = abar.sqrt() * noise - (1 - abar).sqrt() * latents
        return ((output - target).square() * self._share[index]).mean()

    @torch.no_grad()
    def validation_loss(self) -> float:
        """The loss of the same VALIDATION tuples each time: it changes with the vectors alone."""
        generator = image_generator(self.config.seed, "validation")
        return float(self.loss(generator, VALIDATION, slice(None)))

    @torch.no_grad()
    def hold_norm(self) -> None:
        """Scale every vector to its initializer's norm."""
        self.vectors.mul_(self._norm / self.vectors.norm(dim=1, keepdim=True))


def _initial_vector(model: StableDiffusion, word: str) -> Tensor:
    """The embedding (1, D) of one word of the vocabulary."""
    ids = model.tokenizer(word, add_special_tokens=False).input_ids
    if len(ids) != 1:
        pieces = ", ".join(model.tokenizer.convert_ids_to_tokens(ids))
        raise InputError(
            f"the initializer is {word!r}, which the model spells in {len(ids)} pieces ({pieces}); "
            "expected one word that it knows, such as dog or painting",
            "initializer",
        )
    return model.words.weight[ids].float().clone()
