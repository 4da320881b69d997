"""Problem 2's data: the effect of eta, the paths between two noises, and every usual mistake with its error."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hw2.devices.memory import in_batches
from hw2.diffusion.interpolate import angle_between
from hw2.diffusion.samplers import Step, StepOutput, ddim, predict, walk
from hw2.diffusion.schedule import NoiseSchedule, homework_schedule, scaled_linear_betas, timestep_pairs
from hw2.digits.sample import digit_to_u8
from hw2.faces.figures import ALPHAS, ETAS, PATHS
from hw2.faces.sample import face_to_u8
from hw2.figures import ImageU8
from hw2.progress import OnStep
from hw2.report.inputs import Inputs
from hw2.report.part import Row

Pixels = npt.NDArray[np.uint8]
SHOWN = 4
"""Noises in the eta grid (slides p12)."""
STEPS = 50
FAR_DEGREES = 150.0
FAR_ALPHAS = (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
TRIED = 4
"""Noises that every usual mistake is tried on."""
AMPLIFIED = 3
"""Factor of the differences that are shown as pictures."""


def mean_squared_error(drawn_u8: ImageU8, truth_u8: ImageU8) -> float:
    """The homework's error of one face: mean over pixels and channels, of values from 0 to 255."""
    return float(np.mean((drawn_u8.astype(np.float64) - truth_u8) ** 2))


# --- eta


@dataclass(frozen=True)
class EtaGrid:
    """mse: mean over the noises for each eta; lowest, highest: over the noises. images: (etas + 1, noises, H, W, 3).

    The last row of the images is the ground truth.
    """

    noises: list[str]
    etas: list[float]
    mse: list[float]
    lowest: list[float]
    highest: list[float]
    mse_of_noise: list[list[float]]
    images: Pixels


def eta_grid(inputs: Inputs, on_step: OnStep) -> EtaGrid:
    """The first four noises at each eta, with their distance from the ground truth."""
    noises = dict(list(inputs.noises.items())[:SHOWN])
    truth = [inputs.ground_truth[name] for name in noises]
    rows, errors = [], []
    for eta in ETAS:
        row = [face for _, face in inputs.faces.pixels(noises, eta, on_step)]
        errors.append([mean_squared_error(face, true) for face, true in zip(row, truth, strict=True)])
        rows.append(np.stack(row))
    return EtaGrid(
        list(noises), list(ETAS),
        [float(np.mean(row)) for row in errors], [min(row) for row in errors], [max(row) for row in errors], errors,
        np.stack([*rows, np.stack(truth)]),
    )  # fmt: skip


def eta_steps(inputs: Inputs) -> int:
    """Steps of all its images together."""
    return len(ETAS) * min(SHOWN, len(inputs.noises)) * STEPS


# --- paths


@dataclass(frozen=True)
class Paths:
    """Two paths between two noises, and what is drawn from them. Lists have a number for each alpha.

    norms: of the noise. shell_mean, shell_deviation: of the norm of Gaussian noise of that many numbers. lerp_middle:
    the norm halfway along lerp, and lerp_deviations: how many deviations it is below the mean. contrast: standard
    deviation of the face; saturation: mean difference of the largest and the smallest channel; both in the network's
    range -1 to 1, before any scaling. detail: share of the power above a quarter of a cycle a pixel. difference: root
    mean square between both paths' faces in levels of 255. images: (3, alphas, H, W, 3), slerp, lerp and the
    amplified difference, all in one fixed scale.
    """

    start: str
    end: str
    degrees: float
    numbers: int
    alphas: list[float]
    slerp_norms: list[float]
    lerp_norms: list[float]
    shell_mean: float
    shell_deviation: float
    lerp_middle: float
    lerp_deviations: float
    slerp_contrast: list[float]
    lerp_contrast: list[float]
    slerp_saturation: list[float]
    lerp_saturation: list[float]
    slerp_detail: list[float]
    lerp_detail: list[float]
    difference: list[float]
    largest_difference: float
    slerp_middle_contrast: float
    lerp_middle_contrast: float
    lerp_last_norm: float
    amplified: int
    images: Pixels


def near_paths(inputs: Inputs, on_step: OnStep) -> Paths:
    """The homework's two paths from the first noise to the second."""
    (start, a), (end, b) = list(inputs.noises.items())[:2]
    return _paths(inputs, (start, a), (end, b), ALPHAS, on_step)


def far_paths(inputs: Inputs, on_step: OnStep) -> Paths:
    """Two paths to a noise that is FAR_DEGREES away, and beyond both ends."""
    (start, a), (end, b) = list(inputs.noises.items())[:2]
    return _paths(inputs, (start, a), (f"{end}'", turned(a, b, FAR_DEGREES)), FAR_ALPHAS, on_step)


def turned(start: Tensor, towards: Tensor, degrees: float) -> Tensor:
    """A noise at this angle from `start`, in the plane of both, with the norm of `towards`."""
    a, b = start.double().flatten(), towards.double().flatten()
    across = b - (b @ a) / (a @ a) * a
    angle = math.radians(degrees)
    found = math.cos(angle) * a / a.norm() + math.sin(angle) * across / across.norm()
    noise: Tensor = (found * b.norm()).reshape(start.shape).to(start.dtype)
    return noise


def _paths(
    inputs: Inputs, start: tuple[str, Tensor], end: tuple[str, Tensor], alphas: Sequence[float], on_step: OnStep
) -> Paths:
    norms, faces, shown = {}, {}, {}
    for name, interpolate in PATHS.items():
        path = interpolate(start[1], end[1], tuple(alphas))  # (A, 1, 3, H, W)
        norms[name] = [float(noise.double().norm()) for noise in path]
        noises = {f"{name} {alpha:g}": noise for alpha, noise in zip(alphas, path, strict=True)}
        faces[name] = [face for _, face in inputs.faces.sample(noises, 0.0, on_step)]
        shown[name] = np.stack([digit_to_u8(face) for face in faces[name]])
    apart = np.abs(shown["slerp"].astype(np.int16) - shown["lerp"])
    middle = list(alphas).index(0.5)
    mean, deviation = shell(start[1].numel())
    measures = {
        f"{name}_{what}": [measure(face) for face in of_path]
        for name, of_path in faces.items()
        for what, measure in {"contrast": contrast, "saturation": saturation, "detail": detail}.items()
    }
    differences = [float(np.sqrt(np.mean(each.astype(np.float64) ** 2))) for each in apart]
    return Paths(
        start=start[0], end=end[0], degrees=math.degrees(angle_between(start[1], end[1])),
        numbers=start[1].numel(), alphas=list(alphas), slerp_norms=norms["slerp"], lerp_norms=norms["lerp"],
        shell_mean=mean, shell_deviation=deviation, lerp_middle=norms["lerp"][middle],
        lerp_deviations=(mean - norms["lerp"][middle]) / deviation,
        difference=differences, largest_difference=max(differences),
        slerp_middle_contrast=measures["slerp_contrast"][middle],
        lerp_middle_contrast=measures["lerp_contrast"][middle], lerp_last_norm=norms["lerp"][-1],
        amplified=AMPLIFIED,
        images=np.stack([shown["slerp"], shown["lerp"], (apart * AMPLIFIED).clip(0, 255).astype(np.uint8)]),
        **measures,
    )  # fmt: skip


def path_steps(alphas: Sequence[float]) -> Callable[[Inputs], int]:
    """Steps of the images of two paths."""
    return lambda inputs: len(PATHS) * len(alphas) * STEPS


def shell(numbers: int) -> tuple[float, float]:
    """Mean and standard deviation of the norm of Gaussian noise of this many numbers (the chi distribution)."""
    mean = math.sqrt(2) * math.exp(math.lgamma((numbers + 1) / 2) - math.lgamma(numbers / 2))
    return mean, math.sqrt(numbers - mean**2)


def contrast(face: Tensor) -> float:
    """Standard deviation of all numbers of a face (3, H, W)."""
    return float(face.double().std(correction=0))


def saturation(face: Tensor) -> float:
    """Mean over the pixels of the largest minus the smallest channel."""
    return float((face.amax(0) - face.amin(0)).double().mean())


def detail(face: Tensor) -> float:
    """Share of the power, without the mean, at frequencies above a quarter of a cycle a pixel (half of Nyquist's)."""
    power = torch.fft.fft2(face.double()).abs().square().sum(0)  # (H, W)
    height, width = power.shape
    radius = torch.hypot(torch.fft.fftfreq(height).double()[:, None], torch.fft.fftfreq(width).double()[None])
    return float(power[radius > 0.25].sum() / power[radius > 0].sum().clamp_min(1e-30))


# --- usual mistakes


@dataclass(frozen=True)
class Variants:
    """Recipes that differ from the homework's in one choice. mse: name -> mean error over the noises, rising.

    threshold: the homework's limit; threshold_passed: how many recipes are below it.
    """

    noises: int
    homework: float
    worst: float
    worst_name: str
    threshold: float
    threshold_passed: int
    count: int
    mse: dict[str, float]


THRESHOLD = 20.0
"""The homework's limit of the error (slides p12)."""

PAIRS = tuple(timestep_pairs("homework", STEPS))


def _one_index_lower() -> Step:
    """Reads alphas_cumprod one index below the timestep that the network is told."""
    inner = ddim(clip_sample=1.0)

    def step(schedule: NoiseSchedule, output: Tensor, timestep: int, prev_timestep: int, sample: Tensor) -> StepOutput:
        return inner(schedule, output, timestep - 1, prev_timestep - 1, sample)

    return step


def _noise_recomputed() -> Step:
    """Computes the noise again from the clamped estimate of the image."""

    def step(schedule: NoiseSchedule, output: Tensor, timestep: int, prev_timestep: int, sample: Tensor) -> StepOutput:
        x0, _ = predict(schedule, output, timestep, sample, clip_sample=1.0)
        abar, abar_prev = schedule.alpha_cumprod(timestep), schedule.alpha_cumprod(prev_timestep)
        noise = (sample - abar**0.5 * x0) / (1 - abar) ** 0.5
        return StepOutput(prev_timestep, abar_prev**0.5 * x0 + (1 - abar_prev) ** 0.5 * noise, x0)

    return step


Walk = tuple[Sequence[tuple[int, int]], Callable[[], Step], NoiseSchedule]


def walks() -> dict[str, Walk]:
    """Name -> how to walk: the pairs of timesteps, the step and the noise schedule."""
    schedule = homework_schedule()

    def clamped() -> Step:
        return ddim(clip_sample=1.0)

    return {
        "homework": (PAIRS, clamped, schedule),
        "last_step_left_out": (PAIRS[:-1], clamped, schedule),
        "last_alpha_one": ([*PAIRS[:-1], (1, -1)], clamped, schedule),
        "index_lower": (PAIRS, _one_index_lower, schedule),
        "timesteps_from_zero": (timestep_pairs("leading", STEPS), clamped, schedule),
        "trailing": (timestep_pairs("trailing", STEPS), clamped, schedule),
        "linspace": (timestep_pairs("linspace", STEPS), clamped, schedule),
        "no_clamp": (PAIRS, lambda: ddim(), schedule),
        "noise_recomputed": (PAIRS, _noise_recomputed, schedule),
        "scaled_linear": (PAIRS, clamped, NoiseSchedule(scaled_linear_betas())),
    }


def _each_channel(face: Tensor) -> ImageU8:
    """Scaled by the minimum and maximum of each channel."""
    low, high = face.amin((1, 2), keepdim=True), face.amax((1, 2), keepdim=True)
    return digit_to_u8((face - low) / (high - low).clamp_min(1e-5) * 2 - 1)


SCALINGS: Mapping[str, Callable[[Tensor], ImageU8]] = {
    "no_min_max": digit_to_u8,
    "each_channel": _each_channel,
    "clamped_first": lambda face: face_to_u8(face.clamp(-1, 1)),
}
"""Name -> how the pixels are made from the homework's own faces, in place of one minimum and maximum of all."""


def variants(inputs: Inputs, on_step: OnStep) -> Variants:
    """The error of every recipe, over the first noises."""
    truth = list(inputs.ground_truth.values())[:TRIED]

    def error(faces: Sequence[Tensor], pixels: Callable[[Tensor], ImageU8]) -> float:
        return float(np.mean([mean_squared_error(pixels(face), true) for face, true in zip(faces, truth, strict=True)]))

    found: dict[str, float] = {}
    for name, (pairs, step, schedule) in walks().items():
        faces = _walked(inputs, pairs, step, schedule, on_step)
        found[name] = error(faces, face_to_u8)
        if name == "homework":
            found |= {scaling: error(faces, pixels) for scaling, pixels in SCALINGS.items()}
    found = dict(sorted(found.items(), key=lambda item: item[1]))
    worst = list(found)[-1]
    passed = sum(value < THRESHOLD for value in found.values())
    return Variants(len(truth), found["homework"], found[worst], worst, THRESHOLD, passed, len(found), found)


def _walked(
    inputs: Inputs, pairs: Sequence[tuple[int, int]], step: Callable[[], Step], schedule: NoiseSchedule, on_step: OnStep
) -> list[Tensor]:
    """The faces (3, H, W) of the tried noises at the end of one walk."""
    sampler = inputs.faces

    def draw(names: Sequence[str], on_step: OnStep) -> list[Tensor]:
        sample = torch.cat([inputs.noises[name] for name in names]).to(sampler.device)
        for state in walk(step(), sampler.network, sample, schedule, pairs):
            sample = state.sample
            on_step(names[0], len(names))
        return list(sample.cpu())

    return list(in_batches(list(inputs.noises)[:TRIED], sampler.batch_size, draw, on_step))


def variant_steps(inputs: Inputs) -> int:
    """Steps of all its images together."""
    return sum(len(pairs) for pairs, _, _ in walks().values()) * min(TRIED, len(inputs.noises))


def variant_rows(data: Variants) -> list[Row]:
    """A row for each recipe, the best first."""
    return [Row(name, [value]) for name, value in data.mse.items()]
