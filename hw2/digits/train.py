"""The training of the digit model: what a step trains on, its loss, and the recipes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from hw2.devices.choose import start_accelerator
from hw2.diffusion.schedule import NoiseSchedule, PredictionType
from hw2.digits.augment import augment_house_numbers
from hw2.digits.checkpoint import BetaSchedule, DigitModel, noise_schedule, save_digit_model
from hw2.digits.data import DigitImages
from hw2.digits.house_numbers import LOOKS, draw_house_numbers
from hw2.digits.network import DATASETS, NULL_DATASET, NULL_DIGIT, NUM_DIGITS, DigitUNet, DigitUNetConfig
from hw2.errors import InputError
from hw2.files.training_run import TrainingRun
from hw2.training import KEYS, Recipe, Schedule, Training, autocast, supported
from hw2.training import Progress as NetworkProgress

SVHN = DATASETS.index("svhn")


@dataclass(frozen=True)
class TrainConfig(Recipe):
    """A recipe for the digit model; see `Recipe` for what all recipes have.

    min_snr_gamma: weight of each timestep as in Hang et al. 2023, arXiv 2303.09556; None for plain MSE.
    digit_dropout, dataset_dropout: how often each label is replaced by its null label, independently.
    balanced: draw data sets and digits equally often; otherwise every image is equally likely.
    house_numbers: how many to draw as further SVHN images. house_number_look: see `LOOKS`. drawn_share: how many of the
    SVHN images are drawn ones, when balanced.
    augment_svhn: see `augment`.
    Raises ValueError for numbers that no training can use.
    """

    prediction_type: PredictionType = "v_prediction"
    beta_schedule: BetaSchedule = "cosine"
    min_snr_gamma: float | None = None
    digit_dropout: float = 0.1
    dataset_dropout: float = 0.1
    balanced: bool = True
    house_numbers: int = 0
    house_number_look: Literal["plain", "wide"] = "plain"
    drawn_share: float = 0.5
    augment_svhn: bool = False
    network: DigitUNetConfig = field(default_factory=DigitUNetConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_snr_gamma is not None and not self.min_snr_gamma > 0:
            raise ValueError(f"min_snr_gamma must be positive, got {self.min_snr_gamma}")
        if self.house_numbers != 0 and self.house_numbers < NUM_DIGITS:
            raise ValueError(f"house_numbers must be 0, or one of each digit: 10 or more, got {self.house_numbers}")

    def schedule(self) -> NoiseSchedule:
        """The noise schedule that the network is trained on."""
        return noise_schedule(self.beta_schedule)


@dataclass(frozen=True)
class Batch:
    """What one step trains on: images_pm1 and noise (B, 3, 28, 28), timesteps, digits and datasets (B,)."""

    images_pm1: Tensor
    noise: Tensor
    timesteps: Tensor
    digits: Tensor
    datasets: Tensor

    def part(self, part: slice) -> Batch:
        """These images of the batch."""
        return Batch(*(getattr(self, f.name)[part] for f in dataclasses.fields(self)))


class BatchSource:
    """The training images on one device, and the batch of every step."""

    def __init__(self, data: DigitImages, config: TrainConfig, device: torch.device | str) -> None:
        self._config, self._device = config, device
        self._num_train_timesteps = config.schedule().num_train_timesteps
        source = data.datasets.clone()
        if config.house_numbers:
            images, digits = draw_house_numbers(config.house_numbers, config.seed, LOOKS[config.house_number_look])
            labels = torch.from_numpy(digits)
            drawn = DigitImages(
                torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels, torch.full_like(labels, SVHN)
            )
            data = DigitImages.concatenate([data, drawn])
            source = torch.cat([source, torch.full_like(labels, len(DATASETS))])
        # Images of one (source, digit) are next to each other, so that two numbers pick one.
        cell = source * NUM_DIGITS + data.digits
        self._counts = torch.bincount(cell, minlength=(len(DATASETS) + 1) * NUM_DIGITS).to(device)
        empty = (self._counts[: len(DATASETS) * NUM_DIGITS] == 0).nonzero().flatten().tolist()
        if config.balanced and empty:
            missing = f"{empty[0] % NUM_DIGITS} in {DATASETS[empty[0] // NUM_DIGITS]}"
            raise InputError(f"the training data has no {missing}; expected every digit in both data sets")
        order = cell.argsort(stable=True)
        self._data = DigitImages(data.images_u8[order], data.digits[order], data.datasets[order]).to(device)
        self._starts = self._counts.cumsum(0) - self._counts

    def batch(self, step: int) -> Batch:
        """The batch of one step; a function of (seed, step)."""
        config, device, B = self._config, self._device, self._config.batch_size
        generator = _step_generator(config.seed, step, device)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=device)

        if config.balanced:
            digits = torch.randint(NUM_DIGITS, (B,), generator=generator, device=device)
            source = torch.randint(2, (B,), generator=generator, device=device)
            drawn = (source == SVHN) & (uniform(B) < config.drawn_share) & bool(config.house_numbers)
            cell = (source + drawn) * NUM_DIGITS + digits
            index = self._starts[cell] + (uniform(B) * self._counts[cell]).long()
        else:
            index = torch.randint(len(self._data), (B,), generator=generator, device=device)
        images_01 = self._data.images_u8[index].float() / 255
        digits, datasets = self._data.digits[index], self._data.datasets[index]
        if config.augment_svhn:
            augmented = augment_house_numbers(images_01, generator)
            images_01 = torch.where((datasets == SVHN)[:, None, None, None], augmented, images_01)
        # One timestep from each of B equal parts of the schedule: less noise in the loss (Kingma et al. 2021,
        # arXiv 2107.00630, appendix I.1).
        parts = torch.randperm(B, generator=generator, device=device)
        timesteps = ((parts + uniform(B)) / B * self._num_train_timesteps).long()
        return Batch(
            images_pm1=images_01 * 2 - 1,
            noise=torch.randn(images_01.shape, generator=generator, device=device),
            timesteps=timesteps.clamp(max=self._num_train_timesteps - 1),
            digits=digits.masked_fill(uniform(B) < config.digit_dropout, NULL_DIGIT),
            datasets=datasets.masked_fill(uniform(B) < config.dataset_dropout, NULL_DATASET),
        )


def _step_generator(seed: int, step: int, device: torch.device | str) -> torch.Generator:
    digest = hashlib.sha256(f"digits {seed} step {step}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big", signed=True))


def diffusion_loss(network: torch.nn.Module, batch: Batch, schedule: NoiseSchedule, config: TrainConfig) -> Tensor:
    """Mean over the batch of the weighted squared error of epsilon or v (DDPM equation 14)."""
    noisy = schedule.add_noise(batch.images_pm1, batch.noise, batch.timesteps)
    with autocast(config, noisy.device):
        output = network(noisy, batch.timesteps, batch.digits, batch.datasets).float()
    abar = schedule.alphas_cumprod.to(batch.timesteps.device)[batch.timesteps].float()
    target = batch.noise
    if config.prediction_type == "v_prediction":
        signal, sigma = abar.sqrt()[:, None, None, None], (1 - abar).sqrt()[:, None, None, None]
        target = signal * batch.noise - sigma * batch.images_pm1
    loss = F.mse_loss(output, target, reduction="none").mean(dim=(1, 2, 3))  # (B,)
    if config.min_snr_gamma is not None:
        loss = loss * min_snr_weight(abar, config.min_snr_gamma, config.prediction_type)
    return loss.mean()


def min_snr_weight(abar: Tensor, gamma: float, prediction_type: PredictionType) -> Tensor:
    """min(SNR, gamma) in units of the clean image's error, for an error of epsilon or v (arXiv 2303.09556, 3.4)."""
    snr = abar / (1 - abar)
    return snr.clamp(max=gamma) / (snr if prediction_type == "epsilon" else snr + 1)


def preset(name: str, images: int) -> TrainConfig:
    """A recipe by name; images: how many the training set has. Raises ValueError for an unknown name.

    "default": ours, for the homework's full data on one GPU. "report": the recipe of the report that this project
    started from. "bundled": the bundled model's, for two CPU cores and few images; house numbers are drawn besides.
    """
    if name == "default":
        return TrainConfig()
    if name == "report":
        batch_size = 64
        return TrainConfig(
            num_steps=1000 * -(-images // batch_size),
            batch_size=batch_size,
            learning_rate=1e-3,
            warmup_steps=0,
            decay_fraction=0.0,
            prediction_type="epsilon",
            beta_schedule="linear",
            balanced=False,
        )
    if name == "bundled":
        return TrainConfig(
            num_steps=8000,
            batch_size=128,
            learning_rate=1.5e-3,
            warmup_steps=300,
            house_numbers=10_000,
            augment_svhn=True,
        )
    raise ValueError(f"preset must be one of default, report, bundled, got {name!r}")


@dataclass(frozen=True)
class Progress(NetworkProgress[DigitUNet]):
    """What a run reports to `watch`.

    source: the images that it is trained on. model: makes a model with the averaged weights.
    """

    source: BatchSource
    model: Callable[[], DigitModel]


def train_digits(
    data: DigitImages,
    config: TrainConfig,
    output: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    compile_network: bool | None = None,
    deterministic: bool = False,
    accumulation: int = 1,
    save_every: int = 500,
    report_every: int = 50,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Tensor:
    """Train, and write `output/model.safetensors` (the averaged weights). Returns the losses (num_steps,) float32.

    device: as for `start_processes`. `output/checkpoint.pt` and the model are written every save_every steps; for the
    other options see `Schedule`. watch: called every report_every steps.
    Raises InputError if the data has no image of some digit, if output holds a run that was not asked to be resumed,
    or one to resume that had another recipe or other data.
    """
    accelerator = start_accelerator(device)
    config = supported(config, accelerator.device)
    source = BatchSource(data, config, accelerator.device)
    run = TrainingRun(output / "checkpoint.pt", "hw2 digits train", KEYS, config, {"data": digest(data)})
    options = Schedule(resume, save_every, report_every, compile_network, deterministic, accumulation)
    training = Training(lambda: DigitUNet(config.network), config, run, accelerator, options)
    schedule = config.schedule()

    batch_of = lru_cache(maxsize=1)(source.batch)  # of a step with several parts

    def loss_of(network: torch.nn.Module, step: int, part: slice) -> Tensor:
        return diffusion_loss(network, batch_of(step).part(part), schedule, config)

    def model(network: DigitUNet) -> DigitModel:
        return DigitModel(network, config.prediction_type, config.beta_schedule)

    return training.train(
        loss_of,
        lambda network: save_digit_model(model(network), output / "model.safetensors"),
        lambda progress: watch(with_source(progress, source, model)),
    )


def with_source(
    progress: NetworkProgress[DigitUNet], source: BatchSource, model: Callable[[DigitUNet], DigitModel]
) -> Progress:
    """The report of a training on these images. model: says what the network's output means."""
    return Progress(**vars(progress), source=source, model=lambda: model(progress.network()))


def digest(data: DigitImages) -> str:
    """SHA-256 of digits and their labels, by which a resumed run knows its data."""
    sha256 = hashlib.sha256(repr(data.digits.tolist()).encode())
    sha256.update(data.images_u8.numpy().tobytes())
    return sha256.hexdigest()
