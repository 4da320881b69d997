"""Benchmarks of Problem 1: training and sampling, beside their floors and rivals."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from grading.judges import Judges
from grading.judges.protocols import DigitJudge
from hw2.digits.checkpoint import DigitModel, load_digit_model
from hw2.digits.data import DigitImages, load_digits
from hw2.digits.network import DigitUNet
from hw2.digits.recognizer import Recognizer, load_recognizer
from hw2.digits.sample import DigitSampler, digit_to_u8, official_names
from hw2.digits.train import BatchSource, Progress, diffusion_loss, preset, train_digits
from hw2.files.bundled import DIGIT_RECOGNIZER, DIGIT_STUDENT, DIGIT_UNET
from tests.benchmarks.measure import DEVICE, matmul_rate, operations, seconds

BATCH_SIZE = 512 if DEVICE == "cuda" else 64
COMPARED = 2
"""Digits of each label and data set that both samplers draw; DDPM with 1000 steps takes minutes for these."""


def our_step() -> tuple[Callable[[], None], int]:
    """(one training step of `hw2 digits train`, operations of one forward pass for one image)."""
    g = torch.Generator().manual_seed(0)
    digits = torch.arange(1000) % 10
    images = torch.randint(256, (1000, 3, 28, 28), dtype=torch.uint8, generator=g)
    data = DigitImages(images, digits, torch.arange(1000) // 10 % 2)
    config = dataclasses.replace(preset("bundled", 1000), batch_size=BATCH_SIZE, house_numbers=0)
    source, schedule = BatchSource(data, config, DEVICE), config.schedule()
    network = DigitUNet(config.network).to(DEVICE)
    trained: nn.Module = network
    if DEVICE == "cuda":
        trained = torch.compile(network.to(memory_format=torch.channels_last))  # type: ignore[assignment]
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    average = [value.clone() for value in network.state_dict().values()]

    def step() -> None:
        diffusion_loss(trained, source.batch(0), schedule, config).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        torch._foreach_lerp_(average, list(network.state_dict().values()), 0.001)

    batch = source.batch(0)
    inputs = batch.images_pm1, batch.timesteps, batch.digits, batch.datasets
    return step, operations(lambda: network(*inputs)) // len(batch.images_pm1)


def plain_step(network: nn.Module, loss: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    """One step of the training loop that tutorials show: float32, AdamW."""
    optimizer = torch.optim.AdamW(network.parameters())
    images = torch.rand(BATCH_SIZE, 3, 28, 28, device=DEVICE) * 2 - 1

    def step() -> None:
        loss(images).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def diffusers_rival(wanted: int) -> tuple[str, Callable[[], None], int]:
    """diffusers' UNet2DModel, of the width at which it needs about `wanted` operations for an image."""
    from diffusers import UNet2DModel

    def build(width: int) -> nn.Module:
        network: nn.Module = UNet2DModel(
            sample_size=28,
            in_channels=3,
            out_channels=3,
            block_out_channels=(width, 2 * width),
            layers_per_block=2,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=8,
            num_class_embeds=33,
            attention_head_dim=8,
        )
        return network.to(DEVICE)

    def labels(count: int) -> tuple[Tensor, Tensor]:
        return torch.randint(1000, (count,), device=DEVICE), torch.randint(33, (count,), device=DEVICE)

    def count(network: nn.Module) -> int:
        return operations(lambda: network(torch.randn(1, 3, 28, 28, device=DEVICE), *labels(1)))

    network = min((build(width) for width in (8, 16, 24, 32, 40, 48)), key=lambda n: abs(count(n) - wanted))

    def loss(images: Tensor) -> Tensor:
        timesteps, classes = labels(len(images))
        return F.mse_loss(network(images, timesteps, classes).sample, torch.randn_like(images))

    return "diffusers' UNet2DModel", plain_step(network, loss), count(network)


def lucidrains_rival(wanted: int) -> tuple[str, Callable[[], None], int]:
    """The U-Net and the loss of the package denoising-diffusion-pytorch, at about `wanted` operations for an image."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    def build(width: int) -> nn.Module:
        network: nn.Module = Unet(dim=width, dim_mults=(1, 2), channels=3, flash_attn=False)
        return network.to(DEVICE)

    def count(network: nn.Module) -> int:
        return operations(lambda: network(torch.randn(1, 3, 28, 28, device=DEVICE), torch.zeros(1, device=DEVICE)))

    network = min((build(width) for width in (8, 16, 24, 32, 40, 48)), key=lambda n: abs(count(n) - wanted))
    diffusion = GaussianDiffusion(network, image_size=28, timesteps=1000).to(DEVICE)
    return "denoising-diffusion-pytorch", plain_step(diffusion, lambda x: diffusion((x + 1) / 2)), count(network)


def bench_training(table: Table) -> None:
    """Images per second in training: ours and the rivals', at about equal operations for an image."""
    rate = matmul_rate(torch.float32)
    fast = matmul_rate(torch.bfloat16)
    step, ours = our_step()
    rivals = [diffusers_rival(ours), lucidrains_rival(ours)]
    times = seconds(step, *(rival for _, rival, _ in rivals), rounds=10 if DEVICE == "cuda" else 3)
    achieved = 3 * ours * BATCH_SIZE / times[0]  # the backward pass costs twice the forward pass
    table.add_row(
        f"DigitUNet training step, batch {BATCH_SIZE}, bfloat16",
        f"{BATCH_SIZE / times[0]:.0f} images/s = {achieved / 1e9:.0f} GFLOP/s ({ours / 1e6:.0f} MFLOP forward)",
        f"matmul {rate / 1e9:.0f} GFLOP/s in float32, {fast / 1e9:.0f} in bfloat16",
        f"{achieved / rate:.0%} and {achieved / fast:.0%} of those rates",
    )
    for (name, _, theirs), time_s in zip(rivals, times[1:], strict=True):
        table.add_row(
            f"the same against {name} in a plain loop",
            f"{BATCH_SIZE / times[0]:.0f} images/s",
            f"{BATCH_SIZE / time_s:.0f} images/s ({theirs / 1e6:.0f} MFLOP forward)",
            f"{time_s / times[0]:.2f}x as many",
        )


def bench_sampling(table: Table) -> None:
    """The default sampler and DDPM with 1000 steps on the same network: network evaluations, time, accuracy."""
    names = official_names(COMPARED)
    model = load_digit_model(DIGIT_UNET, device=DEVICE)
    judges = embedded_judges("cpu")
    quick = DigitSampler(model, device=DEVICE)
    slow = DigitSampler(model, "ddpm", device=DEVICE, num_inference_steps=1000)
    list(quick.sample(names[:2]))  # warm up
    figures = []
    for sampler in (quick, slow):
        start = time.perf_counter()
        drawn = dict(sampler.sample(names))
        elapsed = time.perf_counter() - start
        figures.append((sampler.num_inference_steps, elapsed, accuracy(judges, drawn)))
    (few, fast_s, fast_right), (many, slow_s, slow_right) = figures
    table.add_row(
        f"{len(names)} digits by DPM-Solver++ 2M, {few} steps, float32",
        f"{fast_s:.1f} s, embedded judges {fast_right:.1%}",
        f"DDPM, {many} steps: {slow_s:.1f} s, {slow_right:.1%}",
        f"{many / few:.0f}x fewer evaluations, {slow_s / fast_s:.1f}x less time",
    )


def bench_thousand(table: Table) -> None:
    """The homework's 1000 digits by the bundled student and by its teacher, in the same run."""
    student, student_s, evaluations, student_right = _thousand(DIGIT_STUDENT, load_recognizer(DIGIT_RECOGNIZER, DEVICE))
    _, teacher_s, many, teacher_right = _thousand(DIGIT_UNET, None)
    images, labels = torch.empty(1, 3, 28, 28, device=DEVICE), torch.zeros(1, dtype=torch.int64, device=DEVICE)
    needed = operations(lambda: student.network(images, labels, labels, labels))
    table.add_row(
        f"1000 digits by the bundled student, {evaluations / 1000:.1f} evaluations each, float32",
        f"{student_s:.1f} s, embedded judges {student_right:.1%}",
        f"its teacher by default, {many / 1000:.1f}: {teacher_s:.1f} s, {teacher_right:.1%}",
        f"{teacher_s / student_s:.1f}x as fast",
    )
    floor = evaluations * needed / matmul_rate(torch.float32)
    table.add_row("", f"{student_s:.1f} s", f"floor {floor:.1f} s", f"{student_s / floor:.2f} times the floor")


def _thousand(checkpoint: Path, recognizer: Recognizer | None) -> tuple[DigitModel, float, int, float]:
    """(model, seconds, evaluations of the network for one image, share that the embedded judges read)."""
    model, names = load_digit_model(checkpoint, device=DEVICE), official_names()
    rows: list[int] = []
    sampler = DigitSampler(model, device=DEVICE, recognizer=recognizer)
    list(sampler.sample(names[:2]))  # warm up
    with model.network.register_forward_hook(lambda network, inputs, output: rows.append(len(output))):
        start = time.perf_counter()
        drawn = dict(sampler.sample(names))
        spent = time.perf_counter() - start
    return model, spent, sum(rows), accuracy(embedded_judges("cpu"), drawn)


def embedded_judges(device: str) -> dict[str, DigitJudge]:
    """The embedded judge of each data set."""
    return dict(Judges(dict.fromkeys(("mnistm", "svhn"), "embedded"), device))


def accuracy(judges: dict[str, DigitJudge], drawn: dict[str, Tensor]) -> float:
    """Share of drawn digits, by official name, that the judge of their data set reads right."""
    right = [
        judges[name.split("/")[0]].predict([digit_to_u8(digit)]).digits[0] == int(name.split("/")[1][0])
        for name, digit in drawn.items()
    ]
    return float(sum(right) / len(right))


def bench_time_to_accuracy(table: Table, data: Path) -> None:
    """Time of a training from scratch until the judges read 95 % and 98 % of 200 digits of each data set.

    Sampling and reading are not counted.
    """
    reached: dict[float, float] = {}
    state = {"spent": 0.0, "since": time.perf_counter()}
    judges = embedded_judges(DEVICE)

    class ReachedError(Exception):
        """Both accuracies are reached; stops the training."""

    def watch(progress: Progress) -> None:
        state["spent"] += time.perf_counter() - state["since"]
        drawn = dict(DigitSampler(progress.model(), device=DEVICE).sample(official_names(20)))
        share = accuracy(judges, drawn)
        for goal in (0.95, 0.98):
            if share >= goal:
                reached.setdefault(goal, state["spent"])
        if len(reached) == 2:
            raise ReachedError
        state["since"] = time.perf_counter()

    images = load_digits(data)
    with tempfile.TemporaryDirectory() as folder, suppress(ReachedError):
        train_digits(images, preset("default", len(images)), Path(folder), report_every=250, watch=watch)
    for goal, spent in reached.items():
        table.add_row(f"training from scratch to {goal:.0%} by the embedded judges", f"{spent:.0f} s", "", "")


def bench_digits(table: Table) -> None:
    """All rows of Problem 1. Time to accuracy needs a CUDA device, and HW2_DATA set to the folder hw2_data."""
    bench_training(table)
    with torch.inference_mode():
        bench_sampling(table)
        bench_thousand(table)
    if DEVICE == "cuda" and "HW2_DATA" in os.environ:
        bench_time_to_accuracy(table, Path(os.environ["HW2_DATA"]))
