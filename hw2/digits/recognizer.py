"""A small classifier for digits of both data sets, trained on the generator's own images.

It shows during training whether digits are recognized, and `DigitSampler` draws again what it does not recognize. It
grades nothing: `grading` has other judges.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw2.devices.arithmetic import exact
from hw2.digits.network import NUM_DIGITS
from hw2.errors import InputError
from hw2.files.weights import assign_weights, read_weights, save_weights
from hw2.progress import progress_bar

if TYPE_CHECKING:
    from hw2.digits.train import BatchSource, TrainConfig

TRAINING_STEPS = 1500


class Recognizer(nn.Module):
    """(B, 3, 28, 28) in [-1, 1] -> (B, 10) scores."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *self._layer(3, 32, stride=1),
            *self._layer(32, 64, stride=2),
            *self._layer(64, 128, stride=2),
            *self._layer(128, 128, stride=1),
        )
        self.out = nn.Linear(128, NUM_DIGITS)

    @staticmethod
    def _layer(channels: int, width: int, stride: int) -> tuple[nn.Module, ...]:
        return nn.Conv2d(channels, width, 3, stride, padding=1, bias=False), nn.GroupNorm(8, width), nn.ReLU()

    def features(self, images_pm1: Tensor) -> Tensor:
        """(B, 3, 28, 28) -> (B, 128), from which the scores are computed."""
        features: Tensor = self.layers(images_pm1).mean(dim=(2, 3))
        return features

    def forward(self, images_pm1: Tensor) -> Tensor:
        scores: Tensor = self.out(self.features(images_pm1))
        return scores

    @torch.no_grad()
    def accuracy(self, images_pm1: Tensor, digits: Tensor) -> float:
        """Share of the images (B, 3, 28, 28) that show the digits (B,)."""
        with exact():
            return float((self(images_pm1).argmax(1) == digits).float().mean())

    @torch.no_grad()
    def probabilities(self, images_pm1: Tensor, digits: Tensor) -> Tensor:
        """Probability that each image (B, 3, 28, 28) shows its digit (B,): (B,) float32 on the CPU.

        Each image is read alone, so that its probability is the same bit for bit in every batch.
        """
        with exact():
            scores = torch.cat([self(image[None].float()) for image in images_pm1.clamp(-1, 1)])
        return scores.softmax(1).gather(1, digits[:, None]).flatten().cpu()


def load_or_train_recognizer(
    path: Path, source: BatchSource, config: TrainConfig, device: str, steps: int | None = None
) -> Recognizer:
    """The recognizer in `path`, a safetensors file. If there is none, one is trained and written there."""
    if not path.exists():
        save_weights(path, train_recognizer(source, config, device, steps).state_dict(), {})
    return load_recognizer(path, device)


def load_recognizer(path: Path, device: str) -> Recognizer:
    """The recognizer in a safetensors file. Raises InputError if there is none, or another network's."""
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected the recognizer.safetensors of `hw2 digits train`")
    recognizer = Recognizer()
    assign_weights(recognizer, read_weights(path)[1], path, "recognizer")
    return recognizer.to(device).eval()


def train_recognizer(
    source: BatchSource, config: TrainConfig, device: torch.device | str, steps: int | None = None
) -> Recognizer:
    """A recognizer trained on labelled batches of the generator's training; the same for the same seed."""
    steps = TRAINING_STEPS if steps is None else steps
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        recognizer = Recognizer().to(device)
    optimizer = torch.optim.AdamW(recognizer.parameters(), 3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    with progress_bar("training the recognizer", steps) as advance:
        for step in range(steps):
            batch = source.batch(-1 - step)
            known = batch.digits < NUM_DIGITS
            optimizer.zero_grad()
            with exact():
                scores = recognizer(batch.images_pm1[known])
                loss = F.cross_entropy(scores, batch.digits[known], label_smoothing=0.05)
                loss.backward()
            optimizer.step()
            schedule.step()
            advance(f"loss {loss.item():.3f}")
    return recognizer.eval()
