"""The CLIP judge. It maps images and sentences to features in one space.

Images are cropped as transformers has done since 4.26. The official environment pins 4.19.2, which rounds the other way
if an odd number of pixels is cut off. The crop then differs by one pixel. Square images do not differ.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from grading.core.arrays import ImageU8
from grading.core.errors import GradingError
from grading.core.results import Judge
from grading.judges.exact import exact
from grading.judges.pretrained import find_model, ready
from grading.judges.protocols import CLIP_MODEL, Features
from grading.judges.sources import EMBEDDED

FEWEST = 16
"""Smallest batch. On a CPU, features do not depend on the batch size from this size on."""

BATCH = 30
"""Largest batch: the homework's 5 references and 50 pictures of a concept are two batches."""

PREPARED = 2
"""Images that are resized at a time, while the next one is read."""


@dataclass(frozen=True)
class TransformersClip:
    """A CLIP of transformers, in float32. An image's features do not depend on batch_size."""

    model: Any
    tokenizer: Any
    processor: Any
    identity: Judge
    device: str = "cpu"
    batch_size: int = BATCH
    _texts: dict[str, Features] = field(default_factory=dict, compare=False, repr=False)

    @property
    def logit_scale(self) -> float:
        """See `ClipJudge`."""
        return float(self.model.logit_scale.exp())

    def image_features(self, images: Iterable[ImageU8]) -> Features:
        """See `ClipJudge`. The model's configuration sets the preprocessing. PIL resizes, as in transformers 4."""
        pixels: list[Tensor] = []
        with ThreadPoolExecutor(PREPARED) as beside:
            waiting: deque[Future[Tensor]] = deque()
            for image in images:  # read here, one at a time
                if len(waiting) == PREPARED:
                    pixels.append(waiting.popleft().result())
                waiting.append(beside.submit(self._prepared, image))
            pixels += [each.result() for each in waiting]
        found = [np.empty((0, int(self.model.config.projection_dim)), np.float32)]
        parts = -(-len(pixels) // max(self.batch_size, FEWEST))
        for part in range(parts):  # parts of nearly equal size need little padding
            own = pixels[part * len(pixels) // parts : (part + 1) * len(pixels) // parts]
            filled = [own[row % len(own)] for row in range(max(len(own), FEWEST))]
            found.append(self._features(self.model.get_image_features, pixel_values=torch.cat(filled))[: len(own)])
        return np.concatenate(found)

    def _prepared(self, image: ImageU8) -> Tensor:
        pixels: Tensor = self.processor(
            images=image, input_data_format="channels_last", return_tensors="pt"
        ).pixel_values
        return pixels

    def text_features(self, sentences: Sequence[str]) -> Features:
        """See `ClipJudge`. Each sentence is encoded alone, as in the official script, and once. Long ones are cut."""
        length = int(self.model.config.text_config.max_position_embeddings)
        for sentence in sentences:
            if sentence not in self._texts:  # all submissions of a class are asked for the same
                tokens = self.tokenizer([sentence], truncation=True, max_length=length, return_tensors="pt")
                self._texts[sentence] = self._features(self.model.get_text_features, **tokens)
        return np.concatenate([self._texts[sentence] for sentence in sentences])

    def _features(self, encode: Any, **inputs: Tensor) -> Features:
        with exact():
            output = encode(**{name: value.to(self.device) for name, value in inputs.items()})
        features = output if isinstance(output, Tensor) else output.pooler_output  # transformers 5 wraps it
        unit: Features = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
        if not np.isfinite(unit).all():
            raise GradingError(f"{self.identity.file} computes features that are not finite; download it again")
        return unit


def load_clip(name: str, device: str = "cpu", batch_size: int = BATCH) -> TransformersClip:
    """The CLIP in a transformers folder or with a hub name; "embedded" is ours. A folder needs no download.

    Raises GradingError if the model cannot be loaded or is broken. No code in it is ever run.
    """
    embedded = name == "embedded"
    file = str(EMBEDDED / "small_clip") if embedded else name
    source = find_model(file, "CLIP model", CLIP_MODEL)
    model, sha256, tokenizer, processor = source.load(CLIPModel, CLIPTokenizer, CLIPImageProcessorPil)
    # transformers accepts an empty vocabulary without an error.
    special, words = len(tokenizer.all_special_ids), model.config.text_config.vocab_size
    if not special < len(tokenizer) <= words:
        raise GradingError(
            f"{source.shown} has a tokenizer of {len(tokenizer)} words for a model of {words}; download it again"
        )
    ready(model, device)
    kind: Any = "custom"
    if Path(file) == EMBEDDED / "small_clip":
        kind, file = "embedded", "small_clip"
    elif file == CLIP_MODEL and not source.folder:
        kind = "official"
    judge = TransformersClip(model, tokenizer, processor, Judge("clip", kind, file, sha256), device, batch_size)
    with source.trial():
        pixels = processor(images=Image.new("RGB", (3, 2)), return_tensors="pt").pixel_values
        judge._features(model.get_image_features, pixel_values=pixels)
        judge.text_features(["a"])
    if not np.isfinite(judge.logit_scale):
        raise GradingError(f"{source.shown} has a logit_scale that is not finite; download it again")
    return judge
