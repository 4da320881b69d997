"""Reading and writing trained digit models: safetensors with the network's configuration and what it predicts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from hw2.diffusion.schedule import NoiseSchedule, PredictionType, cosine_betas, linear_betas
from hw2.digits.network import DigitUNet, DigitUNetConfig
from hw2.errors import InputError
from hw2.files.weights import assign_weights, read_weights, save_weights

BetaSchedule = Literal["linear", "cosine"]


def noise_schedule(beta_schedule: BetaSchedule) -> NoiseSchedule:
    """The 1000-step schedule of that name."""
    return NoiseSchedule(cosine_betas() if beta_schedule == "cosine" else linear_betas())


@dataclass(frozen=True)
class DigitModel:
    """A network and what its output means."""

    network: DigitUNet
    prediction_type: PredictionType
    beta_schedule: BetaSchedule

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule that the network was trained on."""
        return noise_schedule(self.beta_schedule)


def description(model: DigitModel) -> dict[str, Any]:
    """What `assembled_model` needs besides the weights, for JSON."""
    return {
        "network": dataclasses.asdict(model.network.config),
        "prediction_type": model.prediction_type,
        "beta_schedule": model.beta_schedule,
    }


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
        with torch.device("meta"):
            network = DigitUNet(DigitUNetConfig(**config["network"]))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} describes no digit model ({error}); export it again") from None
    assign_weights(network, tensors, path, "digit network")
    network = network.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return DigitModel(network, prediction_type, beta_schedule)


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
