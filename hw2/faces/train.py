"""The training of a face network: noise prediction (DDPM algorithm 1) with mirrored faces and averaged weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from hw2.devices.choose import start_accelerator
from hw2.diffusion.schedule import NoiseSchedule, homework_schedule
from hw2.diffusion.seeding import image_generator
from hw2.faces.checkpoint import save_face_unet
from hw2.faces.network import FaceUNet, FaceUNetConfig
from hw2.files.training_run import TrainingRun
from hw2.training import KEYS, Progress, Recipe, Schedule, Training, autocast, supported


@dataclass(frozen=True)
class FaceTrainConfig(Recipe):
    """A recipe for a face network; see `Recipe` for what all recipes have.

    image_size: height and width of the training images, in pixels. flip: mirror half of the images.
    Raises ValueError for numbers that no training can use.
    """

    image_size: int = 256
    flip: bool = True
    network: FaceUNetConfig = field(default_factory=FaceUNetConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        factor = self.network.downsampling
        if self.image_size < factor or self.image_size % factor:
            raise ValueError(f"image_size must be a multiple of {factor} for this network, got {self.image_size}")


def preset(name: str) -> FaceTrainConfig:
    """A recipe by name. Raises ValueError for an unknown name.

    "official": a network with the official checkpoint's keys, by DDPM's recipe for 256x256 faces (Ho et al. 2020,
    appendix B: Adam, 2e-5, batches of 64, 500,000 steps). "bundled": what made the bundled model, for two CPU cores.
    """
    if name == "official":
        return FaceTrainConfig(
            num_steps=500_000,
            batch_size=64,
            learning_rate=2e-5,
            weight_decay=0.0,
            warmup_steps=5000,
            decay_fraction=0.0,
            ema_decay=0.9999,
        )
    if name == "bundled":
        return FaceTrainConfig(
            num_steps=4000,
            batch_size=32,
            learning_rate=1e-3,
            weight_decay=0.0,
            warmup_steps=100,
            decay_fraction=0.4,
            ema_decay=0.998,
            image_size=32,
            network=FaceUNetConfig(
                channel=32, channel_multipliers=(1, 2, 3), num_res_blocks=2, attention_levels=(2,), num_groups=8
            ),
        )
    raise ValueError(f"preset must be one of official, bundled, got {name!r}")


@dataclass(frozen=True)
class Batch:
    """What one step trains on: images_pm1 and noise (B, 3, H, W), timesteps (B,)."""

    images_pm1: Tensor
    noise: Tensor
    timesteps: Tensor


def draw_batch(faces_pm1: Tensor, config: FaceTrainConfig, schedule: NoiseSchedule, step: int) -> Batch:
    """The batch of one step, on the CPU; a function of (seed, step). faces_pm1: (N, 3, H, W) in [-1, 1]."""
    generator, B = image_generator(config.seed, f"face training step {step}"), config.batch_size
    images = faces_pm1[torch.randint(len(faces_pm1), (B,), generator=generator)]
    mirrored = torch.rand(B, 1, 1, 1, generator=generator) < 0.5
    if config.flip:
        images = torch.where(mirrored, images.flip(-1), images)
    noise = torch.randn(images.shape, generator=generator)
    return Batch(images, noise, torch.randint(schedule.num_train_timesteps, (B,), generator=generator))


def train_faces(
    faces_pm1: Tensor,
    config: FaceTrainConfig,
    output: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    compile_network: bool | None = None,
    deterministic: bool = False,
    accumulation: int = 1,
    save_every: int = 500,
    report_every: int = 50,
    watch: Callable[[Progress[FaceUNet]], None] = lambda progress: None,
) -> Tensor:
    """Train, and write `output/model.safetensors` (the averaged weights). Returns the losses (num_steps,) float32.

    faces_pm1: (N, 3, config.image_size, config.image_size) in [-1, 1]. device: as for `start_processes`.
    `output/checkpoint.pt` and the model are written every save_every steps; for the other options see `Schedule`.
    watch: called every report_every steps.
    Raises InputError if output holds a run that was not asked to be resumed, or one to resume that had another recipe
    or other images; ValueError for faces of another size.
    """
    expected = (len(faces_pm1), 3, config.image_size, config.image_size)
    if len(faces_pm1) == 0 or tuple(faces_pm1.shape) != expected:
        raise ValueError(
            f"faces must be (N, 3, {config.image_size}, {config.image_size}), got {tuple(faces_pm1.shape)}"
        )
    accelerator = start_accelerator(device)
    config = supported(config, accelerator.device)
    inputs = {"images": hashlib.sha256(faces_pm1.numpy().tobytes()).hexdigest()}
    run = TrainingRun(output / "checkpoint.pt", "hw2 faces train", KEYS, config, inputs)
    options = Schedule(resume, save_every, report_every, compile_network, deterministic, accumulation)
    training = Training(lambda: FaceUNet(config.network), config, run, accelerator, options, betas=(0.9, 0.999))
    schedule = homework_schedule()

    @lru_cache(maxsize=1)  # of a step with several parts
    def batch_of(step: int) -> Batch:
        return draw_batch(faces_pm1, config, schedule, step)

    def loss_of(network: torch.nn.Module, step: int, part: slice) -> Tensor:
        batch = batch_of(step)
        images, noise, timesteps = (
            tensor[part].to(accelerator.device) for tensor in (batch.images_pm1, batch.noise, batch.timesteps)
        )
        with autocast(config, accelerator.device):
            noise_pred = network(schedule.add_noise(images, noise, timesteps), timesteps)
        return F.mse_loss(noise_pred.float(), noise)

    def save(network: FaceUNet) -> None:
        save_face_unet(network, output / "model.safetensors")

    return training.train(loss_of, save, watch)
