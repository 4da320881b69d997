"""Stable Diffusion v1.4 at its exact size with random weights, to measure time and memory on a GPU."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from hw2.concepts.generate import ConceptSampler
from hw2.concepts.single_file import SingleFileConfig, sd_v1_tokenizer
from hw2.concepts.stable_diffusion import StableDiffusion, WordTable
from hw2.diffusion.schedule import NoiseSchedule, scaled_linear_betas


def random_sd_v1(dtype: torch.dtype, batch_size: int = 5) -> ConceptSampler:
    """A sampler with the default number of steps, on the GPU; all weights are of type `dtype`."""
    config = SingleFileConfig()
    torch.manual_seed(0)
    with torch.device("cuda"):
        unet, vae = UNet2DConditionModel(**config.unet), AutoencoderKL(**config.vae)
        text_encoder = CLIPTextModel(CLIPTextConfig(**config.text_encoder))
    words = WordTable(text_encoder.get_input_embeddings().weight)
    text_encoder.set_input_embeddings(words)
    for network in (unet, vae, text_encoder):
        nn.Module.to(network, dtype=dtype).eval().requires_grad_(False)
    model = StableDiffusion(
        sd_v1_tokenizer(), text_encoder, vae, unet, NoiseSchedule(scaled_linear_betas()), "epsilon", words
    )
    return ConceptSampler(model, batch_size=batch_size)
