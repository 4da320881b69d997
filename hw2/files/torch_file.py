"""The only reader of files that `torch.save` wrote: tensors in, never code."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from hw2.errors import InputError
from hw2.files.leftovers import leftover, switches_off


def read_torch_file(path: Path) -> Any:
    """What a `torch.save` file holds, with tensors on the CPU.

    Raises InputError if the file cannot be read, is damaged, grows when it is unpacked, or holds anything that only
    running code could rebuild.
    """
    try:
        if _grows(path):
            raise InputError(f"{path} is compressed, which torch.save never does; save it again with torch.save")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on pickle protocols, meant for the file's author
            return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # given invalid bytes, the unpickler raises nearly every exception of Python
        if found := leftover(path):
            what, _, remedy = found.removeprefix("is ").partition("; ")
            raise InputError(f"{path} is not a readable PyTorch file ({what}); {remedy}") from None
        if isinstance(error, pickle.UnpicklingError) or switches_off(str(error)):
            raise InputError(
                f"{path} holds more than tensors, or is not a PyTorch file; anything but tensors could run code"
            ) from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "weights_only" in reason:  # torch advises to switch the protection off
            reason = "it is a TorchScript archive, not plain tensors"
        raise InputError(f"{path} is not a readable PyTorch file ({reason}); download it again") from None


def _grows(path: Path) -> bool:
    """Whether a zip archive holds more than its own size: compressed, or the same bytes under many names.

    Raises whatever `zipfile` raises if it cannot list the archive. PyTorch reads some of these, and that unchecked.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False  # no archive for PyTorch either
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size
