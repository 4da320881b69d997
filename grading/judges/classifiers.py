"""The digit classifiers that judge Problem 1."""

from __future__ import annotations

import hashlib
import pickle
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, ResNet

from grading.core.arrays import ImageU8
from grading.core.errors import GradingError
from grading.core.results import Judge
from grading.core.text import counted, printable
from grading.files.leftovers import leftover, switches_off
from grading.judges.exact import exact
from grading.judges.protocols import DIGIT_SIZE, Predictions
from grading.judges.sources import Kind

BATCH = 250
MNISTM_CLASSIFIER_SHA256 = "53aa64047bfdccf59362a74d52ce668d9c61982d02d4feb4d676bad4f90eff2c"
"""The official Classifier.pth in the course's template."""


class Classifier(nn.Module, ABC):
    """A network with a linear last layer. It maps (B, 3, 28, 28) in [-1, 1] to (B, 10)."""

    last: str
    """Name of that layer."""

    @abstractmethod
    def features(self, images_pm1: Tensor) -> Tensor:
        """(B, F): the input of the last layer."""

    def forward(self, images_pm1: Tensor) -> Tensor:
        scores: Tensor = self.get_submodule(self.last)(self.features(images_pm1))
        return scores


class MnistmClassifier(Classifier):
    """The official MNIST-M classifier's network (digit_classifier.py)."""

    last = "fc3"

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(256, 128)
        self.fc2 = nn.Linear(128, 64)
        self.fc3 = nn.Linear(64, 10)

    def features(self, images_pm1: Tensor) -> Tensor:
        """(B, 64); see `Classifier`."""
        x = F.max_pool2d(F.relu(self.conv1(images_pm1)), 2)  # (B, 6, 12, 12)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # (B, 16, 4, 4)
        return F.relu(self.fc2(F.relu(self.fc1(x.flatten(1)))))


class SvhnClassifier(ResNet):  # type: ignore[misc]
    """The official SVHN classifier's network: `resnet34_svhn` of the package `detectors`, without weights.

    It is a resnet34 with a first convolution of 3x3 and stride 1, and without max-pool. It is used like `Classifier`.
    """

    last = "fc"

    def __init__(self) -> None:
        super().__init__(BasicBlock, [3, 4, 6, 3], num_classes=10)
        self.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
        self.maxpool = nn.Identity()

    def features(self, images_pm1: Tensor) -> Tensor:
        """(B, 512); see `Classifier`."""
        x = F.relu(self.bn1(self.conv1(images_pm1)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        pooled: Tensor = self.avgpool(x)
        return pooled.flatten(1)


class EmbeddedSvhnClassifier(Classifier):
    """The network of the embedded SVHN judge. It is ours, because the official one has 85 MB."""

    last = "fc"

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 32, 64, 64, 128, 128)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.fc = nn.Linear(widths[-1], 10)

    def features(self, images_pm1: Tensor) -> Tensor:
        """(B, 128); see `Classifier`."""
        x = images_pm1
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = F.relu(norm(conv(x)))
            if i in (1, 3):
                x = F.max_pool2d(x, 2)
        return x.mean(dim=(2, 3))


@dataclass(frozen=True)
class LoadedJudge:
    """A network with its weights and their origin."""

    network: Classifier | SvhnClassifier
    identity: Judge
    device: str = "cpu"

    @exact()
    def predict(self, images: Sequence[ImageU8]) -> Predictions:
        """See `DigitJudge`. The prediction for an image does not depend on the other images."""
        last = self.network.get_submodule(self.network.last)
        assert isinstance(last, nn.Linear)
        digits, features = [np.empty(0, np.int64)], [np.empty((0, last.in_features), np.float64)]
        for start in range(0, len(images), BATCH):
            seen = self.network.features(images_to_pm1(images[start : start + BATCH]).to(self.device))
            digits.append(last(seen).argmax(1).cpu().numpy())
            features.append(seen.double().cpu().numpy())
        return Predictions(np.concatenate(digits), np.concatenate(features))


def images_to_pm1(images: Sequence[ImageU8]) -> Tensor:
    """The input of both official classifiers: resized to 28x28 by PIL (bilinear, antialiased), scaled to [-1, 1]."""
    size = (DIGIT_SIZE, DIGIT_SIZE)
    resized = [
        image if image.shape[:2] == size else np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        for image in images
    ]
    images_01 = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255
    return (images_01 - 0.5) / 0.5


def load_digit_judge(
    dataset: Literal["mnistm", "svhn"], path: Path, kind: Kind = "custom", device: str = "cpu"
) -> LoadedJudge:
    """A judge with the weights in `path`, which holds a state dict or {"state_dict": ...}.

    kind: "embedded" selects our own networks, any other kind the official ones. For MNIST-M, the course's file,
    byte for byte, is reported as official, and no other file is.
    Raises GradingError if the file holds no such state dict. This never counts against the submission. No code in the
    file is run.
    """
    network: Classifier | SvhnClassifier
    if dataset == "mnistm":
        network = MnistmClassifier()
    else:
        network = EmbeddedSvhnClassifier() if kind == "embedded" else SvhnClassifier()
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
    # Older files lack the counters of batches, and no prediction depends on them.
    needed = {name for name in expected if not name.endswith("num_batches_tracked")}
    fits = {name for name in needed if isinstance(weights.get(name), Tensor) and weights[name].shape == expected[name]}
    if needed - fits or set(weights) - set(expected):
        wrong = sorted((needed - fits) | {str(name) for name in set(weights) - set(expected)})
        keys = counted(len(wrong), "key")
        raise GradingError(f"{shown} does not fit the {dataset} classifier at {keys}, e.g. {wrong[0]}")
    network.load_state_dict({name: weights[name] for name in needed}, strict=False)
    digest = hashlib.sha256(content).hexdigest()
    if digest == MNISTM_CLASSIFIER_SHA256:
        kind = "official"
    elif dataset == "mnistm" and kind == "official":
        kind = "custom"
    return LoadedJudge(network.to(device).eval(), Judge(dataset, kind, path.name, digest), device)


def _read_weights(path: Path, shown: str) -> object:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if _grows(path):
            raise GradingError(f"{shown} is compressed, which torch.save never does; save it again with torch.save")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on pickle protocols, meant for the file's author
            return torch.load(path, map_location="cpu", weights_only=True)
    except GradingError:
        raise
    except Exception as error:  # invalid files raise errors of nearly any type
        if found := leftover(path):
            what, _, remedy = found.removeprefix("is ").partition("; ")
            kind = "safetensors" if path.suffix == ".safetensors" else "PyTorch"
            raise GradingError(f"{shown} is not a readable {kind} file ({what}); {remedy}") from None
        if isinstance(error, SafetensorError):
            raise GradingError(f"{shown} is not a readable safetensors file ({error})") from None
        if isinstance(error, pickle.UnpicklingError) or switches_off(str(error)):
            raise GradingError(
                f"{shown} was not unpickled, because that could run code; expected only tensors"
            ) from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "weights_only" in reason:  # torch advises to switch the protection off
            reason = "it is a TorchScript archive, not plain tensors"
        raise GradingError(f"{shown} is not a readable PyTorch file ({reason})") from None


def _grows(path: Path) -> bool:
    """Whether a zip archive holds more than its own size: compressed, or the same bytes under many names.

    Raises whatever `zipfile` raises if it cannot list the archive. PyTorch reads some of these, and that unchecked.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False  # no archive for PyTorch either
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size
