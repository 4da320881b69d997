"""Reading and writing trained digit models: safetensors with the network's configuration and what it predicts."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from hw2.diffusion.schedule import NoiseSchedule, PredictionType, cosine_betas, linear_betas
from hw2.digits.network import DigitUNet, DigitUNetConfig
from hw2.errors import InputError
from hw2.files.weights import assign_weights, read_weights, save_weights, without_weights

BetaSchedule = Literal["linear", "cosine"]


def noise_schedule(beta_schedule: BetaSchedule) -> NoiseSchedule:
    """The 1000-step schedule of that name."""
    return NoiseSchedule(cosine_betas() if beta_schedule == "cosine" else linear_betas())


@dataclass(frozen=True)
class Distilled:
    """What a distilled network was made for: DDIM at these timesteps, one evaluation each; see `distill`.

    timesteps: from noise to image; the last step ends at the clean image. guidance_scale, guidance_interval: the
    guidance that the network has learned, so that none is added when it draws.
    Raises ValueError for timesteps that no sampler can visit, and for a scale that is no number.
    """

    timesteps: tuple[int, ...]
    guidance_scale: float
    guidance_interval: tuple[int, int]

    def __post_init__(self) -> None:
        pairs = self.pairs
        if not pairs or not all(type(t) is int and -1 <= s < t < 1000 for t, s in pairs):
            raise ValueError(f"timesteps must go down from at most 999 to 0 or more, got {self.timesteps}")
        if not math.isfinite(self.guidance_scale):
            raise ValueError(f"guidance_scale must be a finite number, got {self.guidance_scale}")

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The (timestep, prev_timestep) of each step."""
        return list(zip(self.timesteps, [*self.timesteps[1:], -1], strict=True))


@dataclass(frozen=True)
class DigitModel:
    """A network and what its output means.

    distilled: what it was distilled for; None: it draws by any sampler, in any number of steps.
    """

    network: DigitUNet
    prediction_type: PredictionType
    beta_schedule: BetaSchedule
    distilled: Distilled | None = None

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule that the network was trained on."""
        return noise_schedule(self.beta_schedule)


def description(model: DigitModel) -> dict[str, Any]:
    """What `assembled_model` needs besides the weights, for JSON."""
    entries: dict[str, Any] = {
        "network": dataclasses.asdict(model.network.config),
        "prediction_type": model.prediction_type,
        "beta_schedule": model.beta_schedule,
    }
    return entries if model.distilled is None else {**entries, "distilled": dataclasses.asdict(model.distilled)}


def assembled_model(
    config: dict[str, Any] | None,
    tensors: dict[str, Tensor],
    path: Path,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
) -> DigitModel:
    """The model of a `description` and weights, frozen. path: of the weights, for errors.

    Raises InputError if there is no such description, or if the weights do not fit it.
    """
    try:
        if config is None:
            raise ValueError("there is none")
        prediction_type, beta_schedule = config["prediction_type"], config["beta_schedule"]
        if prediction_type not in get_args(PredictionType) or beta_schedule not in get_args(BetaSchedule):
            raise ValueError(f"unknown prediction_type {prediction_type!r} or beta_schedule {beta_schedule!r}")
        distilled = None
        if "distilled" in config:
            entries: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in config["distilled"].items()
            }
            distilled = Distilled(**entries)
        found = DigitUNetConfig(**config["network"])
        network = without_weights(lambda: DigitUNet(found))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} describes no digit model ({error}); export it again") from None
    assign_weights(network, tensors, path, "digit network")
    network = network.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return DigitModel(network, prediction_type, beta_schedule, distilled)


def save_digit_model(model: DigitModel, path: Path) -> None:
    """Write weights as safetensors, and the rest as JSON under the metadata key "config"."""
    save_weights(path, model.network.state_dict(), description(model))


def load_digit_model(
    path: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> DigitModel:
    """The model in `path`, as `save_digit_model` wrote it, on `device`, in `dtype`, ready for inference.

    Raises InputError if the file is missing or of another kind, or if its weights do not fit its own configuration.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected the model.safetensors of `hw2 digits train`")
    config, tensors = read_weights(path)
    return assembled_model(config, tensors, path, device=device, dtype=dtype)
