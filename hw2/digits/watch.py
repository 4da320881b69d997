"""TensorBoard logs of the training: curves, digits, and how many of them are recognized."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from hw2.digits.network import DATASETS, NUM_DIGITS
from hw2.digits.recognizer import Recognizer, load_or_train_recognizer
from hw2.digits.sample import DigitSampler, digit_to_u8, labels_of, official_names
from hw2.digits.train import Progress, TrainConfig
from hw2.training_log import TrainingLog

COLUMNS = 20
"""Images of each digit that are drawn and classified; ten of them are shown."""
SHOWN = 10


class Watcher(TrainingLog):
    """Curves; every pictures_every steps also a 10x10 grid and the accuracy of 200 digits per data set.

    recognizer: file of the recognizer, which is trained if it is missing. Default: in output.
    """

    def __init__(
        self, output: Path, config: TrainConfig, device: str, pictures_every: int, recognizer: Path | None = None
    ) -> None:
        super().__init__(output, pictures_every)
        self._config, self._device = config, device
        self._path = recognizer or output / "recognizer.safetensors"
        self._recognizer: Recognizer | None = None

    def log_pictures(self, writer: SummaryWriter, progress: Progress) -> None:
        """Draw 200 digits of each data set, log ten of each as a grid, and how many of all are recognized."""
        if self._recognizer is None:
            self._recognizer = load_or_train_recognizer(self._path, progress.source, self._config, self._device)
        sampler = DigitSampler(progress.model(), device=self._device)
        names = official_names(COLUMNS)
        digits_pm1 = torch.stack([digit for _, digit in sampler.sample(names)])
        digits, datasets = labels_of(names)
        for i, dataset in enumerate(DATASETS):
            mine = digits_pm1[datasets == i]
            accuracy = self._recognizer.accuracy(mine.to(self._device), digits[datasets == i].to(self._device))
            writer.add_scalar(f"accuracy/{dataset}", accuracy, progress.step)
            pixels = torch.stack([torch.from_numpy(digit_to_u8(digit)) for digit in mine])
            rows = pixels.reshape(NUM_DIGITS, COLUMNS, *pixels.shape[1:])[:, :SHOWN]
            grid = rows.permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1)  # (10 H, 10 W, 3)
            writer.add_image(f"digits/{dataset}", grid, progress.step, dataformats="HWC")
