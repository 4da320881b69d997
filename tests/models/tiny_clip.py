"""CLIP models of random weights, small enough to be made anew by a test."""

import json
from pathlib import Path

import open_clip
import torch
from open_clip import model as open_clip_model
from transformers import CLIPConfig, CLIPModel
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from tests.models.tiny_sd import tiny_tokenizer

TINY_OPEN_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def _loud(network: torch.nn.Module, seed: int) -> None:
    """As initialised, all features would be nearly the same."""
    g = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=g)
        if parameter.ndim > 1:
            parameter.data = noise * (1.5 / parameter[0].numel() ** 0.5)
        elif name.endswith(("bias", "class_embedding")):
            parameter.data = noise


def tiny_clip(seed: int = 0) -> CLIPModel:
    """A transformers CLIP for 32x32 pixels and the words of `tiny_tokenizer`."""
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
    _loud(model, seed)
    return model.eval().requires_grad_(False)


def save_tiny_clip(folder: Path, seed: int = 0) -> Path:
    """Write it as transformers does."""
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
    """Make the architectures tiny-test and tiny-test-quickgelu known to open_clip."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny-test.json").write_text(json.dumps(TINY_OPEN_CLIP))
    (folder / "tiny-test-quickgelu.json").write_text(json.dumps({**TINY_OPEN_CLIP, "quick_gelu": True}))
    open_clip.add_model_config(folder)


def tiny_open_clip(seed: int = 0, **options: object) -> open_clip.CLIP:
    """An open_clip model of that architecture."""
    model = open_clip_model.CLIP(**TINY_OPEN_CLIP, **options)
    _loud(model, seed)
    return model.eval().requires_grad_(False)
