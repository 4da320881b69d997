"""TensorBoard logs of a training: curves and, less often, pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from hw2.training import Progress


class TrainingLog(ABC):
    """Logs every report as curves; after every `pictures_every` steps also the pictures of a subclass.

    Logs are written to `output/tensorboard`.
    """

    def __init__(self, output: Path, pictures_every: int) -> None:
        self.output, self._pictures_every = output, pictures_every
        self._writer: SummaryWriter | None = None
        self._pictures = 0

    def __call__(self, progress: Any) -> None:
        """Log one report."""
        if self._writer is None:
            # What an interrupted run logged after its last checkpoint is hidden, because it will be logged again.
            self._writer = SummaryWriter(str(self.output / "tensorboard"), purge_step=progress.step)
            self._pictures = progress.step // self._pictures_every
        self._log_curves(self._writer, progress)
        if progress.step // self._pictures_every > self._pictures:
            self._pictures = progress.step // self._pictures_every
            self.log_pictures(self._writer, progress)
        self._writer.flush()

    @staticmethod
    def _log_curves(writer: SummaryWriter, progress: Progress[Any]) -> None:
        writer.add_scalar("loss", progress.loss, progress.step)
        writer.add_scalar("gradient norm", progress.gradient_norm, progress.step)
        writer.add_scalar("learning rate", progress.learning_rate, progress.step)
        writer.add_scalar("images per second", progress.images_per_second, progress.step)

    @abstractmethod
    def log_pictures(self, writer: SummaryWriter, progress: Any) -> None:
        """Log what the averaged network draws."""
