"""Reading and writing face network weights: the official bare `UNet.pt`, and safetensors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hw2.errors import InputError
from hw2.faces.network import FaceUNet, FaceUNetConfig
from hw2.torch_file import read_torch_file

SHOWN = 3
"""How many keys of a long list an error names."""


def save_face_unet(network: FaceUNet, path: Path) -> None:
    """Write weights as safetensors, with the network's configuration as JSON under the metadata key "config"."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    partial = path.with_name(f".{path.name}.partial")
    save_file(tensors, partial, metadata={"config": json.dumps(dataclasses.asdict(network.config))})
    partial.replace(path)


def load_face_unet(path: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> FaceUNet:
    """A `FaceUNet` with the weights in `path`, on `device`, in `dtype`, ready for inference.

    A `.safetensors` file may say its configuration (as `save_face_unet` does); any other file is read as a PyTorch
    state dict with `weights_only`, from whatever device it was saved on, for the default configuration.
    Raises InputError if the file is missing, is not such a file, would run code, or has missing, extra, misshapen,
    non-floating or non-finite entries; the message names them.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected the face network's weights, e.g. the official UNet.pt")
    if path.suffix == ".safetensors":
        config, tensors = _read_safetensors(path)
    else:
        config, tensors = FaceUNetConfig(), _read_state_dict(path)
    with torch.device("meta"):
        network = FaceUNet(config)
    _check_tensors(path, {name: value.shape for name, value in network.state_dict().items()}, tensors)
    network.load_state_dict({name: value.to(torch.float32) for name, value in tensors.items()}, assign=True)
    return network.to(device=device, dtype=dtype).eval().requires_grad_(False)


def _read_safetensors(path: Path) -> tuple[FaceUNetConfig, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error}); download or export it again") from None
    if "config" not in metadata:
        return FaceUNetConfig(), tensors
    try:
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(metadata["config"]).items()
        }
        return FaceUNetConfig(**fields), tensors
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} describes no face network in its metadata ({error}); export it again") from None


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    loaded = read_torch_file(path)
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise InputError(f"{path} holds {_describe(loaded)}; expected a bare state dict of parameter names and tensors")
    return loaded


def _describe(loaded: object) -> str:
    if isinstance(loaded, dict):
        return f"a dict with the entries {_some([str(key) for key in loaded])}"
    return f"a {type(loaded).__name__}"


def _check_tensors(path: Path, expected: dict[str, torch.Size], found: dict[str, Tensor]) -> None:
    problems = []
    if missing := [name for name in expected if name not in found]:
        problems.append(f"{len(missing)} of {len(expected)} keys are missing: {_some(missing)}")
    if extra := [str(name) for name in found if name not in expected]:
        problems.append(f"{len(extra)} keys are not the network's: {_some(extra)}")
    shared = {name: found[name] for name in expected if name in found}
    if misshapen := [
        f"{name} is {list(value.shape)} instead of {list(expected[name])}"
        for name, value in shared.items()
        if value.shape != expected[name]
    ]:
        problems.append(f"{len(misshapen)} tensors have another shape: {_some(misshapen)}")
    if broken := [name for name, value in shared.items() if not _is_finite(value)]:
        problems.append(f"{len(broken)} tensors are not finite floating numbers: {_some(broken)}")
    if problems:
        raise InputError(f"{path} does not fit the face network: {'; '.join(problems)}; is it the right checkpoint?")


def _is_finite(value: Tensor) -> bool:
    """Whether a tensor is a plain block of finite floating numbers, in memory."""
    plain = value.layout == torch.strided and value.device.type == "cpu" and value.is_floating_point()
    return plain and bool(value.to(torch.float32).isfinite().all())


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
