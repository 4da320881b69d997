"""Models of transformers, loaded from a folder or from the hub. No code in them is ever run."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from grading.core.errors import GradingError
from grading.core.text import printable
from grading.files.leftovers import leftovers_in, switches_off
from grading.judges.model_folder import check_layers
from grading.judges.sources import check_model

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's mallopt(3)."""


@dataclass(frozen=True)
class Source:
    """The place that a model is loaded from. name: a folder or a hub name. what: the kind of model, for messages."""

    name: str
    what: str

    @property
    def folder(self) -> bool:
        """Whether it is a folder. Then nothing is downloaded."""
        return Path(self.name).is_dir()

    @property
    def shown(self) -> str:
        """Its name, safe to print."""
        return printable(self.name)

    def load(self, model: Any, *parts: Any) -> tuple[Any, ...]:
        """(model in float32 for inference, SHA-256 of its weights, other parts). Arguments: classes in transformers.

        Raises GradingError if something cannot be loaded, is missing, has a wrong shape or is not finite.
        """
        remedy = "download it again" if self.folder else "check the name and the network, or give a folder"
        where: dict[str, Any] = {"local_files_only": self.folder}
        # Only safetensors and plain tensors are loaded. With "sdpa" no folder can name other code to run.
        options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "sdpa", "weights_only": True}
        check_layers(Path(self.name) / "config.json")
        try:
            with quiet():
                loaded, info = model.from_pretrained(
                    self.name, output_loading_info=True, ignore_mismatched_sizes=True, **options, **where
                )
                with ThreadPoolExecutor(1) as beside:  # hashing and reading a vocabulary take half a second each
                    digest = beside.submit(weights_sha256, loaded)
                    others = [part.from_pretrained(self.name, **where) for part in parts]
        except Exception as error:  # the libraries raise errors of nearly any type for invalid files
            found = (self.folder and leftovers_in(Path(self.name))) or reason(error)
            raise GradingError(f"{self.shown} cannot be loaded as a {self.what} ({found}); {remedy}") from None
        # transformers fills missing weights with random numbers without an error.
        if absent := sorted(info["missing_keys"] | {key for key, *_ in info["mismatched_keys"]}):
            raise GradingError(f"{self.shown} has no weights of the right shape for {absent[0]}; download it again")
        for key, value in sorted(loaded.state_dict().items()):
            if not all(bound.isfinite() for bound in value.aminmax()):  # both are NaN if any weight is NaN
                raise GradingError(f"{self.shown} has weights that are not finite, {key} among them; download it again")
        loaded.eval().requires_grad_(False)
        return loaded, digest.result(), *others

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Use the loaded parts for the first time. Raises GradingError if they do not fit together.

        Without this trial, the error would appear later and be taken for an invalid image.
        """
        try:
            with quiet():
                yield
        except GradingError:
            raise
        except Exception as error:
            raise GradingError(
                f"the parts of the {self.what} {self.shown} do not fit together ({reason(error)})"
            ) from None


def find_model(name: str, what: str, example: str) -> Source:
    """The source of that name. example: a hub name, for the message.

    Raises GradingError if it is neither a folder with a model nor a hub name.
    """
    check_model(name, what, example)
    return Source(name, what)


def ready(model: Any, device: str) -> None:
    """Move a model to its device, and copy all parameters to new, equally aligned addresses.

    Otherwise the position of a parameter in its file decides in which order sums are computed.
    """
    if device == "cpu":
        _keep_freed_memory()
    model.to(device)
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()


def _keep_freed_memory() -> None:
    """Let this process keep memory that tensors free, up to 1 GiB a piece, for the next ones.

    By default, glibc gives large pieces back to the kernel and asks for them again, page by page: a tenth of the time
    of encoding an image. Other C libraries go on as they do.
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((M_MMAP_THRESHOLD, 2**30), (M_TRIM_THRESHOLD, 2**31 - 1)):
            mallopt(parameter, value)


def weights_sha256(model: Any) -> str:
    """SHA-256 of all weights. It does not depend on the format of the file."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def reason(error: Exception) -> str:
    """The message of a library's error, in one line that is safe to print. It advises no switch of a protection."""
    if switches_off(str(error)):
        return "its weights are not plain tensors, and nothing else is unpickled"
    return printable(" ".join(str(error).split())[:200]) or type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Switch off the reports, warnings and progress bars of the libraries; afterwards they are as they were."""
    disabled, bars = logging.root.manager.disable, transformers_logging.is_progress_bar_enabled()
    logging.disable(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        if bars:
            transformers_logging.enable_progress_bar()
