"""Digit models as folders like those of diffusers: config.json and diffusion_pytorch_model.safetensors.

No network of diffusers folds pixels into channels or takes the way down through a 1x1 convolution, so that only
`load_digit_folder` reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hw2.digits.checkpoint import DigitModel, assembled_model, description
from hw2.files.diffusers_folder import WEIGHTS, read_folder, write_folder

CLASS_NAME = "DigitUNet"


def save_digit_folder(model: DigitModel, folder: Path) -> None:
    """Write a model's configuration and weights. Raises InputError if they cannot be written."""
    entries = description(model)
    network = entries.pop("network")
    write_folder(folder, {"_class_name": CLASS_NAME, **network, **entries}, model.network.state_dict())


def load_digit_folder(
    folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> DigitModel:
    """The model in `folder`, on `device`, in `dtype`, ready for inference.

    Raises InputError if a file is missing or unreadable, or if the weights do not fit the configuration.
    """
    found, tensors = read_folder(folder, CLASS_NAME)
    own = {name: value for name, value in found.items() if not name.startswith("_")}
    names = ("prediction_type", "beta_schedule", "distilled")
    config: dict[str, Any] = {name: own.pop(name) for name in names if name in own}
    return assembled_model({**config, "network": own}, tensors, folder / WEIGHTS, device=device, dtype=dtype)
