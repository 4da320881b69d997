"""The samplers by name: the one place to add another, with its step in `samplers`.

Names, command-line choices, default numbers of steps and help texts follow from `SAMPLERS`. Importing it loads no
torch, so that a command can list the names without waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hw2.diffusion.samplers import Generators, Step
    from hw2.diffusion.schedule import PredictionType, Spacing

    MakeStep = Callable[[PredictionType, float | None, Generators | None], Step]


@dataclass(frozen=True)
class Sampler:
    """One row of `SAMPLERS`.

    make: (prediction_type, clip_sample, generators) -> a fresh step for one walk; see `samplers.walk`.
    help: one line for people. stochastic: whether a step draws fresh noise from its generators.
    pixel_steps: default number of steps for images. latent_steps: the same for Stable Diffusion's latents; None where
    the sampler is not offered for them. latent_spacing: how those steps are spaced; images take "trailing".
    """

    make: MakeStep
    help: str
    stochastic: bool
    pixel_steps: int
    latent_steps: int | None = None
    latent_spacing: Spacing = "trailing"

    def step(
        self, prediction_type: PredictionType, clip_sample: float | None = None, generators: Generators | None = None
    ) -> Step:
        """A fresh step for one walk; only a stochastic one is given the generators."""
        return self.make(prediction_type, clip_sample, generators if self.stochastic else None)


def _ddpm(prediction_type: PredictionType, clip_sample: float | None, generators: Generators | None) -> Step:
    from hw2.diffusion.samplers import ddpm

    return ddpm(prediction_type=prediction_type, clip_sample=clip_sample, generator=generators)


def _ddim(prediction_type: PredictionType, clip_sample: float | None, generators: Generators | None) -> Step:
    from hw2.diffusion.samplers import ddim

    return ddim(prediction_type=prediction_type, clip_sample=clip_sample, generator=generators)


def _dpm_solver_pp(prediction_type: PredictionType, clip_sample: float | None, generators: Generators | None) -> Step:
    from hw2.diffusion.samplers import dpm_solver_pp_2m

    return dpm_solver_pp_2m(prediction_type=prediction_type, clip_sample=clip_sample, generator=generators)


SAMPLERS: dict[str, Sampler] = {
    "ddpm": Sampler(_ddpm, "ancestral sampling, the 1000-step reference", stochastic=True, pixel_steps=1000),
    "ddim": Sampler(
        _ddim,
        "DDIM with eta 0",
        stochastic=False,
        pixel_steps=50,
        latent_steps=50,
        latent_spacing="homework",  # the timesteps that Stable Diffusion's own scheduler visits
    ),
    "dpm++": Sampler(
        _dpm_solver_pp, "DPM-Solver++ 2M, the fast default", stochastic=False, pixel_steps=6, latent_steps=25
    ),
}


def pixel_steps() -> dict[str, int]:
    """Name -> default number of steps, for all samplers of images."""
    return {name: sampler.pixel_steps for name, sampler in SAMPLERS.items()}


def latent_steps() -> dict[str, int]:
    """Name -> default number of steps, for the samplers that are offered for latents."""
    return {name: sampler.latent_steps for name, sampler in SAMPLERS.items() if sampler.latent_steps is not None}
