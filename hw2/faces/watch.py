"""TensorBoard logs of a face training: curves, and eight faces from the same noises each time."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from hw2.diffusion.samplers import randn
from hw2.diffusion.seeding import image_generators
from hw2.faces.network import FaceUNet
from hw2.faces.sample import FaceSampler, batch_invariant, face_to_u8
from hw2.training import Progress
from hw2.training_log import TrainingLog

NAMES = [f"watched {i}" for i in range(8)]


class Watcher(TrainingLog):
    """Curves; every pictures_every steps also eight faces, always from the same noises."""

    def __init__(self, output: Path, image_size: int, device: str, pictures_every: int) -> None:
        super().__init__(output, pictures_every)
        self._image_size, self._device = image_size, device

    def log_pictures(self, writer: SummaryWriter, progress: Progress[FaceUNet]) -> None:
        """Draw eight faces in 50 steps of DDIM and log them side by side."""
        noise = randn((len(NAMES), 3, self._image_size, self._image_size), image_generators(0, NAMES))
        sampler = FaceSampler(batch_invariant(progress.network()), device=self._device)
        noises = dict(zip(NAMES, noise.split(1), strict=True))
        faces = [torch.from_numpy(face_to_u8(face)) for _, face in sampler.sample(noises)]
        writer.add_image("faces", torch.cat(faces, dim=1), progress.step, dataformats="HWC")
