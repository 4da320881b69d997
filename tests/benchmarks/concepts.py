"""Benchmarks of Problem 3: CLIP grading beside the official procedure, Stable Diffusion at its real size."""

from __future__ import annotations

import itertools
import json
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.table import Table
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.utils import logging as transformers_logging

from grading.homeworks.fall2024 import CONCEPTS as PROBLEM
from grading.judges.clip import load_clip
from grading.judges.exact import exact
from grading.problems.prompt_scores import grade_concepts
from grading.problems.prompts import Concept
from hw2.concepts.generate import ConceptSampler
from hw2.concepts.single_file import SingleFileConfig, sd_v1_tokenizer
from tests.benchmarks.measure import DEVICE, matmul_rate, operations, seconds, seconds_and_gib

PROMPTS = ["A dog shepherd on a hilltop with Mount Fuji in the background.", "A dog perched on a park bench."]
CONCEPTS = ["0", "1"]
STEPS, PICTURES, ENCODED = 25, 100, 110
"""Steps of DPM-Solver++, pictures of the homework (25 for each of four prompts), and those with the references."""


def vit_b_32(folder: Path) -> Path:
    """Save a CLIP ViT-B/32 of random weights in the layout of the official one; return its folder."""
    CLIPModel(CLIPConfig()).save_pretrained(folder)
    sd_v1_tokenizer().save_pretrained(folder)
    preprocessor = {
        "do_convert_rgb": True, "do_resize": True, "resample": 3, "size": {"shortest_edge": 224},
        "do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": OPENAI_CLIP_MEAN, "image_std": OPENAI_CLIP_STD,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def opened(folder: Path) -> list[Image.Image]:
    """All images of a folder in RGB, sorted by name."""
    images = []
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            images.append(image.convert("RGB"))
    return images


@torch.no_grad()
def official_procedure(clip: Path, output: Path, references: Path) -> None:
    """Do what the two official scripts do.

    For each prompt, both load the model, read the images and encode them; one also encodes every reference anew.
    """
    for concept, index in itertools.product(CONCEPTS, range(len(PROMPTS))):
        for script in ("image", "text"):
            images = opened(output / concept / str(index))
            model, processor = CLIPModel.from_pretrained(clip), CLIPImageProcessorPil.from_pretrained(clip)
            tokenizer = CLIPTokenizer.from_pretrained(clip)
            pixels = processor(images=images, return_tensors="pt").pixel_values
            if script == "text":
                model(pixel_values=pixels, **tokenizer([PROMPTS[index]], return_tensors="pt"))
                continue
            features = model.get_image_features(pixel_values=pixels).pooler_output
            for image in opened(references / concept):
                reference = processor(images=[image], return_tensors="pt").pixel_values
                torch.cosine_similarity(features, model.get_image_features(pixel_values=reference).pooler_output)


def bench_clip_grading(table: Table) -> None:
    """Score the homework's public case both ways; neither time includes a cold start."""
    transformers_logging.disable_progress_bar()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = vit_b_32(folder / "clip")
        prompts = [f"out/{concept}/{index}" for concept in CONCEPTS for index in range(len(PROMPTS))]
        for part, count in [*((p, 25) for p in prompts), *((f"references/{c}", 5) for c in CONCEPTS)]:
            (folder / part).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (512, 512, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / f"{i:02d}.png", compress_level=1)
        concepts = {concept: Concept("dog", PROMPTS, [(0.0, 0.0)] * 2) for concept in CONCEPTS}

        def ours() -> None:
            grade_concepts(folder / "out", concepts, folder / "references", load_clip(str(clip)), PROBLEM.rules)

        ours_s, theirs_s = seconds(
            ours, lambda: official_procedure(clip, folder / "out", folder / "references"), rounds=1
        )
        judge, batch = load_clip(str(clip)), torch.rand(ENCODED // 4, 3, 224, 224)
        with exact():
            (encoding_s,) = seconds(lambda: judge.model.get_image_features(pixel_values=batch), rounds=7)
    encodings_s = encoding_s * ENCODED / len(batch)
    scored = "CLIP scores of two concepts, 100 images of 512x512, ViT-B/32 on the CPU"
    table.add_row(
        scored,
        f"{ours_s:.1f} s",
        f"the official procedure: {theirs_s:.1f} s",
        f"{theirs_s / ours_s:.2f}x as fast (goal: 2x)",
    )
    with torch.device("meta"):
        model, pixel_values = CLIPModel(CLIPConfig()).eval(), torch.empty(1, 3, 224, 224)
    needed = operations(lambda: model.get_image_features(pixel_values=pixel_values))
    floor = ENCODED * needed / matmul_rate(torch.float32)
    table.add_row(
        scored,
        f"{ours_s:.1f} s",
        f"floor {floor:.1f} s: {ENCODED} encodings of {needed / 1e9:.1f} GFLOP as one matrix product",
        f"{ours_s / floor:.2f} times the floor (goal: 1.15)",
    )
    ratio = f"{encodings_s / floor:.2f} times the floor"
    table.add_row("the encodings alone", f"{encodings_s:.1f} s", f"floor {floor:.1f} s", ratio)


def bench_stable_diffusion(table: Table) -> None:
    """The operations that v1.4 needs; on a GPU also the time and memory that random weights of its size take."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    config = SingleFileConfig()
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**config.unet).eval(), AutoencoderKL(**config.vae).eval()
        latents, states = torch.empty(1, 4, 64, 64), torch.empty(1, 77, 768)
        step = operations(lambda: unet(latents, torch.zeros(1, dtype=torch.int64), states))
        decoding = operations(lambda: vae.decode(latents))
    whole = PICTURES * (2 * STEPS * step + decoding)
    table.add_row(
        f"Stable Diffusion v1.4 on paper: {PICTURES} pictures, {STEPS} guided steps",
        f"{whole / 1e15:.2f} PFLOP",
        f"U-Net {step / 1e12:.2f} TFLOP a row, decoding {decoding / 1e12:.2f} TFLOP a picture",
        f"{whole / 1e12 / 900:.1f} TFLOP/s finish it in 15 minutes",
    )
    if DEVICE == "cuda":
        bench_pictures(table, whole / PICTURES)


def bench_pictures(table: Table, needed: float) -> None:
    """25 pictures on a GPU with random weights of v1.4's size; each needs `needed` operations."""
    from tests.models.sd_v1_random import random_sd_v1

    for dtype in (torch.float16, torch.bfloat16):
        sampler = random_sd_v1(dtype)
        names = {f"{i}": "a dog" for i in range(25)}
        list(sampler.sample(dict(list(names.items())[: sampler.batch_size])))
        elapsed, peak = seconds_and_gib(partial(_draw, sampler, names))
        floor = needed * 25 / matmul_rate(dtype)
        table.add_row(
            f"25 pictures of 512x512, batches of {sampler.batch_size}, {dtype}, random weights",
            f"{elapsed:.1f} s, peak {peak:.2f} GiB",
            f"floor {floor:.1f} s",
            f"{floor / elapsed:.0%} of the floor's rate",
        )


def _draw(sampler: ConceptSampler, names: dict[str, str]) -> None:
    """Draw every picture and keep none."""
    for _ in sampler.sample(names):
        pass


def bench_concepts(table: Table) -> None:
    """All rows of Problem 3."""
    bench_clip_grading(table)
    with torch.inference_mode():
        bench_stable_diffusion(table)
