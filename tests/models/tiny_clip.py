"""CLIP models of random weights, small enough to be built anew by each test."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import torch
from open_clip import model as open_clip_model
from torch import nn
from transformers import CLIPConfig, CLIPModel
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from tests.models.tiny_sd import tiny_tokenizer

TINY_OPEN_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
"""An architecture in the form of open_clip's configuration files; its vocabulary is CLIP's own."""


def _enlarge_weights(network: nn.Module, seed: int) -> None:
    """Draw larger weights than the usual initialisation, which makes the features of all inputs nearly equal."""
    g = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=g)
        if parameter.ndim > 1:
            parameter.data = noise * (1.5 / parameter[0].numel() ** 0.5)
        elif name.endswith(("bias", "class_embedding")):
            parameter.data = noise


def tiny_clip(seed: int = 0) -> CLIPModel:
    """A CLIP of transformers for images of 32x32 pixels and the words of `tiny_tokenizer`."""
    tokenizer = tiny_tokenizer()
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = CLIPModel(
        CLIPConfig(
            text_config={**size, **special, "vocab_size": len(tokenizer), "max_position_embeddings": 32},
            vision_config={**size, "image_size": 32, "patch_size": 16},
            projection_dim=16,
        )
    )
    _enlarge_weights(model, seed)
    return model.eval().requires_grad_(False)


def save_tiny_clip(folder: Path, seed: int = 0) -> Path:
    """Write a `tiny_clip` with its tokenizer and preprocessing into a folder, in transformers' layout; return it."""
    tiny_clip(seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    preprocessor = {
        "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True, "do_resize": True, "resample": 3,
        "size": {"shortest_edge": 32}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32},
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": OPENAI_CLIP_MEAN, "image_std": OPENAI_CLIP_STD,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def register_tiny_open_clip(folder: Path) -> None:
    """Register the architectures tiny-test and tiny-test-quickgelu with open_clip; `folder` holds their files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny-test.json").write_text(json.dumps(TINY_OPEN_CLIP))
    (folder / "tiny-test-quickgelu.json").write_text(json.dumps({**TINY_OPEN_CLIP, "quick_gelu": True}))
    open_clip.add_model_config(folder)


def tiny_open_clip(seed: int = 0, **options: object) -> open_clip.CLIP:
    """An open_clip model of the architecture `TINY_OPEN_CLIP`; options are those of open_clip's class CLIP."""
    model = open_clip_model.CLIP(**TINY_OPEN_CLIP, **options)
    _enlarge_weights(model, seed)
    return model.eval().requires_grad_(False)
