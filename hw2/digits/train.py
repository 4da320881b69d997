"""Training: every step is a function of (seed, its number), so it can stop anywhere and go on to the same weights.

All random numbers of a step are drawn for the whole batch by every process, which then works on its share: the loss
curve does not depend on how many processes there are, but for the rounding of sums.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F

from hw2.diffusion.samplers import PredictionType
from hw2.diffusion.schedule import NoiseSchedule
from hw2.digits.augment import augment_house_numbers
from hw2.digits.checkpoint import BetaSchedule, DigitModel, noise_schedule, save_digit_model
from hw2.digits.data import DigitImages
from hw2.digits.house_numbers import draw_house_numbers
from hw2.digits.network import DATASETS, NULL_DATASET, NULL_DIGIT, NUM_DIGITS, DigitUNet, DigitUNetConfig
from hw2.errors import InputError
from hw2.files.training_run import TrainingRun
from hw2.progress import progress_bar

SVHN = DATASETS.index("svhn")


@dataclass(frozen=True)
class TrainConfig:
    """A recipe.

    num_steps, batch_size: of the whole batch, over all processes. learning_rate: of AdamW, reached after warmup_steps,
    held, and brought down to zero in a straight line over the last decay_fraction of the steps (so that a longer run
    repeats the first steps of a shorter one). ema_decay: of the averaged weights that are kept in the end.
    min_snr_gamma: weight of each timestep as in Hang et al. 2023, arXiv 2303.09556; None for plain MSE.
    digit_dropout, dataset_dropout: how often each label is replaced by its null label, independently.
    balanced: draw data sets and digits equally often; otherwise every image is.
    house_numbers: how many to draw as further SVHN images; when balanced, every second SVHN image is a drawn one.
    augment_svhn: see `augment`. mixed_precision: of the network's arithmetic, weights stay float32.
    Raises ValueError for numbers that no training can use.
    """

    num_steps: int = 40_000
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 500
    decay_fraction: float = 0.25
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    prediction_type: PredictionType = "v_prediction"
    beta_schedule: BetaSchedule = "cosine"
    min_snr_gamma: float | None = None
    digit_dropout: float = 0.1
    dataset_dropout: float = 0.1
    balanced: bool = True
    house_numbers: int = 0
    augment_svhn: bool = False
    mixed_precision: Literal["no", "bf16"] = "bf16"
    seed: int = 0
    network: DigitUNetConfig = field(default_factory=DigitUNetConfig)

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be a positive number, got {self.learning_rate}")
        if self.min_snr_gamma is not None and not self.min_snr_gamma > 0:
            raise ValueError(f"min_snr_gamma must be positive, got {self.min_snr_gamma}")
        if self.house_numbers != 0 and self.house_numbers < NUM_DIGITS:
            raise ValueError(f"house_numbers must be 0, or one of each digit: 10 or more, got {self.house_numbers}")

    def schedule(self) -> NoiseSchedule:
        """The noise schedule that the network learns."""
        return noise_schedule(self.beta_schedule)


@dataclass(frozen=True)
class Batch:
    """What one step trains on: images_pm1 and noise (B, 3, 28, 28), timesteps, digits and datasets (B,)."""

    images_pm1: Tensor
    noise: Tensor
    timesteps: Tensor
    digits: Tensor
    datasets: Tensor

    def share(self, rank: int, processes: int) -> Batch:
        """Every processes-th image from rank on."""
        return Batch(*(getattr(self, f.name)[rank::processes] for f in dataclasses.fields(self)))


class BatchSource:
    """The training images on one device, and the batch of every step."""

    def __init__(self, data: DigitImages, config: TrainConfig, device: torch.device | str) -> None:
        self._config, self._device = config, device
        self._num_train_timesteps = config.schedule().num_train_timesteps
        source = data.datasets.clone()
        if config.house_numbers:
            images, digits = draw_house_numbers(config.house_numbers, config.seed)
            labels = torch.from_numpy(digits)
            drawn = DigitImages(
                torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels, torch.full_like(labels, SVHN)
            )
            data = DigitImages.concatenate([data, drawn])
            source = torch.cat([source, torch.full_like(labels, len(DATASETS))])
        # Images of one (source, digit) lie next to each other, so that one can be picked by two numbers.
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
            drawn = (source == SVHN) & (uniform(B) < 0.5) & bool(config.house_numbers)
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
    with torch.autocast(noisy.device.type, torch.bfloat16, enabled=config.mixed_precision == "bf16"):
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


def learning_rate_factor(step: int, config: TrainConfig) -> float:
    """Share of the learning rate at a step: up, level, down."""
    left = (config.num_steps - step) / max(1, config.decay_fraction * config.num_steps)
    return min(1.0, (step + 1) / max(1, config.warmup_steps), left)


def preset(name: str, images: int) -> TrainConfig:
    """A recipe by name, for a training set of so many images. Raises ValueError for an unknown name.

    "default": ours, for the homework's full data on one GPU. "report": the recipe of the report that this project
    started from. "bundled": what made the shipped model, for two CPU cores and so few images that house numbers are
    drawn besides.
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
class Progress:
    """What a training run tells whoever watches it, every few steps.

    step: how many are done. loss: mean since the last report. model: the averaged weights, on the training's device,
    not to be kept. source: what it learns from.
    """

    step: int
    loss: float
    gradient_norm: float
    learning_rate: float
    images_per_second: float
    model: Callable[[], DigitModel]
    source: BatchSource


def train_digits(
    data: DigitImages,
    config: TrainConfig,
    output: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    compile_network: bool | None = None,
    save_every: int = 500,
    report_every: int = 50,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Tensor:
    """Train, and write `output/model.safetensors` (the averaged weights). Returns the losses (num_steps,) float32.

    device: "cpu", or "auto" for the one that accelerate gives this process. compile_network: None compiles on a GPU
    only; on a CPU it gained nothing. Every save_every steps `output/checkpoint.pt` and the model are written; `resume`
    goes on from there, to the same weights bit for bit on the same machine. watch: called every report_every steps.
    Raises InputError if the data has no image of some digit, if output holds a run that was not asked to be resumed,
    or one to resume that had another recipe or other data.
    """
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")  # its own is one for the whole process
    on_gpu = accelerator.device.type == "cuda"
    if config.batch_size % accelerator.num_processes:
        raise InputError(
            f"--batch-size is {config.batch_size}; expected a multiple of the {accelerator.num_processes} processes"
        )
    source = BatchSource(data, config, accelerator.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = DigitUNet(config.network)
    optimizer = torch.optim.AdamW(
        network.parameters(), config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=True
    )
    if on_gpu:
        network.to(memory_format=torch.channels_last)
    network.to(accelerator.device)
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    losses = torch.zeros(config.num_steps)
    keys = {"network", "optimizer", "ema", "done", "losses"}
    run = TrainingRun(output / "checkpoint.pt", "hw2 digits train", keys, config, {"data": _digest(data)})
    done = 0
    if found := run.load(resume):
        saved, before = found
        _check_recipe(run, before, saved["done"], config)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        for name, value in saved["ema"].items():
            average[name].copy_(value)
        done = saved["done"]
        losses[:done] = saved["losses"]
    schedule = config.schedule()
    compiled = torch.compile(network) if (on_gpu if compile_network is None else compile_network) else network
    prepared, optimizer = accelerator.prepare(compiled, optimizer)
    averaged, current = list(average.values()), list(network.state_dict().values())

    def model() -> DigitModel:
        averaged_network = DigitUNet(config.network).to(accelerator.device)
        averaged_network.load_state_dict(average)
        averaged_network.eval().requires_grad_(False)
        return DigitModel(averaged_network, config.prediction_type, config.beta_schedule)

    reported, reported_at = done, time.perf_counter()
    with progress_bar("training", config.num_steps, done, quiet=not accelerator.is_main_process) as advance:
        for step in range(done, config.num_steps):
            learning_rate = config.learning_rate * learning_rate_factor(step, config)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            batch = source.batch(step).share(accelerator.process_index, accelerator.num_processes)
            loss = diffusion_loss(prepared, batch, schedule, config)
            accelerator.backward(loss)
            gradient_norm = accelerator.clip_grad_norm_(prepared.parameters(), config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            decay = min(config.ema_decay, (step + 1) / (step + 10))
            torch._foreach_lerp_(averaged, current, 1 - decay)
            losses[step] = accelerator.reduce(loss.detach(), "mean")
            advance(f"loss {losses[max(0, step - 99) : step + 1].mean():.4f}")
            last = step + 1 == config.num_steps
            if accelerator.is_main_process and ((step + 1) % report_every == 0 or last):
                images = (step + 1 - reported) * config.batch_size
                rate = images / (time.perf_counter() - reported_at)
                mean = float(losses[reported : step + 1].mean())
                watch(Progress(step + 1, mean, float(gradient_norm), learning_rate, rate, model, source))
                reported, reported_at = step + 1, time.perf_counter()
            if accelerator.is_main_process and ((step + 1) % save_every == 0 or last):
                optimizer_state = optimizer.state_dict()
                run.save(
                    network=network.state_dict(),
                    optimizer=optimizer_state,
                    ema=average,
                    done=step + 1,
                    losses=losses[: step + 1].clone(),
                )
                save_digit_model(model(), output / "model.safetensors")
    if accelerator.is_main_process:
        save_digit_model(model(), output / "model.safetensors")
    accelerator.wait_for_everyone()
    return losses


def _check_recipe(run: TrainingRun, before: dict[str, Any], done: int, config: TrainConfig) -> None:
    """Raises InputError if a run's `done` steps were not this recipe's.

    A longer or shorter run has the same first steps, as long as neither has begun to lower its learning rate.
    """
    lengths = {"num_steps", "decay_fraction"}
    changed = sorted(key for key in run.config if key not in lengths and before.get(key) != run.config[key])
    then = dataclasses.replace(config, **{key: before[key] for key in lengths})
    if any(learning_rate_factor(i, then) != learning_rate_factor(i, config) for i in range(done)):
        changed.append("num_steps, whose end has begun")
    if changed or done > config.num_steps:
        raise InputError(
            f"{run.path} was trained by another recipe ({', '.join(changed) or 'more steps'}); "
            "resume with the same options, or use another --output"
        )


def _digest(data: DigitImages) -> str:
    digest = hashlib.sha256(repr(data.digits.tolist()).encode())
    digest.update(data.images_u8.numpy().tobytes())
    return digest.hexdigest()
