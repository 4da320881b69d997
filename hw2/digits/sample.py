"""Labels in, digits out: guided sampling. An image depends on (weights, seed, its own name) alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hw2.devices.arithmetic import exact
from hw2.devices.memory import in_batches
from hw2.diffusion.samplers import (
    Network,
    StepOutput,
    classifier_free_guidance,
    randn,
    walk,
)
from hw2.diffusion.schedule import timestep_pairs
from hw2.diffusion.seeding import image_generators
from hw2.diffusion.table import SAMPLERS
from hw2.digits.checkpoint import DigitModel
from hw2.digits.network import DATASETS, IMAGE_CHANNELS, IMAGE_SIZE, NULL_DIGIT, NUM_DIGITS
from hw2.digits.recognizer import Recognizer
from hw2.errors import InputError
from hw2.progress import OnStep, silent

SHAPE = (IMAGE_CHANNELS, IMAGE_SIZE, IMAGE_SIZE)
GUIDANCE_SCALE = 4.0
"""The default, chosen with 6 steps of dpm++ by `fixtures.making.digit_study`: docs/performance.md has the figures."""

READ = 0.6
"""A digit is recognized from this probability on; docs/performance.md says how it was chosen."""

TRIES = 8
"""Drawings of a digit that a recognizer chooses from at most."""

FEWEST = 4
"""Batches of this many rows or more round an image the same (2 were enough, on one thread and on two), because of
`Pointwise`."""


def official_names(per_digit: int = 50) -> list[str]:
    """Every file of the homework: "mnistm/0_001.png" .. "svhn/9_050.png" for 50 a digit (slides p35)."""
    numbers = range(1, per_digit + 1)
    return [f"{dataset}/{digit}_{i:03d}.png" for dataset in DATASETS for digit in range(NUM_DIGITS) for i in numbers]


def labels_of(names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(digits (B,), datasets (B,)) of names such as "svhn/7_042.png"."""
    pairs = [name.split("/") for name in names]
    digits = torch.tensor([int(file[0]) for _, file in pairs])
    return digits, torch.tensor([DATASETS.index(dataset) for dataset, _ in pairs])


def guided(
    model: DigitModel,
    digits: Tensor,
    datasets: Tensor,
    guidance_scale: float,
    guidance_interval: tuple[int, int] = (0, 1000),
) -> Network:
    """The model's prediction for these labels as a function of (sample, timesteps), with classifier-free guidance.

    Guidance leads away from "any digit of this data set". The data set is given on both sides, so that guidance makes
    the digit clearer and keeps the look of the data set. Both passes share one batch. Only timesteps low <= t < high of
    guidance_interval = (low, high) are guided (Kynkäänniemi et al. 2024, arXiv 2404.07724); at the others, and at
    guidance_scale 1, the conditional pass runs alone.
    On a CPU an image is the same bit for bit in every batch: PyTorch's libraries choose other algorithms for small
    batches, so these are filled up to FEWEST rows. On a GPU images agree to float32 rounding.
    """
    network = model.network
    dtype = network.stem.weight.dtype
    low, high = guidance_interval

    def prediction(sample: Tensor, timesteps: Tensor) -> Tensor:
        B = len(sample)
        first = timesteps[:1]
        guide = guidance_scale != 1 and low <= int(first) < high
        asked = torch.cat([digits, torch.full_like(digits, NULL_DIGIT)]) if guide else digits
        row = torch.arange(max(len(asked), FEWEST), device=asked.device) % len(asked)
        with exact():
            output: Tensor = network(sample.to(dtype)[row % B], first, asked[row], datasets[row % B]).float()
        return classifier_free_guidance(output[:B], output[B : 2 * B], guidance_scale) if guide else output[:B]

    return prediction


class DigitSampler:
    """Draws digits by name.

    sampler: a name in `SAMPLERS`, over num_inference_steps timesteps that start at pure noise and end at the clean
    image, the predicted image clamped to [-1, 1] at each. None: dpm++, the sampler's own number of steps,
    GUIDANCE_SCALE at all timesteps; for a distilled model what it was distilled for. recognizer: a digit to which it
    gives less than the probability READ is drawn again, from another noise of its own, and the best of at most TRIES is
    kept; with that, little guidance is enough, and digits vary more. batch_size changes speed and memory, never the
    images.
    Raises InputError if a distilled model is to be drawn with in another way.
    """

    def __init__(
        self,
        model: DigitModel,
        sampler: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_interval: tuple[int, int] | None = None,
        seed: int = 0,
        batch_size: int = 100,
        device: str = "cpu",
        recognizer: Recognizer | None = None,
    ) -> None:
        self.recognizer = recognizer
        self.model, self.seed, self.batch_size, self.device = model, seed, batch_size, device
        asked = {
            "sampler": sampler,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "guidance_interval": guidance_interval,
        }
        if model.distilled:
            _check_distilled(asked, len(model.distilled.timesteps))
            sampler, num_inference_steps, guidance_scale = "ddim", len(model.distilled.timesteps), 1.0
        self.sampler = sampler or "dpm++"
        steps = SAMPLERS[self.sampler].pixel_steps
        self.num_inference_steps = steps if num_inference_steps is None else num_inference_steps
        self.guidance_scale = GUIDANCE_SCALE if guidance_scale is None else guidance_scale
        self.guidance_interval = guidance_interval or (0, 1000)

    def noise(self, names: Sequence[str]) -> Tensor:
        """The noise that these digits start from, (B, 3, 28, 28) on the CPU."""
        return randn((len(names), *SHAPE), self._generators(names))

    def states(self, names: Sequence[str], again: int = 0) -> Iterator[StepOutput]:
        """The walk of one batch from noise to images, samples (B, 3, 28, 28).

        again: 0 for the first drawing of these digits; each further number has noise of its own.
        """
        generators = self._generators(names, again)
        sample = randn((len(names), *SHAPE), generators, device=self.device)
        digits, datasets = (labels.to(self.device) for labels in labels_of(names))
        network = guided(self.model, digits, datasets, self.guidance_scale, self.guidance_interval)
        step = SAMPLERS[self.sampler].step(self.model.prediction_type, 1.0, generators)
        schedule = self.model.schedule
        distilled = self.model.distilled
        pairs = distilled.pairs if distilled else timestep_pairs("trailing", self.num_inference_steps)
        return walk(step, network, sample, schedule, pairs)

    def _generators(self, names: Sequence[str], again: int = 0) -> list[torch.Generator]:
        suffix = f"/{again}" if again else ""
        return image_generators(self.seed, (name.removesuffix(".png") + suffix for name in names))

    def sample(self, names: Sequence[str], on_step: OnStep = silent) -> Iterator[tuple[str, Tensor]]:
        """Yield (name, digit) for each name, in order; with a recognizer, those that are drawn again come last.

        A digit is (3, 28, 28) float32 on the CPU, unclamped. on_step counts first drawings alone.
        Raises InputError if the network's arithmetic overflows.
        """
        best: dict[str, tuple[float, Tensor]] = {}
        for again in range(TRIES):
            draw, unread = partial(self._batch, again), []
            for name, digit, probability in in_batches(names, self.batch_size, draw, silent if again else on_step):
                if probability >= READ:
                    yield name, digit
                    continue
                unread.append(name)
                best[name] = max(best.get(name, (-1.0, digit)), (probability, digit), key=itemgetter(0))
            names = unread
        yield from ((name, best[name][1]) for name in names)

    def _batch(self, again: int, names: Sequence[str], on_step: OnStep) -> list[tuple[str, Tensor, float]]:
        """(name, digit, probability that it is recognized), which is 1 without a recognizer."""
        sample = torch.empty(0)
        for state in self.states(names, again):
            sample = state.sample
            on_step(f"{names[0]} ..", len(names))
        if not bool(sample.isfinite().all()):
            raise InputError(f"{names[0]} and others came out as NaN or infinity; use float32", "dtype")
        probabilities = torch.ones(len(names))
        if self.recognizer is not None:
            probabilities = self.recognizer.probabilities(sample, labels_of(names)[0].to(self.device))
        return list(zip(names, sample.cpu(), probabilities.tolist(), strict=True))

    def pixels(self, names: Sequence[str], on_step: OnStep = silent) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
        """As `sample`, with each digit as pixels (28, 28, 3)."""
        return ((name, digit_to_u8(digit)) for name, digit in self.sample(names, on_step))


def _check_distilled(asked: Mapping[str, object], steps: int) -> None:
    """Raises InputError if something else is asked for than a model that was distilled for so many steps can do."""
    own = {"sampler": "ddim", "num_inference_steps": steps, "guidance_scale": 1, "guidance_interval": (0, 1000)}
    for name, value in asked.items():
        if value is not None and value != own[name]:
            raise InputError(
                f"this model is distilled for {steps} steps of ddim with guidance inside, and {name} is {value}; use "
                "its own settings, or the model that it was distilled from",
                "checkpoint",
            )


def digit_to_u8(digit_pm1: Tensor) -> npt.NDArray[np.uint8]:
    """A digit (3, 28, 28) in [-1, 1], clamped to it, as pixels (28, 28, 3)."""
    scaled = (digit_pm1.clamp(-1, 1) + 1) * 127.5
    digit_u8: npt.NDArray[np.uint8] = scaled.round().permute(1, 2, 0).to(torch.uint8).numpy()
    return digit_u8
