"""What a person sees of a training run: TensorBoard curves, pictures of the digits, and how many can be read."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from hw2.digits.network import DATASETS, NUM_DIGITS
from hw2.digits.recognizer import Recognizer, load_or_train_recognizer
from hw2.digits.sample import DigitSampler, digit_to_u8, labels_of, official_names
from hw2.digits.train import Progress, TrainConfig

COLUMNS = 20
"""Images of each digit that are drawn and read; ten of them are shown."""
SHOWN = 10


class Watcher:
    """Logs every report; every pictures_every steps also a 10x10 grid and the accuracy of 200 digits per data set."""

    def __init__(self, output: Path, config: TrainConfig, device: str, pictures_every: int) -> None:
        self._output, self._config, self._device, self._pictures_every = output, config, device, pictures_every
        self._writer: SummaryWriter | None = None
        self._recognizer: Recognizer | None = None
        self._pictures = 0

    def __call__(self, progress: Progress) -> None:
        """Log one report."""
        if self._writer is None:
            # What an interrupted run logged after its last checkpoint is hidden: it happens again.
            self._writer = SummaryWriter(str(self._output / "tensorboard"), purge_step=progress.step)
            self._pictures = progress.step // self._pictures_every
        self._writer.add_scalar("loss", progress.loss, progress.step)
        self._writer.add_scalar("gradient norm", progress.gradient_norm, progress.step)
        self._writer.add_scalar("learning rate", progress.learning_rate, progress.step)
        self._writer.add_scalar("images per second", progress.images_per_second, progress.step)
        if progress.step // self._pictures_every > self._pictures:
            self._pictures = progress.step // self._pictures_every
            self._log_pictures(self._writer, progress)
        self._writer.flush()

    def _log_pictures(self, writer: SummaryWriter, progress: Progress) -> None:
        if self._recognizer is None:
            path = self._output / "recognizer.safetensors"
            self._recognizer = load_or_train_recognizer(path, progress.source, self._config, self._device)
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
