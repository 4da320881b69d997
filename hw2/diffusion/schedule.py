"""Noise schedules: how much signal is left at each timestep, and which timesteps a sampler visits.

Notation (Ho et al. 2020, "Denoising Diffusion Probabilistic Models", arXiv 2006.11239, section 2)::

    T            num_train_timesteps
    t            timestep, 0 .. T-1
    beta_t       betas[t], the variance added by step t
    alpha_t      1 - beta_t
    abar_t       alphas_cumprod[t] = prod_{s <= t} alpha_s
    q(x_t|x_0)   N(sqrt(abar_t) x_0, (1 - abar_t) I)                                          equation 4

Betas are float64, or float32 where another program's schedule is to be met exactly. `timestep` -1 is the clean image;
its abar is `final_alpha_cumprod`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Spacing = Literal["homework", "leading", "trailing", "linspace"]
PredictionType = Literal["epsilon", "v_prediction"]


def linear_betas(
    num_train_timesteps: int = 1000, start: float = 1e-4, end: float = 2e-2, *, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Betas equally spaced from start to end, (T,) of dtype (DDPM section 4; the homework's `UNet.pt`)."""
    return torch.linspace(start, end, num_train_timesteps, dtype=dtype)


def scaled_linear_betas(
    num_train_timesteps: int = 1000, start: float = 0.00085, end: float = 0.012, *, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Betas whose square roots are equally spaced, (T,) of dtype (Stable Diffusion v1)."""
    return torch.linspace(start**0.5, end**0.5, num_train_timesteps, dtype=dtype) ** 2


def cosine_betas(num_train_timesteps: int = 1000, max_beta: float = 0.999) -> Tensor:
    """Betas of the cosine schedule, (T,) float64 (Nichol & Dhariwal 2021, arXiv 2102.09672, equation 17)."""
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    abar = torch.cos((u + 0.008) / 1.008 * torch.pi / 2) ** 2
    return (1 - abar[1:] / abar[:-1]).clamp(max=max_beta)


@dataclass(frozen=True)
class NoiseSchedule:
    """Betas, what follows from them, and what a network that was trained on them expects of a sampler.

    betas: (T,) float64 or float32, each in (0, 1). alphas_cumprod, (T,), has the same format.
    final_alpha_cumprod: abar of timestep -1, the clean image; 1 means that the last step removes all noise.
    prediction_type: what the network's output is. clip_sample: the predicted clean image is in [-clip_sample,
    clip_sample]; None: it has no bounds. timestep_spacing, steps_offset: which timesteps `timestep_pairs` lists.
    The samplers use these unless they are told otherwise.

    Raises ValueError if betas has another shape, dtype or range, final_alpha_cumprod is not in (0, 1], or
    prediction_type is unknown.
    """

    betas: Tensor
    final_alpha_cumprod: float = 1.0
    prediction_type: PredictionType = "epsilon"
    clip_sample: float | None = None
    timestep_spacing: Spacing = "trailing"
    steps_offset: int = 0
    alphas_cumprod: Tensor = field(init=False)

    def __post_init__(self) -> None:
        if self.betas.ndim != 1 or self.betas.dtype not in (torch.float64, torch.float32) or len(self.betas) == 0:
            raise ValueError(f"betas must be (T,) float64 or float32, got {tuple(self.betas.shape)} {self.betas.dtype}")
        if not bool(((self.betas > 0) & (self.betas < 1)).all()):
            raise ValueError("every beta must be in (0, 1)")
        if not 0 < self.final_alpha_cumprod <= 1:
            raise ValueError(f"final_alpha_cumprod must be in (0, 1], got {self.final_alpha_cumprod}")
        if self.prediction_type not in get_args(PredictionType):
            raise ValueError(f"prediction_type must be {_either(PredictionType)}, got {self.prediction_type!r}")
        object.__setattr__(self, "alphas_cumprod", torch.cumprod(1 - self.betas, dim=0))

    @classmethod
    def from_config(
        cls, config: Path | str | Mapping[str, Any], *, dtype: torch.dtype = torch.float32
    ) -> NoiseSchedule:
        """The schedule of a diffusers `scheduler_config.json` (its path, or what it holds).

        See `scheduler_config.read_schedule`.
        """
        from hw2.diffusion.scheduler_config import read_schedule

        return read_schedule(config, dtype)

    def timestep_pairs(self, num_inference_steps: int) -> list[tuple[int, int]]:
        """`timestep_pairs` with this schedule's spacing, offset and number of timesteps."""
        spacing, offset = self.timestep_spacing, self.steps_offset
        return timestep_pairs(spacing, num_inference_steps, self.num_train_timesteps, steps_offset=offset)

    @property
    def num_train_timesteps(self) -> int:
        return len(self.betas)

    def alpha_cumprod(self, timestep: int) -> float:
        """The abar of one timestep, -1 included. Raises ValueError outside -1 .. T-1."""
        if timestep == -1:
            return self.final_alpha_cumprod
        if not 0 <= timestep < self.num_train_timesteps:
            raise ValueError(f"timestep must be in -1 .. {self.num_train_timesteps - 1}, got {timestep}")
        return float(self.alphas_cumprod[timestep])

    def add_noise(self, original_sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise (DDPM equation 4).

        original_sample, noise: (B, ...) of one shape, dtype and device; timesteps: (B,) integers in 0 .. T-1.
        Returns x_t with the sample's dtype. Raises ValueError if shapes disagree or a timestep is out of range.
        """
        if original_sample.shape != noise.shape or timesteps.shape != original_sample.shape[:1]:
            raise ValueError(
                f"need sample and noise of one shape and one timestep per image, got {tuple(original_sample.shape)}, "
                f"{tuple(noise.shape)} and {tuple(timesteps.shape)}"
            )
        if bool(((timesteps < 0) | (timesteps >= self.num_train_timesteps)).any()):
            raise ValueError(f"timesteps must be in 0 .. {self.num_train_timesteps - 1}")
        abar = self.alphas_cumprod.to(timesteps.device)[timesteps]
        abar = abar.reshape(-1, *[1] * (original_sample.ndim - 1))  # (B, 1, ..., 1)
        dtype = torch.promote_types(original_sample.dtype, torch.float32)  # bfloat16 is for storage, not for sums
        signal, sigma = abar.sqrt().to(dtype), (1 - abar).sqrt().to(dtype)
        return (signal * original_sample + sigma * noise).to(original_sample.dtype)


def homework_schedule() -> NoiseSchedule:
    """The schedule of the homework's face network (SPEC: 1e-4 to 2e-2 over 1000 steps)."""
    return NoiseSchedule(linear_betas(), timestep_spacing="homework")


def timestep_pairs(
    spacing: Spacing, num_inference_steps: int, num_train_timesteps: int = 1000, *, steps_offset: int = 0
) -> list[tuple[int, int]]:
    """The (timestep, prev_timestep) pairs that a sampler walks, from noise to image.

    With stride = T // N for N = num_inference_steps:

    - "homework":  .., 2 stride + 1, stride + 1, 1, and then 0: the last step leaves abar_0 = 0.9999 of the signal.
      For N = 50 that is (981, 961) .. (21, 1), (1, 0).
    - "leading":   .., 2 stride, stride, 0, and then -1 (the clean image), as in the DDIM paper, appendix D.3.
                   steps_offset is added to all of them but -1 (1 for Stable Diffusion).
    - "trailing":  T - 1, T - 1 - T/N, .., and then -1 (Lin et al. 2024, arXiv 2305.08891, table 2).
    - "linspace":  N points from T - 1 to 0, both included, rounded, and then -1 (same table).

    The first two start at most a stride below T if N divides T, and lower if it does not. They refuse a single step,
    and counts that leave out more than a tenth of the schedule: a sampler would treat pure noise as an almost finished
    image.
    Raises ValueError for these, for N outside 1 .. T, for an unknown spacing, and for an offset of another spacing.
    """
    T, N = num_train_timesteps, num_inference_steps
    if spacing not in get_args(Spacing):
        raise ValueError(f"spacing must be one of {', '.join(get_args(Spacing))}, got {spacing!r}")
    if steps_offset < 0 or (steps_offset and spacing != "leading"):
        raise ValueError(
            f"steps_offset must be 0, or more for the spacing 'leading'; got {steps_offset} for {spacing!r}"
        )
    if not 1 <= N <= T:
        raise ValueError(f"num_inference_steps must be in 1 .. {T}, got {N}")
    if spacing in ("homework", "leading"):
        stride = T // N
        first = 1 if spacing == "homework" else steps_offset
        visited = [first + i * stride for i in reversed(range(N))]
        if visited[0] >= T:
            raise ValueError(
                f"num_inference_steps {N} would start at timestep {visited[0]}, past {T - 1}; use at most {T - 1}"
            )
        if N == 1:
            raise ValueError(
                f"num_inference_steps 1 would start at timestep {first}, where no noise is left; use 2 or more"
            )
        if N * stride < 0.9 * T:
            raise ValueError(
                f"num_inference_steps {N} would start at timestep {visited[0]} of {T} and skip the noisiest part; "
                f"use {T // (stride + 1)}, or a divisor of {T}"
            )
        return _pair_up(visited, last=0 if spacing == "homework" else -1)
    if spacing == "trailing":
        return _pair_up([round(T - i * T / N) - 1 for i in range(N)], last=-1)
    return _pair_up([round((T - 1) * (N - 1 - i) / (N - 1)) if N > 1 else T - 1 for i in range(N)], last=-1)


def _either(literal: Any) -> str:
    return " or ".join(map(repr, get_args(literal)))


def _pair_up(visited: Sequence[int], last: int) -> list[tuple[int, int]]:
    return list(zip(visited, [*visited[1:], last], strict=True))
