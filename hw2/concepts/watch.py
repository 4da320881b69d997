"""What a person sees of a word being learned: TensorBoard curves, and pictures of it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from hw2.concepts import templates
from hw2.concepts.embeddings import nearest_words
from hw2.concepts.generate import ConceptSampler, image_to_u8
from hw2.concepts.inversion import InversionConfig, Progress
from hw2.concepts.stable_diffusion import StableDiffusion

SHOWN = 4
"""Pictures of the word, each of another sentence, from the same noises every time."""


class Watcher:
    """Logs every validation; every pictures_every validations also SHOWN pictures. 0: never."""

    def __init__(self, folder: Path, model: StableDiffusion, config: InversionConfig, pictures_every: int) -> None:
        self._folder, self._model, self._config, self._pictures_every = folder, model, config, pictures_every
        self._writer: SummaryWriter | None = None

    def __call__(self, progress: Progress) -> None:
        """Log one validation."""
        if self._writer is None:
            # What an interrupted run logged after its last checkpoint is hidden: it happens again.
            self._writer = SummaryWriter(str(self._folder / "tensorboard"), purge_step=progress.step)
        vocabulary = self._model.words.weight
        closest = [nearest_words(v, self._model.tokenizer, vocabulary, 1)[0] for v in progress.vectors]
        self._writer.add_scalar("loss", progress.loss, progress.step)
        self._writer.add_scalar("validation loss", progress.validation_loss, progress.step)
        self._writer.add_scalar("length", float(progress.vectors.norm(dim=1).mean()), progress.step)
        self._writer.add_text("nearest words", ", ".join(f"{w} {c:.2f}" for w, c in closest), progress.step)
        validation = progress.step // self._config.validate_every
        if self._pictures_every and validation % self._pictures_every == 0:
            sentences = templates.OBJECT if self._config.kind == "object" else templates.STYLE
            prompts = {str(i): sentences[i].format(self._config.token) for i in range(SHOWN)}
            drawn = ConceptSampler(self._model, num_inference_steps=15, batch_size=SHOWN).sample(prompts)
            pixels = torch.cat([torch.from_numpy(image_to_u8(image)) for _, image in drawn], dim=1)
            self._writer.add_image(self._config.token, pixels, progress.step, dataformats="HWC")
        self._writer.flush()
