"""A Stable Diffusion of random weights, small enough to be built anew by each test."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WORDS = ("a", "dog", "cat", "red", "on", "the", "beach", "and", "in", "style", "of", "picture", "photo", "drawing")
"""Words that are one token each; every other word is spelled."""


def tiny_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer with a vocabulary of letters, digits and the few words of `WORDS`."""
    letters = "abcdefghijklmnopqrstuvwxyz.,<>0123456789_"
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
    pieces = [*letters, *(f"{c}</w>" for c in letters), *(a + b for a, b in merges)]
    names = [*dict.fromkeys(pieces), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={name: i for i, name in enumerate(names)}, merges=list(dict.fromkeys(merges)), model_max_length=77
    )


@cache
def tiny_parts(seed: int = 0) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel]:
    """U-Net, autoencoder and text encoder: 8x8 latents, 16x16 pixels, token embeddings of 32 numbers."""
    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, norm_num_groups=8, attention_head_dim=2,
            block_out_channels=(16, 32), cross_attention_dim=32, down_block_types=("CrossAttnDownBlock2D",) * 2,
            up_block_types=("CrossAttnUpBlock2D",) * 2,
        )  # fmt: skip
        vae = AutoencoderKL(
            in_channels=3, out_channels=3, latent_channels=4, sample_size=16, layers_per_block=1, norm_num_groups=4,
            block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, scaling_factor=0.5,
        )  # fmt: skip
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=2, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )  # fmt: skip
        for network in (unet, text):  # larger than as initialised, so that prompts change the image
            for parameter in network.parameters():
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=1.5 / parameter[0].numel() ** 0.5)
    return unet.eval(), vae.eval(), text.eval()


def save_tiny_stable_diffusion(folder: Path, prediction_type: str = "epsilon") -> Path:
    """Write the tiny model into a folder, in diffusers' layout; return the folder."""
    unet, vae, text = tiny_parts()
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    text.save_pretrained(folder / "text_encoder")
    tiny_tokenizer().save_pretrained(folder / "tokenizer")
    config = {
        "_class_name": "PNDMScheduler", "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "prediction_type": prediction_type, "set_alpha_to_one": False,
        "steps_offset": 1, "skip_prk_steps": True,
    }  # fmt: skip
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    return folder
