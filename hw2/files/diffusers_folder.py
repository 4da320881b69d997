"""Folders as diffusers saves a network: config.json, and its weights as diffusion_pytorch_model.safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from hw2.errors import InputError
from hw2.files.output import write_file
from hw2.files.small_file import read_json
from hw2.files.weights import read_weights

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"


def write_folder(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write both files, the configuration last. Raises InputError if they cannot be written."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_file(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    write_file(folder / CONFIG, f"{json.dumps(config, indent=2)}\n".encode())


def read_folder(folder: Path, class_name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(configuration, tensors) of a folder of this class. Lists of the configuration come back as tuples.

    Raises InputError if a file is missing or unreadable, or the folder is of another class.
    """
    expected = f"expected the {CONFIG} of a {class_name}, with {WEIGHTS} beside it"
    config = read_json(folder / CONFIG, expected)
    found = config.get("_class_name") if isinstance(config, dict) else None
    if not isinstance(config, dict) or found != class_name:
        raise InputError(f"{folder / CONFIG} describes the class {found!r}; {expected}")
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder} has no {WEIGHTS}; save the network again with its weights as safetensors")
    _, tensors = read_weights(folder / WEIGHTS)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}, tensors
