"""Other implementations to compare with: diffusers' classes, and literal float64 twins written from the papers.

This file imports neither `hw2` nor `grading`, so that no mistake of theirs can hide here (tests/test_oracles.py).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from PIL import Image
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

Scheduler = TypeVar("Scheduler", DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler)


def diffusers_ddim_scheduler(num_inference_steps: int, **changes: object) -> DDIMScheduler:
    """diffusers' DDIM set to the homework's recipe (SPEC section 5)."""
    settings = {
        "num_train_timesteps": 1000,
        "beta_start": 1e-4,
        "beta_end": 2e-2,
        "beta_schedule": "linear",
        "clip_sample": True,
        "set_alpha_to_one": False,  # abar of "before timestep 0" is abar_0
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "prediction_type": "epsilon",
    }
    return _in_float64(DDIMScheduler(**{**settings, **changes}), num_inference_steps)


def diffusers_ddpm_scheduler(num_inference_steps: int, **changes: object) -> DDPMScheduler:
    """diffusers' DDPM with the schedule of the homework and without clipping."""
    settings = {
        "num_train_timesteps": 1000,
        "beta_start": 1e-4,
        "beta_end": 2e-2,
        "beta_schedule": "linear",
        "clip_sample": False,
        "timestep_spacing": "leading",
        "steps_offset": 0,
    }
    return _in_float64(DDPMScheduler(**{**settings, **changes}), num_inference_steps)


def diffusers_dpm_solver(num_inference_steps: int, **changes: object) -> DPMSolverMultistepScheduler:
    """diffusers' DPM-Solver++ 2M with the schedule of the homework."""
    settings = {
        "num_train_timesteps": 1000,
        "beta_start": 1e-4,
        "beta_end": 2e-2,
        "beta_schedule": "linear",
        "algorithm_type": "dpmsolver++",
        "solver_order": 2,
        "solver_type": "midpoint",
        "final_sigmas_type": "zero",
        "timestep_spacing": "trailing",
    }
    return _in_float64(DPMSolverMultistepScheduler(**{**settings, **changes}), num_inference_steps)


def dpm_solver_pp_2m_twin(
    network: Callable[[Tensor, Tensor], Tensor], x: Tensor, timesteps: list[int], abars: list[float], clip: float
) -> list[Tensor]:
    """DPM-Solver++ algorithm 2 for a noise-predicting network, line by line with the paper's letters."""
    alpha, sigma = [math.sqrt(a) for a in abars], [math.sqrt(1 - a) for a in abars]
    lam = [math.log(a) - math.log(s) for a, s in zip(alpha, sigma, strict=True)]
    path: list[Tensor] = []
    q: list[Tensor] = []
    for i, t in enumerate(timesteps, start=1):
        eps = network(x, torch.full((len(x),), t))
        q.append(((x - sigma[i - 1] * eps) / alpha[i - 1]).clamp(-clip, clip))
        h = lam[i] - lam[i - 1]
        if i == 1:
            big_d = q[0]
        else:
            r = (lam[i - 1] - lam[i - 2]) / h
            big_d = (1 + 1 / (2 * r)) * q[i - 1] - 1 / (2 * r) * q[i - 2]
        x = sigma[i] / sigma[i - 1] * x - alpha[i] * (math.exp(-h) - 1) * big_d
        path.append(x)
    return path


def _in_float64(scheduler: Scheduler, num_inference_steps: int) -> Scheduler:
    """Set alphas_cumprod in float64: diffusers keeps it in float32, which has too few digits for these tests."""
    scheduler.alphas_cumprod = torch.tensor(alphas_cumprod_twin(), dtype=torch.float64)
    if isinstance(scheduler, DDIMScheduler) and not scheduler.config.set_alpha_to_one:
        scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy's, at diffusers' conversions
        scheduler.set_timesteps(num_inference_steps)
    return scheduler


class FaceNetworkSize(Protocol):
    """The sizes that a face network is built with, whatever class holds them."""

    @property
    def channel(self) -> int:
        """Width of the first level."""

    @property
    def channel_multipliers(self) -> tuple[int, ...]:
        """Factor of `channel` for each level, from the full resolution down."""

    @property
    def num_res_blocks(self) -> int:
        """Residual blocks of a level on the way down."""

    @property
    def attention_levels(self) -> tuple[int, ...]:
        """Indices of the levels with attention."""

    @property
    def num_groups(self) -> int:
        """Groups of every group norm."""


def diffusers_face_unet(weights: Mapping[str, Tensor], config: FaceNetworkSize) -> UNet2DModel:
    """diffusers' UNet2DModel with a face network's weights: the same function, computed by other code."""
    attention = [level in config.attention_levels for level in range(len(config.channel_multipliers))]
    network = UNet2DModel(
        in_channels=3,
        out_channels=3,
        block_out_channels=tuple(config.channel * m for m in config.channel_multipliers),
        layers_per_block=config.num_res_blocks,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attention),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)),
        norm_num_groups=config.num_groups,
        norm_eps=1e-5,
        attention_head_dim=None,
        flip_sin_to_cos=False,
        freq_shift=0,
        downsample_padding=1,
    )
    state = {}
    layers, attentions = _face_layers(config)
    for theirs, ours in layers.items():
        for kind in ("weight", "bias"):
            if f"{ours}.{kind}" in weights:  # a block has `skip` only where its width changes
                state[f"{theirs}.{kind}"] = weights[f"{ours}.{kind}"]
    for theirs, ours in attentions.items():
        state.update(_attention_weights(weights, theirs, ours))
    network.load_state_dict(state, strict=True)
    return network.eval().requires_grad_(False)


def _face_layers(config: FaceNetworkSize) -> tuple[dict[str, str], dict[str, str]]:
    """(diffusers' name of each layer -> the official checkpoint's, the same for each attention)."""
    levels = range(len(config.channel_multipliers))
    layers = {
        "time_embedding.linear_1": "time.1",
        "time_embedding.linear_2": "time.3",
        "conv_in": "down1",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    attentions: dict[str, str] = {}

    def block(theirs: str, attention: str | None, ours: str) -> None:
        parts = {"norm1": "norm1", "conv1": "conv1", "time_emb_proj": "time.1", "norm2": "norm2", "conv2": "conv2"}
        for part, name in {**parts, "conv_shortcut": "skip"}.items():
            layers[f"{theirs}.{part}"] = f"{ours}.resblocks.{name}"
        if attention is not None:
            layers[f"{attention}.group_norm"] = f"{ours}.attention.norm"
            attentions[attention] = f"{ours}.attention"

    def block_of_level(theirs: str, i: int, level: int, ours: str) -> None:
        block(f"{theirs}.resnets.{i}", f"{theirs}.attentions.{i}" if level in config.attention_levels else None, ours)

    number = 1
    for level in levels:
        for i in range(config.num_res_blocks):
            number += 1
            block_of_level(f"down_blocks.{level}", i, level, f"down{number}")
        if level < levels[-1]:
            number += 1
            layers[f"down_blocks.{level}.downsamplers.0.conv"] = f"down{number}.0"
    block("mid_block.resnets.0", "mid_block.attentions.0", "mid1")
    block("mid_block.resnets.1", None, "mid2")
    number = 0
    for position, level in enumerate(reversed(levels)):
        for i in range(config.num_res_blocks + 1):
            number += 1
            block_of_level(f"up_blocks.{position}", i, level, f"up{number}")
        if level > 0:
            number += 1
            layers[f"up_blocks.{position}.upsamplers.0.conv"] = f"up{number}.1"
    return layers, attentions


def _attention_weights(weights: Mapping[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    """The weights of one attention under diffusers' names: 1x1 convolutions become linear layers, q, k and v parted."""
    found = {}
    for kind in ("weight", "bias"):
        qkv = [part.flatten(1) if kind == "weight" else part for part in weights[f"{ours}.qkv.{kind}"].chunk(3)]
        for name, part in zip(("to_q", "to_k", "to_v"), qkv, strict=True):
            found[f"{theirs}.{name}.{kind}"] = part
        out = weights[f"{ours}.out.{kind}"]
        found[f"{theirs}.to_out.0.{kind}"] = out.flatten(1) if kind == "weight" else out
    return found


def alphas_cumprod_twin(num_train_timesteps: int = 1000, start: float = 1e-4, end: float = 2e-2) -> list[float]:
    """DDPM section 2, in Python floats, one product at a time."""
    result: list[float] = []
    product = 1.0
    for t in range(num_train_timesteps):
        product *= 1 - (start + (end - start) * t / (num_train_timesteps - 1))
        result.append(product)
    return result


def ddim_twin(
    x_t: np.ndarray, eps: np.ndarray, a_t: float, a_prev: float, eta: float, z: np.ndarray, clip: float | None
) -> np.ndarray:
    """DDIM equations 12 and 16, word for word, float64."""
    sigma = eta * math.sqrt((1 - a_prev) / (1 - a_t)) * math.sqrt(1 - a_t / a_prev)
    predicted_x0 = (x_t - math.sqrt(1 - a_t) * eps) / math.sqrt(a_t)
    if clip is not None:
        predicted_x0 = np.clip(predicted_x0, -clip, clip)
    direction_pointing_to_x_t = math.sqrt(1 - a_prev - sigma * sigma) * eps
    return math.sqrt(a_prev) * predicted_x0 + direction_pointing_to_x_t + sigma * z


def ddpm_posterior_twin(x_t: np.ndarray, x_0: np.ndarray, a_t: float, a_prev: float) -> tuple[np.ndarray, float]:
    """DDPM equation 7: mean and variance of q(x_prev | x_t, x_0), by Bayes' rule for two Gaussians, float64.

    Prior x_prev ~ N(sqrt(a_prev) x_0, 1 - a_prev); likelihood x_t ~ N(sqrt(alpha) x_prev, 1 - alpha).
    """
    alpha = a_t / a_prev
    precision = 1 / (1 - a_prev) + alpha / (1 - alpha)
    mean = (math.sqrt(a_prev) * x_0 / (1 - a_prev) + math.sqrt(alpha) * x_t / (1 - alpha)) / precision
    return mean, 1 / precision


def mse_twin(a: list[list[list[int]]], b: list[list[list[int]]]) -> float:
    """Mean squared difference of two images as nested lists of integers, one number at a time."""
    squares = [
        (int(x) - int(y)) ** 2
        for row_a, row_b in zip(a, b, strict=True)
        for pixel_a, pixel_b in zip(row_a, row_b, strict=True)
        for x, y in zip(pixel_a, pixel_b, strict=True)
    ]
    return sum(squares) / len(squares)


def add_noise_twin(x_0: np.ndarray, noise: np.ndarray, abar: float) -> np.ndarray:
    """DDPM equation 4."""
    return math.sqrt(abar) * x_0 + math.sqrt(1 - abar) * noise


def v_prediction_twin(x_t: np.ndarray, v: np.ndarray, abar: float) -> tuple[np.ndarray, np.ndarray]:
    """Salimans & Ho 2022, appendix D: with cos(phi) = sqrt(abar), (x_0, eps) is (x_t, v) turned back by phi."""
    phi = math.acos(math.sqrt(abar))
    return math.cos(phi) * x_t - math.sin(phi) * v, math.sin(phi) * x_t + math.cos(phi) * v


def slerp_twin(start: np.ndarray, end: np.ndarray, alpha: float) -> np.ndarray:
    """Rotate the unit vector start by alpha theta towards the unit vector end, in their plane (Gram and Schmidt)."""
    towards_end = end - (end @ start) * start
    towards_end /= np.linalg.norm(towards_end)
    theta = math.atan2(float(end @ towards_end), float(end @ start))
    found: np.ndarray = math.cos(alpha * theta) * start + math.sin(alpha * theta) * towards_end
    return found


def lerp_twin(start: np.ndarray, end: np.ndarray, alpha: float) -> np.ndarray:
    """The point that divides the line from start to end in the ratio alpha to 1 - alpha."""
    found: np.ndarray = start + alpha * (end - start)
    return found


def psnr_twin(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal to noise ratio in dB, from the root of the mean square."""
    return 20 * math.log10(255 / math.sqrt(mse_twin(a.tolist(), b.tolist())))


def face_to_u8_twin(face: np.ndarray) -> list[list[list[int]]]:
    """SPEC section 5: scale by the image's own minimum and maximum, round half up; (3, H, W) -> H W 3."""
    low, high = float(face.min()), float(face.max())
    scaled = [[[(float(x) - low) / (high - low) for x in row] for row in channel] for channel in face]
    height, width = face.shape[1:]
    return [[[int(scaled[c][y][x] * 255 + 0.5) for c in range(3)] for x in range(width)] for y in range(height)]


def ssim_twin(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004, equation 13, over every 7x7 window that fits, channel by channel, one window at a time."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    scores = []
    for channel in range(a.shape[2]):
        for y in range(a.shape[0] - 6):
            for x in range(a.shape[1] - 6):
                u = a[y : y + 7, x : x + 7, channel].astype(float).ravel()
                v = b[y : y + 7, x : x + 7, channel].astype(float).ravel()
                (var_u, cov), (_, var_v) = np.cov(u, v)
                mean_u, mean_v = u.mean(), v.mean()
                luminance = (2 * mean_u * mean_v + c1) / (mean_u**2 + mean_v**2 + c1)
                scores.append(luminance * (2 * cov + c2) / (var_u + var_v + c2))
    return float(np.mean(scores))


def frechet_distance_by_matrix_root(a: np.ndarray, b: np.ndarray) -> float:
    """The distance of two sets of features by the usual matrix square root, as the paper's own code does it."""
    from scipy.linalg import sqrtm

    m1, m2 = a.mean(axis=0), b.mean(axis=0)
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(c1 @ c2)
    return float(((m1 - m2) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * np.trace(np.real(root)))


@torch.no_grad()
def clip_image_features_twin(image: Image.Image, model: CLIPModel, size: int) -> Tensor:
    """Features (1, D) of one image: transformers 4's preprocessing for CLIP written out, then the model's own parts."""
    image = image.convert("RGB")
    short = min(image.size)
    image = image.resize([size if s == short else int(size * s / short) for s in image.size], Image.Resampling.BICUBIC)
    left, top = ((s - size) // 2 for s in image.size)
    pixels = np.asarray(image)[top : top + size, left : left + size] / 255
    pixels = (pixels - np.array(OPENAI_CLIP_MEAN)) / np.array(OPENAI_CLIP_STD)
    vision = model.vision_model(torch.from_numpy(pixels).float().permute(2, 0, 1)[None])
    features: Tensor = model.visual_projection(vision.pooler_output)
    return features


@torch.no_grad()
def clip_scores_twin(
    images: Sequence[Image.Image], references: Sequence[Image.Image], sentence: str, folder: Path, size: int
) -> list[tuple[float, float]]:
    """The official (image score, text score) of each image, one image, reference and cosine at a time."""
    model, tokenizer = CLIPModel.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    length = model.config.text_config.max_position_embeddings
    ids = tokenizer([sentence], truncation=True, max_length=length, return_tensors="pt").input_ids
    text = model.text_projection(model.text_model(ids).pooler_output)
    known = [clip_image_features_twin(reference, model, size) for reference in references]
    scores = []
    for image in images:
        features = clip_image_features_twin(image, model, size)
        cosines = [torch.cosine_similarity(features, reference).item() for reference in known]
        logit = (model.logit_scale.exp() * torch.cosine_similarity(features, text)).item()
        scores.append((100 * sum(cosines) / len(cosines), logit))
    return scores
