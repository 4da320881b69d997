"""TensorBoard logs of the training of a word: curves, and pictures of the word."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from hw2.concepts import templates
from hw2.concepts.clip import Clip, clip_scores
from hw2.concepts.embeddings import nearest_words
from hw2.concepts.generate import ConceptSampler, image_to_u8
from hw2.concepts.recipe import InversionConfig
from hw2.concepts.stable_diffusion import StableDiffusion
from hw2.concepts.training import Progress

SHOWN = 4
"""Number of pictures of the word, each of another sentence, from the same noises every time."""


class Watcher:
    """Logs every validation; every pictures_every validations (0: never) also SHOWN pictures.

    With a clip, also their CLIP scores as the homework defines them: similarity to the concept's images, and to their
    sentences with the initializer in the token's place.
    """

    def __init__(
        self,
        folder: Path,
        model: StableDiffusion,
        config: InversionConfig,
        pictures_every: int,
        images_pm1: Tensor,
        clip: Clip | None = None,
        guidance_scale: float = 7.5,
    ) -> None:
        self._folder, self._model, self._config, self._pictures_every = folder, model, config, pictures_every
        self._images_u8 = [image_to_u8(image) for image in images_pm1]
        self._guidance_scale, self._clip = guidance_scale, clip
        self._writer: SummaryWriter | None = None

    def __call__(self, progress: Progress) -> None:
        """Log one validation."""
        if self._writer is None:
            # What an interrupted run logged after its last checkpoint is hidden, because it will be logged again.
            self._writer = SummaryWriter(str(self._folder / "tensorboard"), purge_step=progress.step)
        vocabulary = self._model.words.weight
        closest = [nearest_words(v, self._model.tokenizer, vocabulary, 1)[0] for v in progress.vectors]
        self._writer.add_scalar("loss", progress.loss, progress.step)
        self._writer.add_scalar("validation loss", progress.validation_loss, progress.step)
        self._writer.add_scalar("length", float(progress.vectors.norm(dim=1).mean()), progress.step)
        self._writer.add_text("nearest words", ", ".join(f"{w} {c:.2f}" for w, c in closest), progress.step)
        validation = progress.step // self._config.validate_every
        if self._pictures_every and validation % self._pictures_every == 0:
            sentences = (templates.OBJECT if self._config.kind == "object" else templates.STYLE)[:SHOWN]
            prompts = {str(i): sentence.format(self._config.token) for i, sentence in enumerate(sentences)}
            sampler = ConceptSampler(
                self._model, num_inference_steps=15, guidance_scale=self._guidance_scale, batch_size=SHOWN
            )
            drawn_u8 = [image_to_u8(image) for _, image in sampler.sample(prompts)]
            row = torch.cat([torch.from_numpy(image_u8) for image_u8 in drawn_u8], dim=1)
            self._writer.add_image(self._config.token, row, progress.step, dataformats="HWC")
            if self._clip is not None:
                said = [sentence.format(self._config.initializer) for sentence in sentences]
                image_score, text_score = clip_scores(self._clip, drawn_u8, self._images_u8, said)
                self._writer.add_scalar("CLIP image score", image_score, progress.step)
                self._writer.add_scalar("CLIP text score", text_score, progress.step)
        self._writer.flush()
