"""Network weights as safetensors with their network's configuration, and the check that they fit a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hw2.errors import InputError
from hw2.files.leftovers import leftover
from hw2.files.output import write_file
from hw2.wording import are, counted, shortened

Network = TypeVar("Network", bound=nn.Module)


def save_weights(path: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write tensors as safetensors, with `config` as JSON under the metadata key "config"; whole or not at all."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_file(path, save(tensors, metadata={"config": json.dumps(config)}))


def is_safetensors(path: Path) -> bool:
    """Whether a file is to be read as safetensors: by its name, or by its content (a length of 8 bytes, then JSON)."""
    if path.suffix.lower() == ".safetensors":
        return True
    try:
        with path.open("rb") as file:
            return file.read(9)[8:] == b"{"
    except OSError:
        return False


def read_weights(path: Path) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    """(config, tensors) of a safetensors file; config is None if the file has none. JSON lists come back as tuples.

    Raises InputError if the file cannot be read or its config is not a JSON object.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except Exception as error:  # e.g. SafetensorError, and KeyError for an unknown number format
        if what := leftover(path):
            raise InputError(f"{path} {what}") from None
        raise InputError(f"{path} is not a readable safetensors file ({error}); download or export it again") from None
    if "config" not in metadata:
        return None, tensors
    try:
        config = json.loads(metadata["config"], object_hook=_with_tuples)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} has an unreadable config in its metadata ({error}); export it again") from None
    if not isinstance(config, dict):
        raise InputError(f"{path} has a config in its metadata that is not a JSON object; export it again")
    return config, tensors


class _NoRandomWeights(TorchFunctionMode):
    """In a `with`, the functions of torch.nn.init that draw weights leave them as they are."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        return kwargs["tensor"] if getattr(func, "__module__", "") == nn.init.__name__ else func(*args, **kwargs)


def without_weights(build: Callable[[], Network]) -> Network:
    """A network on the meta device, whose weights have shapes and no values; `assign_weights` gives it some.

    To draw random weights there, PyTorch would import its compiler, which takes two seconds.
    """
    with torch.device("meta"), _NoRandomWeights():
        return build()


def assign_weights(network: nn.Module, tensors: dict[str, Tensor], path: Path, what: str) -> None:
    """Give a network (which may be `without_weights`) the tensors of `path`, as float32.

    what: the network's name in errors. Raises InputError if there are missing, extra, misshapen, non-floating or
    non-finite entries; the message names them.
    """
    expected = {name: value.shape for name, value in network.state_dict().items()}
    problems = []
    if missing := [name for name in expected if name not in tensors]:
        problems.append(f"{len(missing)} of {len(expected)} keys {are(len(missing))} missing: {shortened(missing)}")
    if extra := [str(name) for name in tensors if name not in expected]:
        problems.append(f"{counted(len(extra), 'key')} {are(len(extra))} not the network's: {shortened(extra)}")
    shared = {name: tensors[name] for name in expected if name in tensors}
    if misshapen := [
        f"{name} is {list(value.shape)} instead of {list(expected[name])}"
        for name, value in shared.items()
        if value.shape != expected[name]
    ]:
        problems.append(f"{counted(len(misshapen), 'tensor')} of another shape: {shortened(misshapen)}")
    if broken := [name for name, value in shared.items() if not _is_finite(value)]:
        problems.append(f"{counted(len(broken), 'tensor')} without finite floating numbers: {shortened(broken)}")
    if problems:
        raise InputError(f"{path} does not fit the {what}: {'; '.join(problems)}; give a checkpoint of this network")
    # Copies: a tensor inside a file's bytes may be unaligned in memory, where matrix products round differently.
    network.load_state_dict({name: value.to(torch.float32, copy=True) for name, value in tensors.items()}, assign=True)


def describe_keys(loaded: object) -> str:
    """What a file holds instead of a state dict, for an error."""
    if isinstance(loaded, dict):
        return f"a dict with the entries {shortened(list(loaded))}"
    return f"a {type(loaded).__name__}"


def _with_tuples(item: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}


def _is_finite(value: Tensor) -> bool:
    """Whether a tensor is a plain block of finite floating numbers, in memory."""
    plain = value.layout == torch.strided and value.device.type == "cpu" and value.is_floating_point()
    return plain and bool(value.to(torch.float32).isfinite().all())
