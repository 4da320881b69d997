"""The CLIP judge: images and sentences in, features of one space out. The only module that knows transformers.

Images are cropped as transformers has done since 4.26. The official environment pins 4.19.2, which rounds the other way
where an odd number of pixels is cut off: one pixel of difference, and none for square images.
"""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from grading.core.arrays import ImageU8
from grading.core.errors import GradingError
from grading.core.results import Judge
from grading.core.text import printable
from grading.judges.classifiers import EMBEDDED
from grading.judges.protocols import CLIP_MODEL, Features

FEWEST = 16
"""Rows from which features no longer change with the batch on a CPU."""

BATCH = 25

HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True)
class TransformersClip:
    """A CLIP of transformers, in float32; an image's features do not depend on batch_size."""

    model: Any
    tokenizer: Any
    processor: Any
    identity: Judge
    device: str = "cpu"
    batch_size: int = BATCH

    @property
    def logit_scale(self) -> float:
        """See `ClipJudge`."""
        return float(self.model.logit_scale.exp())

    def image_features(self, images: Iterable[ImageU8]) -> Features:
        """See `ClipJudge`; preprocessed as the model's own configuration says, by PIL as in transformers 4."""
        pixels: list[Tensor] = []
        with ThreadPoolExecutor(1) as beside:  # one is read while the one before it is made smaller
            prepared: Future[Tensor] | None = None
            for image in images:
                if prepared is not None:
                    pixels.append(prepared.result())
                prepared = beside.submit(self._prepared, image)
            if prepared is not None:
                pixels.append(prepared.result())
        found = [np.empty((0, int(self.model.config.projection_dim)), np.float32)]
        parts = -(-len(pixels) // max(self.batch_size, FEWEST))
        for part in range(parts):  # of nearly equal size, so that none needs much filling up
            batch = torch.cat(pixels[part * len(pixels) // parts : (part + 1) * len(pixels) // parts])
            rows = torch.arange(max(len(batch), FEWEST)) % len(batch)
            found.append(self._features(self.model.get_image_features, pixel_values=batch[rows])[: len(batch)])
        return np.concatenate(found)

    def _prepared(self, image: ImageU8) -> Tensor:
        pixels: Tensor = self.processor(images=Image.fromarray(image), return_tensors="pt").pixel_values
        return pixels

    def text_features(self, sentences: Sequence[str]) -> Features:
        """See `ClipJudge`; each alone, as the official script does; what is too long is cut, its end token kept."""
        length = int(self.model.config.text_config.max_position_embeddings)
        found = []
        for sentence in sentences:
            tokens = self.tokenizer([sentence], truncation=True, max_length=length, return_tensors="pt")
            found.append(self._features(self.model.get_text_features, **tokens))
        return np.concatenate(found)

    @torch.inference_mode()
    def _features(self, encode: Any, **inputs: Tensor) -> Features:
        # Full float32 and one fixed algorithm: a GPU's TF32 convolutions would change the last digits.
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False, allow_tf32=False):
            output = encode(**{name: value.to(self.device) for name, value in inputs.items()})
        features = output if isinstance(output, Tensor) else output.pooler_output  # transformers 5 wraps it
        unit: Features = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
        if not np.isfinite(unit).all():
            raise GradingError(f"{self.identity.file} finds features that are not finite; download it again")
        return unit


def load_clip(name: str, device: str = "cpu", batch_size: int = BATCH) -> TransformersClip:
    """The CLIP of a transformers folder, of which nothing is downloaded, or of a hub name; "embedded" is ours.

    Raises GradingError if it cannot be had or is broken; no code in it is ever run.
    """
    folder, shown = EMBEDDED / "small_clip" if name == "embedded" else Path(name), printable(name)
    if not (folder / "config.json").is_file() and (
        folder.exists() or name == "embedded" or not HUB_NAME.fullmatch(name)
    ):
        raise GradingError(
            f"{shown} is no CLIP model; expected a folder with config.json and model.safetensors, or a hub name such "
            f"as {CLIP_MODEL}"
        )
    source = str(folder) if folder.is_dir() else name
    remedy = "download it again" if folder.is_dir() else "check the name and the network, or give a folder"
    where: dict[str, Any] = {"local_files_only": folder.is_dir()}
    # Of safetensors or tensors unpickled alone; "sdpa" so that no folder can name other code to run.
    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "sdpa", "weights_only": True}
    try:
        with _quiet():
            model, info = CLIPModel.from_pretrained(
                source, output_loading_info=True, ignore_mismatched_sizes=True, **options, **where
            )
            tokenizer = CLIPTokenizer.from_pretrained(source, **where)
            processor = CLIPImageProcessorPil.from_pretrained(source, **where)
    except Exception as error:  # the libraries raise nearly everything for files that they did not expect
        reason = printable(" ".join(str(error).split())[:200]) or type(error).__name__
        if "weights_only" in str(error):  # torch advises to switch the protection off
            reason = "its weights are no plain tensors, and nothing else is unpickled"
        raise GradingError(f"{shown} cannot be loaded as a CLIP model ({reason}); {remedy}") from None
    # transformers would go on with random numbers for what is missing, and with an empty vocabulary.
    if absent := sorted(info["missing_keys"] | {key for key, *_ in info["mismatched_keys"]}):
        raise GradingError(f"{shown} has no weights of the right shape for {absent[0]}; download it again")
    special, words = len(tokenizer.all_special_ids), model.config.text_config.vocab_size
    if not special < len(tokenizer) <= words:
        raise GradingError(
            f"{shown} has a tokenizer of {len(tokenizer)} words for a model of {words}; download it again"
        )
    for key, value in sorted(model.state_dict().items()):
        if not all(bound.isfinite() for bound in value.aminmax()):  # either is NaN if any number is
            raise GradingError(f"{shown} has weights that are not finite, {key} among them; download it again")
    model.to(device).eval().requires_grad_(False)
    for parameter in model.parameters():  # where a file puts them would decide in which order they are added up
        parameter.data = parameter.data.clone()
    kind: Any = "custom"
    if folder == EMBEDDED / "small_clip":
        kind, source = "embedded", "small_clip"
    elif source == CLIP_MODEL and not folder.exists():
        kind = "official"
    judge = TransformersClip(model, tokenizer, processor, Judge("clip", kind, source, sha256=""), device, batch_size)
    with ThreadPoolExecutor(1) as beside:  # a third of a second, and one core
        digest = beside.submit(_sha256, model)
        _try(judge, shown)
    return replace(judge, identity=replace(judge.identity, sha256=digest.result()))


def _sha256(model: Any) -> str:
    """Of all weights, whatever file they came in."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _try(judge: TransformersClip, shown: str) -> None:
    """Raises GradingError if a model's parts do not fit together, which would otherwise look like a bad image."""
    try:
        with _quiet():
            pixels = judge.processor(images=Image.new("RGB", (3, 2)), return_tensors="pt").pixel_values
            judge._features(judge.model.get_image_features, pixel_values=pixels)
            judge.text_features(["a"])
    except GradingError:
        raise
    except Exception as error:
        reason = printable(" ".join(str(error).split())[:200]) or type(error).__name__
        raise GradingError(f"{shown} is a CLIP model whose parts do not fit together ({reason})") from None
    if not np.isfinite(judge.logit_scale):
        raise GradingError(f"{shown} has a logit_scale that is not finite; download it again")


@contextmanager
def _quiet() -> Iterator[None]:
    """Loading without the libraries' own reports, warnings and progress bars."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        transformers_logging.enable_progress_bar()
