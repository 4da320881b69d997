"""Reading and writing face network weights: the official bare `UNet.pt`, and safetensors."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from hw2.errors import InputError
from hw2.faces.network import FaceUNet, FaceUNetConfig
from hw2.files.torch_file import read_torch_file
from hw2.files.weights import assign_weights, describe_keys, is_safetensors, read_weights, save_weights, without_weights


def save_face_unet(network: FaceUNet, path: Path) -> None:
    """Write weights as safetensors, with the network's configuration as JSON under the metadata key "config"."""
    save_weights(path, network.state_dict(), dataclasses.asdict(network.config))


def load_face_unet(path: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> FaceUNet:
    """A `FaceUNet` with the weights in `path`, on `device`, in `dtype`, ready for inference.

    A safetensors file may hold its configuration (as `save_face_unet` does); any other file is read as a PyTorch
    state dict with `weights_only`, from whatever device it was saved on, for the default configuration.
    Raises InputError if the file is missing or of another kind, would run code, or has missing, extra, misshapen,
    non-floating or non-finite entries; the message names them.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected the face network's weights, e.g. the official UNet.pt")
    config = FaceUNetConfig()
    if is_safetensors(path):
        found, tensors = read_weights(path)
        if found is not None:
            try:
                config = FaceUNetConfig(**found)
            except (ValueError, TypeError) as error:
                raise InputError(
                    f"{path} describes no face network in its metadata ({error}); export it again"
                ) from None
    else:
        tensors = _read_state_dict(path)
    network = without_weights(lambda: FaceUNet(config))
    assign_weights(network, tensors, path, "face network")
    return network.to(device=device, dtype=dtype).eval().requires_grad_(False)


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    loaded = read_torch_file(path)
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise InputError(
            f"{path} holds {describe_keys(loaded)}; expected a bare state dict of parameter names and tensors"
        )
    return loaded
