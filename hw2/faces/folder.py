"""Face networks as folders of diffusers, which its `UNet2DModel` loads and computes the same with."""

from __future__ import annotations

from pathlib import Path

import torch

from hw2.errors import InputError
from hw2.faces.diffusers_names import (
    CLASS_NAME,
    config_from_diffusers,
    config_to_diffusers,
    weights_from_diffusers,
    weights_to_diffusers,
)
from hw2.faces.network import FaceUNet
from hw2.files.diffusers_folder import CONFIG, WEIGHTS, read_folder, write_folder
from hw2.files.weights import assign_weights, without_weights


def save_face_folder(network: FaceUNet, folder: Path, *, sample_size: int | None = None) -> None:
    """Write a network as diffusers does; `UNet2DModel.from_pretrained(folder)` loads it.

    sample_size: side of the images in pixels, which diffusers' pipelines draw; 256 for the official network.
    Raises InputError if it cannot be written, and for a network whose first level is not as wide as its first
    convolution, which diffusers cannot build.
    """
    if (factor := network.config.channel_multipliers[0]) != 1:
        raise InputError(
            f"this network's first level is {factor} times as wide as its first convolution, and diffusers needs equal "
            "widths; save it as one file with save_face_unet"
        )
    weights = weights_to_diffusers(network.state_dict(), network.config)
    write_folder(folder, config_to_diffusers(network.config, sample_size), weights)


def load_face_folder(
    folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> FaceUNet:
    """The network in a folder of diffusers, on `device`, in `dtype`, ready for inference.

    Raises InputError if a file is missing or unreadable, the folder has another architecture than `FaceUNet`, or its
    weights do not fit.
    """
    found, tensors = read_folder(folder, CLASS_NAME)
    try:
        config = config_from_diffusers(found)
    except (ValueError, TypeError, KeyError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise InputError(
            f"{folder / CONFIG} describes another network than FaceUNet ({reason}); load it with diffusers"
        ) from None
    network = without_weights(lambda: FaceUNet(config))
    assign_weights(network, weights_from_diffusers(tensors, config), folder / WEIGHTS, "face network")
    return network.to(device=device, dtype=dtype).eval().requires_grad_(False)
