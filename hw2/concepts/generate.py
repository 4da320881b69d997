"""Prompts in, pictures out: guided sampling in latent space, one generator for each image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hw2.concepts.stable_diffusion import StableDiffusion
from hw2.devices import estimate
from hw2.devices.memory import free_memory, in_batches, is_out_of_memory
from hw2.diffusion.samplers import (
    Network,
    Step,
    StepOutput,
    classifier_free_guidance,
    randn,
    walk,
)
from hw2.diffusion.schedule import timestep_pairs
from hw2.diffusion.seeding import image_generators
from hw2.diffusion.table import SAMPLERS, latent_steps
from hw2.errors import InputError
from hw2.progress import OnStep, silent

PER_PROMPT = 25
"""Images of each prompt (slides p37)."""


def official_names(prompts: Mapping[str, Sequence[str]], per_prompt: int = PER_PROMPT) -> dict[str, str]:
    """File name -> prompt, for concept -> prompts: "0/1/source0_prompt1_24.png" (slides p37)."""
    return {
        f"{concept}/{index}/source{concept}_prompt{index}_{i}.png": prompt
        for concept, of_concept in prompts.items()
        for index, prompt in enumerate(of_concept)
        for i in range(per_prompt)
    }


@dataclass(frozen=True)
class ConceptSampler:
    """Draws pictures by name and prompt.

    sampler: a name in `SAMPLERS` that is offered for latents. batch_size changes speed and memory, never the pictures;
    see `StableDiffusion.predict`.
    """

    model: StableDiffusion
    sampler: str = "dpm++"
    num_inference_steps: int = latent_steps()["dpm++"]
    guidance_scale: float = 7.5
    seed: int = 0
    batch_size: int = 5

    def pairs(self) -> list[tuple[int, int]]:
        """(timestep, prev_timestep) of every step. Raises ValueError for a number of steps that cannot be used."""
        spacing = SAMPLERS[self.sampler].latent_spacing
        return timestep_pairs(spacing, self.num_inference_steps, self.model.schedule.num_train_timesteps)

    def step(self) -> Step:
        """A fresh step of the sampler, for one walk."""
        return SAMPLERS[self.sampler].step(self.model.prediction_type)

    def noise(self, names: Sequence[str]) -> Tensor:
        """The noise that these images start from, (B, 4, h, w) on the model's device."""
        generators = image_generators(self.seed, (name.removesuffix(".png") for name in names))
        return randn((len(names), *self.model.latent_shape), generators, device=self.model.device)

    def guided(self, states: Tensor) -> Network:
        """The model's prediction for encoder_hidden_states (B, 77, D), guided away from the empty prompt."""
        empty = self.model.encode_prompts([""]).expand(len(states), -1, -1)

        def prediction(sample: Tensor, timesteps: Tensor) -> Tensor:
            if self.guidance_scale == 1:
                return self.model.predict(sample, timesteps, states)
            both = self.model.predict(sample.repeat(2, 1, 1, 1), timesteps.repeat(2), torch.cat([states, empty]))
            conditional, unconditional = both.chunk(2)
            return classifier_free_guidance(conditional, unconditional, self.guidance_scale)

        return prediction

    def states(self, names: Sequence[str], prompts: Sequence[str]) -> Iterator[StepOutput]:
        """The walk of one batch from noise to latents."""
        network = self.guided(self.model.encode_prompts(prompts))
        return walk(self.step(), network, self.noise(names), self.model.schedule, self.pairs())

    def sample(self, names: Mapping[str, str], on_step: OnStep = silent) -> Iterator[tuple[str, Tensor]]:
        """Yield (name, image) for name -> prompt, in order; an image is (3, H, W) float32 on the CPU, unclamped.

        Raises InputError as `decode` does.
        """

        def draw(batch: Sequence[str], on_step: OnStep) -> list[tuple[str, Tensor]]:
            latents = torch.empty(0)
            for state in self.states(batch, [names[name] for name in batch]):
                latents = state.sample
                on_step(batch[0], len(batch))
            return list(zip(batch, self.decode(batch, latents), strict=True))

        return in_batches(list(names), self.batch_size, draw, on_step)

    def pixels(self, names: Mapping[str, str], on_step: OnStep = silent) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
        """As `sample`, with each image as pixels (H, W, 3)."""
        return ((name, image_to_u8(image)) for name, image in self.sample(names, on_step))

    def decode(self, names: Sequence[str], latents: Tensor) -> Tensor:
        """The images (B, 3, H, W) of latents, on the CPU. Raises InputError if the arithmetic has overflowed."""
        images = self.model.decode(latents).cpu()
        if not bool(images.isfinite().all()):
            exact = self.model.dtype == torch.float32
            remedy, parameter = ("a smaller guidance scale", "guidance_scale") if exact else ("float32", "dtype")
            raise InputError(f"{names[0]} and others came out as NaN or infinity; use {remedy}", parameter)
        return images


def announce(sampler: ConceptSampler, images: int) -> None:
    """Say how long `images` pictures take at least, if that is long."""
    each, decoding = sampler.model.operations()
    rows = 1 if sampler.guidance_scale == 1 else 2
    total = images * (rows * sampler.num_inference_steps * each + decoding)
    estimate.announce(f"{images} pictures", total, sampler.model.device, sampler.model.dtype)


class Fit(NamedTuple):
    """How many images to draw at once, and the bytes that they need in all on a GPU."""

    images: int
    needed: int


@torch.no_grad()
def fit_batch(model: StableDiffusion, rows: int = 2, kept: int = 0) -> Fit:
    """How many images to draw at once, at most a prompt's 25: on a GPU as many as its memory holds, on a CPU as many as
    take the room of 5 of Stable Diffusion's (64x64 latents).

    A step of one and of two images is tried. The difference is the estimate of what each image needs. It is compared
    with the whole memory of the GPU, not with what is free, so that the same GPU draws the same batches each time.
    rows: rows of the network's batch for each image; 2 if the prediction is guided. kept: bytes that are kept besides
    for each image.
    """
    if model.device.type != "cuda":
        _, height, width = model.latent_shape
        return Fit(max(1, min(PER_PROMPT, 5 * 64 * 64 // (height * width))), 0)
    states = model.encode_prompts([""])

    def peak(images: int) -> int:
        B = rows * images
        torch.cuda.reset_peak_memory_stats(model.device)
        sample = torch.zeros(B, *model.latent_shape, device=model.device)
        timesteps = torch.zeros(B, dtype=torch.int64, device=model.device)
        model.predict(sample, timesteps, states.expand(B, -1, -1))
        return torch.cuda.max_memory_allocated(model.device)

    _, total = torch.cuda.mem_get_info(model.device)
    peak(1)  # what the first call sets up is not to be measured
    one = peak(1)
    try:
        each = max(peak(2) - one, 1) + kept
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return Fit(1, one + kept)
    finally:
        free_memory()
    images = max(1, min(PER_PROMPT, int((0.8 * total - one - kept) / each) + 1))
    return Fit(images, one + kept + (images - 1) * each)


def image_to_u8(image_pm1: Tensor) -> npt.NDArray[np.uint8]:
    """An image (3, H, W) in [-1, 1], clamped to it, as pixels (H, W, 3)."""
    scaled = (image_pm1.clamp(-1, 1) + 1) * 127.5
    image_u8: npt.NDArray[np.uint8] = scaled.round().permute(1, 2, 0).to(torch.uint8).numpy()
    return image_u8
