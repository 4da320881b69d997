"""CLIP models of any origin: images and sentences in, features of one space out."""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from hw2.devices.arithmetic import exact
from hw2.errors import InputError
from hw2.figures import ImageU8
from hw2.files.leftovers import leftover, leftovers_in, switches_off
from hw2.files.model_folder import check_layers
from hw2.wording import shortened

FEWEST = 16
"""Batches of this many rows or more give the same features on a CPU; open_clip's ViT-B/32 needs 5."""

HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")

COMMITS = {
    "openai/clip-vit-base-patch32": "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
    "openai/clip-vit-large-patch14": "32bd64288804d66eefd0ccbe215aa642df71cc41",
}
"""Models of the Hub that are taken at one commit, so that everybody gets the same files. Others are today's."""


@dataclass(frozen=True)
class Weights:
    """A file of the Hub that open_clip's tag stands for. sha256: as several projects recorded it."""

    repository: str
    file: str
    commit: str
    sha256: str


TAGS = {
    "ViT-B-32/openai": Weights(
        "timm/vit_base_patch32_clip_224.openai",
        "open_clip_model.safetensors",
        "a6f597a30f7b82c51704746581f9a4e41421e878",
        "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31",
    )
}
"""Tags whose weights are taken at one commit and must be that file. open_clip takes others as they are."""

EXPECTED = (
    "expected a transformers folder, an open_clip model as ARCHITECTURE/TAG (ViT-B-32/openai) or "
    "ARCHITECTURE:FILE (ViT-B-32:weights.safetensors), or a model of the Hugging Face hub"
)


@dataclass(frozen=True)
class Clip:
    """A model of any origin, frozen, in float32 on one device.

    preprocess: an RGB image to pixels (3, H, W). tokenize: B sentences, cut to the model's length, to ids (B, L).
    encode_pixels, encode_tokens: these to features (B, D). logit_scale: of cosines before a softmax.
    """

    preprocess: Callable[[Image.Image], Tensor]
    tokenize: Callable[[Sequence[str]], Tensor]
    encode_pixels: Callable[[Tensor], Tensor]
    encode_tokens: Callable[[Tensor], Tensor]
    logit_scale: float
    device: str

    def image_features(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) to unit vectors (B, D) float64 on the CPU; an image's features do not depend on its batch."""
        return self._features(self.encode_pixels, pixels)

    def text_features(self, sentences: Sequence[str]) -> Tensor:
        """Unit vectors (B, D) float64 on the CPU of B sentences."""
        return self._features(self.encode_tokens, self.tokenize(sentences))

    @torch.no_grad()
    def _features(self, encode: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
        B = len(batch)
        rows = torch.arange(max(B, FEWEST) if self.device == "cpu" else B) % B
        with exact():
            return F.normalize(encode(batch[rows].to(self.device))[:B].double(), dim=-1).cpu()


def load_clip(name: str, device: str = "cpu") -> Clip:
    """The CLIP of this name.

    A folder is read with transformers, and nothing is downloaded. ARCHITECTURE:FILE is open_clip's architecture with
    the weights in a file. ARCHITECTURE/TAG is open_clip's with its own weights, which are downloaded once. Another
    ORGANISATION/MODEL is downloaded from the Hugging Face hub. TAGS and COMMITS name the models that
    are the same for everybody.
    The activation is that of the weights: OpenAI's and some others were trained with QuickGELU. A file does not hold
    it; there it is QuickGELU if the architecture's name ends in -quickgelu.
    Raises InputError if it is none of these, cannot be downloaded, or is invalid; no code in it is ever run.
    """
    if name and Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():  # without it, transformers would use the original's sizes
            raise InputError(f"{name} has no config.json; {EXPECTED}")
        check_layers(Path(name) / "config.json")
        return _transformers_clip(name, device, local_files_only=True)
    if name and Path(name).exists():
        raise InputError(f"{name} is a file of unknown architecture; give the model as ARCHITECTURE:{name}", "clip")
    architecture, colon, file = name.partition(":")
    if colon:
        if architecture not in open_clip.list_models():
            raise InputError(
                f"{name!r} is not a CLIP model: open_clip has no architecture {architecture!r}; {EXPECTED}", "clip"
            )
        if not Path(file).is_file():
            raise InputError(f"{name!r} is not a CLIP model: {file!r} is not a file; {EXPECTED}", "clip")
        # resolved, so that it is not a tag of the architecture
        return _open_clip(architecture, str(Path(file).resolve()), device, force_quick_gelu=False)
    architecture, _, tag = name.partition("/")
    if architecture in open_clip.list_models():
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        if tag not in tags:
            raise InputError(
                f"{name!r} is not a CLIP model: the tags of {architecture} are {', '.join(tags) or 'none'}", "clip"
            )
        quick_gelu = bool(open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu", False))
        return _open_clip(architecture, _fetched(TAGS[name]) if name in TAGS else tag, device, quick_gelu)
    if HUB_NAME.fullmatch(name):
        return _transformers_clip(name, device, local_files_only=False)
    raise InputError(f"{name!r} is not a CLIP model; {EXPECTED}", "clip")


def clip_scores(
    clip: Clip, drawn_u8: Sequence[ImageU8], images_u8: Sequence[ImageU8], sentences: Sequence[str]
) -> tuple[float, float]:
    """Mean of 100 * cosine between every drawn and every concept image, and of logit_scale * cosine to its sentence."""

    def features(pictures: Sequence[ImageU8]) -> Tensor:
        return clip.image_features(torch.stack([clip.preprocess(Image.fromarray(picture)) for picture in pictures]))

    drawn = features(drawn_u8)
    text = clip.text_features(sentences)
    return float(100 * (drawn @ features(images_u8).T).mean()), float(clip.logit_scale * (drawn * text).sum(1).mean())


def openai_templates() -> list[str]:
    """The 80 sentences with which OpenAI classified ImageNet's images, each with {object} in it."""
    return [template("{object}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]


def _fetched(weights: Weights) -> str:
    """The path of the weights in the user's cache of the Hub, after a download if they are not there."""
    from huggingface_hub import hf_hub_download

    try:
        with _quiet():
            path = hf_hub_download(weights.repository, weights.file, revision=weights.commit)
        with Path(path).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except Exception as error:  # whatever a network can do wrong
        raise InputError(
            f"{weights.file} of {weights.repository} cannot be downloaded ({_reason(error)}); connect to the network, "
            "or give the model as ARCHITECTURE:FILE",
            "clip",
        ) from None
    if found != weights.sha256:
        raise InputError(
            f"{path} is not the recorded file of {weights.repository} (SHA-256 {weights.sha256[:12]}.. expected, "
            f"{found[:12]}.. found); remove it, and run this again",
            "clip",
        )
    return path


def _open_clip(architecture: str, weights: str, device: str, force_quick_gelu: bool) -> Clip:
    try:
        with _quiet():
            model, preprocess = open_clip.create_model_from_pretrained(
                architecture, weights, force_quick_gelu=force_quick_gelu, weights_only=True
            )
            tokenize = open_clip.get_tokenizer(architecture)
    except Exception as error:  # the libraries raise nearly every exception for invalid files
        if what := leftover(Path(weights)):
            own = f"; for OpenAI's own weights give {architecture}/openai" if "TorchScript" in what else ""
            raise InputError(f"{weights} {what}{own}", "clip") from None
        raise InputError(f"{weights} cannot be loaded as {architecture} ({_reason(error)}); {EXPECTED}") from None
    _freeze(model, device, weights)
    return Clip(preprocess, tokenize, model.encode_image, model.encode_text, float(model.logit_scale.exp()), device)


def _transformers_clip(name: str, device: str, local_files_only: bool) -> Clip:
    where: dict[str, Any] = {"local_files_only": local_files_only}
    if not local_files_only and name in COMMITS:
        where["revision"] = COMMITS[name]
    try:
        with _quiet():
            model, info = CLIPModel.from_pretrained(
                name, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **where
            )
            tokenizer = CLIPTokenizer.from_pretrained(name, **where)
            # PIL's, as in transformers 4: today's default resizes differently, by up to one level of 255.
            processor = CLIPImageProcessorPil.from_pretrained(name, **where)
    except Exception as error:
        if found := leftovers_in(Path(name)):
            raise InputError(f"{name} cannot be loaded as a CLIP model: {found}") from None
        raise InputError(f"{name} cannot be loaded as a CLIP model ({_reason(error)}); {EXPECTED}") from None
    # transformers would continue with random numbers for missing weights, and with an empty vocabulary.
    if absent := sorted(info["missing_keys"] | {key for key, *_ in info["mismatched_keys"]}):
        raise InputError(f"{name} lacks weights of the right shape: {shortened(absent)}; download it again")
    length, words = (int(getattr(model.config.text_config, key)) for key in ("max_position_embeddings", "vocab_size"))
    if len(tokenizer) != words:
        raise InputError(f"{name} has a tokenizer of {len(tokenizer)} words for a model of {words}; download it again")
    _freeze(model, device, name)

    def preprocess(image: Image.Image) -> Tensor:
        pixels: Tensor = processor(image, return_tensors="pt").pixel_values[0]
        return pixels

    def tokenize(sentences: Sequence[str]) -> Tensor:
        ids: Tensor = tokenizer(
            list(sentences), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).input_ids
        return ids

    clip = Clip(
        preprocess,
        tokenize,
        lambda pixels: _tensor(model.get_image_features(pixel_values=pixels)),
        lambda ids: _tensor(model.get_text_features(input_ids=ids)),
        float(model.logit_scale.exp()),
        device,
    )
    try:
        clip.image_features(preprocess(Image.new("RGB", (3, 2)))[None])
    except Exception as error:  # e.g. if pictures are prepared for another model
        raise InputError(
            f"{name} is a CLIP model whose parts do not fit together ({_reason(error)}); download it again"
        ) from None
    return clip


def _tensor(output: Any) -> Tensor:
    """transformers 5 wraps the projected features in an object."""
    found: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return found


def _freeze(model: nn.Module, device: str, name: str) -> None:
    if broken := [key for key, value in model.state_dict().items() if not bool(value.isfinite().all())]:
        raise InputError(f"{name} has weights that are not finite: {shortened(broken)}; download it again")
    model.to(device).eval().requires_grad_(False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Load without the libraries' own reports, warnings and progress bars."""
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


def _reason(error: Exception) -> str:
    if switches_off(str(error)):
        return "its weights are not plain tensors, and nothing else is unpickled"
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
