"""Stable Diffusion v1 as CompVis published it: one file with all networks, read without any hub.

The names in that file are those of CompVis' `ldm` modules; they are mapped to the names of diffusers' networks.
"""

from __future__ import annotations

import gzip
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from torch.utils.serialization import config as serialization
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from hw2.concepts.stable_diffusion import StableDiffusion, assembled
from hw2.diffusion.schedule import NoiseSchedule, scaled_linear_betas
from hw2.errors import InputError
from hw2.files.torch_file import read_torch_file
from hw2.files.weights import assign_weights, describe_keys, is_safetensors, read_weights

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
UNUSED = re.compile(r"[^.]+|model_ema\..*|cond_stage_model\.transformer\.text_model\.embeddings\.position_ids")
"""Not used: the noise schedule (names without a dot), running averages, and the numbers 0 to 76."""

LIGHTNING = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
MERGES = 49152 - 256 - 2
"""OpenAI's file lists more merges than CLIP uses (openai/CLIP, simple_tokenizer.py)."""

SD_V1_UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
SD_V1_VAE = {
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
SD_V1_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}


@dataclass(frozen=True)
class SingleFileConfig:
    """How to build the three networks, which the file does not hold; by default those of v1.4.

    Each holds the arguments of diffusers' or transformers' class of that network (CompVis: v1-inference.yaml).
    """

    unet: dict[str, Any] = field(default_factory=lambda: dict(SD_V1_UNET))
    vae: dict[str, Any] = field(default_factory=lambda: dict(SD_V1_VAE))
    text_encoder: dict[str, Any] = field(default_factory=lambda: dict(SD_V1_TEXT))


class _ModelCheckpoint:
    """Replaces the one class of PyTorch Lightning that the original file mentions; nothing of it is used."""


def read_single_file(
    path: Path, config: SingleFileConfig | None = None
) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel]:
    """The (U-Net, autoencoder, text encoder) of `sd-v1-4.ckpt` or its like as `.safetensors`; float32, frozen, on CPU.

    Every tensor of the file is used exactly once, except those that only training needs.
    Raises InputError if the file is of another kind, would run code, or has missing, extra, misshapen, non-floating or
    non-finite entries; the message names some.
    """
    tensors = _read_tensors(path)
    with init_empty_weights():
        unet, vae, text_encoder = _networks(config or SingleFileConfig())
    layers, levels = unet.config.layers_per_block, len(vae.config.block_out_channels)
    with_words = {i for i, kind in enumerate(unet.config.up_block_types) if kind.startswith("CrossAttn")}
    _fill(unet, UNET, tensors, path, lambda name: unet_to_ldm(name, layers, with_words))
    _fill(vae, VAE, tensors, path, lambda name: vae_to_ldm(name, levels))
    # transformers drops or keeps the prefix, depending on its version
    _fill(text_encoder, TEXT, tensors, path, lambda name: f"text_model.{name.removeprefix('text_model.')}")
    return unet, vae, text_encoder


def build_stable_diffusion(
    config: SingleFileConfig | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> StableDiffusion:
    """Stable Diffusion v1 of random weights, which are drawn on `device`: it costs the time and memory of v1.4."""
    with torch.device(device):
        networks = _networks(config or SingleFileConfig())
    return assembled(*networks, sd_v1_tokenizer(), NoiseSchedule(scaled_linear_betas()), device=device, dtype=dtype)


def _networks(config: SingleFileConfig) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel]:
    unet, vae = UNet2DConditionModel(**config.unet), AutoencoderKL(**config.vae)
    return unet, vae, CLIPTextModel(CLIPTextConfig(**config.text_encoder))


def sd_v1_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer as v1 uses it, at most 77 tokens with start and end; from the word list that open_clip ships."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None
    assert package.origin is not None
    with gzip.open(Path(package.origin).parent / VOCABULARY, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : MERGES + 1]
    merges = [(first, second) for first, second in (line.split() for line in lines)]
    # OpenAI's vocabulary has the 256 signs for bytes in the order of their code points.
    signs = sorted(ByteLevel.alphabet())
    words = [*signs, *(f"{sign}</w>" for sign in signs), *(a + b for a, b in merges)]
    vocabulary = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def unet_to_ldm(name: str, layers: int, with_words: set[int]) -> str:
    """The name in CompVis' openaimodel.py of a tensor of UNet2DConditionModel.

    There all blocks are numbered consecutively. Each level's `layers` blocks are followed by one that halves the size,
    and a level on the way up has one block more. with_words: the levels on the way up that have cross-attention, which
    shifts the upsampler.
    """
    n = layers + 1
    places: list[tuple[str, Callable[[int, int], str]]] = [
        (r"down_blocks\.(\d+)\.resnets\.(\d+)\.", lambda b, i: f"input_blocks.{b * n + i + 1}.0."),
        (r"down_blocks\.(\d+)\.attentions\.(\d+)\.", lambda b, i: f"input_blocks.{b * n + i + 1}.1."),
        (r"down_blocks\.(\d+)\.downsamplers\.(\d+)\.conv\.", lambda b, _: f"input_blocks.{b * n + n}.0.op."),
        (r"(mid_block)\.resnets\.(\d+)\.", lambda _, i: f"middle_block.{2 * i}."),
        (r"(mid_block)\.attentions\.(\d+)\.", lambda _, i: f"middle_block.{2 * i + 1}."),
        (r"up_blocks\.(\d+)\.resnets\.(\d+)\.", lambda b, i: f"output_blocks.{b * n + i}.0."),
        (r"up_blocks\.(\d+)\.attentions\.(\d+)\.", lambda b, i: f"output_blocks.{b * n + i}.1."),
        (
            r"up_blocks\.(\d+)\.upsamplers\.(\d+)\.conv\.",
            lambda b, _: f"output_blocks.{b * n + layers}.{2 if b in with_words else 1}.conv.",
        ),
    ]
    for pattern, place in places:
        if match := re.match(pattern, name):
            level, index = (int(group) if group.isdigit() else 0 for group in match.groups())
            rest = name[match.end() :]
            return place(level, index) + (_renamed(rest, UNET_BLOCK) if ".resnets." in name else rest)
    return _renamed(name, UNET_ENDS)


def vae_to_ldm(name: str, levels: int) -> str:
    """The name in CompVis' autoencoder of a tensor of AutoencoderKL; there the decoder's levels are reversed."""
    name = re.sub(r"up_blocks\.(\d+)\.", lambda match: f"up.{levels - 1 - int(match[1])}.", name)
    name = re.sub(r"mid_block\.resnets\.(\d+)\.", lambda match: f"mid.block_{int(match[1]) + 1}.", name)
    return _renamed(name, VAE_PARTS)


UNET_ENDS = {
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "conv_in.": "input_blocks.0.0.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
}
UNET_BLOCK = {
    "norm1.": "in_layers.0.",
    "conv1.": "in_layers.2.",
    "time_emb_proj.": "emb_layers.1.",
    "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.",
    "conv_shortcut.": "skip_connection.",
}
VAE_PARTS = {
    "down_blocks.": "down.",
    "resnets.": "block.",
    "downsamplers.0.": "downsample.",
    "upsamplers.0.": "upsample.",
    "mid_block.attentions.0.": "mid.attn_1.",
    "group_norm.": "norm.",
    "to_q.": "q.",
    "to_k.": "k.",
    "to_v.": "v.",
    "to_out.0.": "proj_out.",
    "conv_shortcut.": "nin_shortcut.",
    "conv_norm_out.": "norm_out.",
}


def _renamed(name: str, parts: dict[str, str]) -> str:
    for new, old in parts.items():
        name = name.replace(new, old)
    return name


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a v1 file that inference needs, by their original names."""
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected Stable Diffusion v1 in one file, e.g. sd-v1-4.ckpt")
    if is_safetensors(path):
        loaded: Any = read_weights(path)[1]
    else:
        allowed: list[Any] = [(_ModelCheckpoint, LIGHTNING)]
        # Memory mapping avoids a second copy of the file's 4 GB; only today's format, a zip archive, can be mapped.
        with path.open("rb") as file:
            archive = file.read(4) == b"PK\x03\x04"
        mapped = serialization.patch("load.mmap", archive)  # type: ignore[attr-defined]
        with torch.serialization.safe_globals(allowed), mapped:
            loaded = read_torch_file(path)
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not any(str(name).startswith(UNET) for name in loaded):
        raise InputError(
            f"{path} holds {describe_keys(loaded)}; expected Stable Diffusion v1 in one file, e.g. sd-v1-4.ckpt, "
            f"whose tensors are called {UNET}.."
        )
    tensors = {str(name): value for name, value in loaded.items() if not UNUSED.fullmatch(str(name))}
    if others := [name for name in tensors if not name.startswith((UNET, VAE, TEXT))]:
        raise InputError(
            f"{path} has {others[0]}, which Stable Diffusion v1 does not have; expected v1, e.g. sd-v1-4.ckpt"
        )
    if others := [name for name, value in tensors.items() if not isinstance(value, Tensor)]:
        raise InputError(f"{path} has {others[0]}, which is not a tensor; download it again")
    return tensors


def _fill(
    network: nn.Module, prefix: str, tensors: dict[str, Tensor], path: Path, original: Callable[[str], str]
) -> None:
    """Give a network those of the file's tensors whose names start with prefix, each under its new name."""
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    found = {}
    for name, expected in network.state_dict().items():
        if original(name) in own:
            value = own.pop(original(name))
            # Attention of the original autoencoder is a convolution over single pixels.
            found[name] = value.flatten(1) if (value.ndim, expected.ndim) == (4, 2) else value
    leftover = {prefix + name: value for name, value in own.items()}
    assign_weights(network, found | leftover, path, type(network).__name__)
    network.eval().requires_grad_(False)
