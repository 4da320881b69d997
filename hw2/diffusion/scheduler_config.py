"""The noise schedule that a `scheduler_config.json` of diffusers describes.

This is the only module of this room that reads a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from hw2.diffusion.schedule import (
    NoiseSchedule,
    PredictionType,
    Spacing,
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
)

DEFAULTS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 2e-2,
    "beta_schedule": "linear",
    "trained_betas": None,
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
}
"""What a configuration means that leaves an entry out: the defaults of diffusers' `DDIMScheduler`."""

UNSUPPORTED = (
    "rescale_betas_zero_snr", "thresholding", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas",
    "use_flow_sigmas",
)  # fmt: skip
"""Entries that change the walk, and that no sampler here follows; each must be off."""

MOST_TIMESTEPS = 100_000


def read_schedule(config: Path | str | Mapping[str, Any], dtype: torch.dtype = torch.float32) -> NoiseSchedule:
    """The schedule of a configuration: the path of a `scheduler_config.json`, or what it holds.

    Any scheduler's configuration is read as `DDIMScheduler.from_config` reads it: beta_schedule (linear, scaled_linear,
    squaredcos_cap_v2) or trained_betas, prediction_type, clip_sample, set_alpha_to_one, timestep_spacing and
    steps_offset. dtype: float32 gives the numbers of diffusers, bit for bit; float64 gives more exact ones.
    Raises ValueError, naming the file, if it cannot be read or asks for something that the samplers here do not do.
    """
    place = "the configuration" if isinstance(config, Mapping) else str(config)
    try:
        found = config if isinstance(config, Mapping) else json.loads(Path(config).read_bytes())
        if not isinstance(found, Mapping):
            raise ValueError(f"it holds a {type(found).__name__}")
        return _schedule(found, dtype)
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ValueError(
            f"{place} describes no supported noise schedule ({reason}); give a scheduler_config.json of diffusers"
        ) from None


def _schedule(found: Mapping[str, Any], dtype: torch.dtype) -> NoiseSchedule:
    unsaid = found.get("_use_default_values", ())  # in memory, diffusers notes which entries nobody set
    entries = {**DEFAULTS, **{name: value for name, value in found.items() if name not in unsaid}}
    if on := [name for name in UNSUPPORTED if entries.get(name)]:
        raise ValueError(f"{on[0]} is on, and is not supported")
    spacing, prediction_type = entries["timestep_spacing"], entries["prediction_type"]
    _check_choice("timestep_spacing", spacing, tuple(kind for kind in get_args(Spacing) if kind != "homework"))
    _check_choice("prediction_type", prediction_type, get_args(PredictionType))
    betas = _betas(entries, dtype)
    return NoiseSchedule(
        betas,
        final_alpha_cumprod=1.0 if entries["set_alpha_to_one"] else float(1 - betas[0]),
        prediction_type=prediction_type,
        clip_sample=float(entries["clip_sample_range"]) if entries["clip_sample"] else None,
        timestep_spacing=spacing,
        steps_offset=int(entries["steps_offset"]) if spacing == "leading" else 0,  # diffusers adds it there alone
    )


def _betas(entries: Mapping[str, Any], dtype: torch.dtype) -> Tensor:
    """Betas (T,), computed in `dtype` as diffusers does in float32."""
    if (trained := entries["trained_betas"]) is not None:
        return torch.as_tensor(trained, dtype=dtype)
    T, start, end = int(entries["num_train_timesteps"]), float(entries["beta_start"]), float(entries["beta_end"])
    if not 1 <= T <= MOST_TIMESTEPS:
        raise ValueError(f"num_train_timesteps is {T}; it must be in 1 .. {MOST_TIMESTEPS}")
    kind = entries["beta_schedule"]
    _check_choice("beta_schedule", kind, ("linear", "scaled_linear", "squaredcos_cap_v2"))
    if kind == "squaredcos_cap_v2":
        return cosine_betas(T).to(dtype)
    if not 0 < start < 1 or not 0 < end < 1:
        raise ValueError(f"beta_start and beta_end are {start} and {end}; they must be between 0 and 1")
    return (linear_betas if kind == "linear" else scaled_linear_betas)(T, start, end, dtype=dtype)


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")
