"""The judges: classifiers that say which digit an image shows."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet34

from grading.metrics import ImageU8
from grading.results import GradingError, Judge, printable
from grading.spec import DIGITS_SIZE, MNISTM_CLASSIFIER_SHA256

BATCH = 250


class DigitJudge(Protocol):
    """Whoever can say which digits images show."""

    @property
    def identity(self) -> Judge:
        """Which judge this is, for the report."""

    def predict(self, images: Sequence[ImageU8]) -> npt.NDArray[np.int64]:
        """The digit 0-9 that each image (H, W, 3) shows."""


class MnistmClassifier(nn.Module):
    """The official MNIST-M classifier's network (digit_classifier.py): (B, 3, 28, 28) in [-1, 1] -> (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(256, 128)
        self.fc2 = nn.Linear(128, 64)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, images_pm1: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(images_pm1)), 2)  # (B, 6, 12, 12)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # (B, 16, 4, 4)
        x = F.relu(self.fc2(F.relu(self.fc1(x.flatten(1)))))
        scores: Tensor = self.fc3(x)
        return scores


def svhn_classifier() -> nn.Module:
    """The official SVHN classifier's network: `resnet34_svhn` of the package `detectors`, without weights.

    A resnet34 whose first convolution is 3x3 with stride 1 and which has no max-pool, (B, 3, 28, 28) -> (B, 10).
    """
    network: nn.Module = resnet34(num_classes=10)
    network.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


@dataclass(frozen=True)
class LoadedJudge:
    """A network with weights, and where they came from."""

    network: nn.Module
    identity: Judge
    device: str = "cpu"

    @torch.inference_mode()
    def predict(self, images: Sequence[ImageU8]) -> npt.NDArray[np.int64]:
        """See `DigitJudge`. The answer for an image does not depend on the others."""
        digits = [self.network(images_to_pm1(images[i : i + BATCH]).to(self.device)).argmax(1) for i in _starts(images)]
        return torch.cat(digits).cpu().numpy() if digits else np.empty(0, np.int64)


def images_to_pm1(images: Sequence[ImageU8]) -> Tensor:
    """What both official classifiers see: resized to 28x28 by PIL (bilinear, antialiased), scaled to [-1, 1]."""
    size = (DIGITS_SIZE, DIGITS_SIZE)
    resized = [
        image if image.shape[:2] == size else np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        for image in images
    ]
    images_01 = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255
    return (images_01 - 0.5) / 0.5


def load_digit_judge(dataset: Literal["mnistm", "svhn"], path: Path, device: str = "cpu") -> LoadedJudge:
    """The official network of a data set with the weights in `path`: a state dict, bare or as {"state_dict": ...}.

    Raises GradingError, never the submission's fault, if the file is no such thing; nothing in it is ever run.
    """
    network = MnistmClassifier() if dataset == "mnistm" else svhn_classifier()
    shown = printable(str(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise GradingError(f"the {dataset} classifier {shown} cannot be read ({error.strerror})") from None
    weights = _read_weights(path, shown)
    if isinstance(weights, dict) and isinstance(weights.get("state_dict"), dict):
        weights = weights["state_dict"]
    if not isinstance(weights, dict):
        raise GradingError(f"{shown} holds a {type(weights).__name__}; expected the {dataset} classifier's state dict")
    expected = {name: value.shape for name, value in network.state_dict().items()}
    # Counters of batches seen: older files lack them, and no prediction depends on them.
    needed = {name for name in expected if not name.endswith("num_batches_tracked")}
    fits = {name for name in needed if isinstance(weights.get(name), Tensor) and weights[name].shape == expected[name]}
    if needed - fits or set(weights) - set(expected):
        wrong = sorted((needed - fits) | {str(name) for name in set(weights) - set(expected)})
        raise GradingError(f"{shown} does not fit the {dataset} classifier at {len(wrong)} keys, e.g. {wrong[0]}")
    network.load_state_dict({name: weights[name] for name in needed}, strict=False)
    digest = hashlib.sha256(content).hexdigest()
    kind: Literal["official", "custom"] = "official" if digest == MNISTM_CLASSIFIER_SHA256 else "custom"
    return LoadedJudge(network.to(device).eval(), Judge(dataset, kind, path.name, digest), device)


def _read_weights(path: Path, shown: str) -> object:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on pickle protocols, meant for the file's author
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise GradingError(f"{shown} was not unpickled, since that could run code; expected tensors alone") from None
    except SafetensorError as error:
        raise GradingError(f"{shown} is not a readable safetensors file ({error})") from None
    except Exception as error:  # fed with foreign bytes, the unpickler raises nearly everything that Python has
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GradingError(f"{shown} is not a readable PyTorch file ({reason})") from None


def _starts(images: Sequence[ImageU8]) -> range:
    return range(0, len(images), BATCH)
