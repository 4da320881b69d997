"""The cases of the rehearsal. Each runs the project's own functions at real size; `commands` runs its command line."""

from __future__ import annotations

import dataclasses
import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Sam2Config,
    Sam2ImageProcessor,
    Sam2Model,
    Sam2Processor,
)

from grading.core.results import Judge
from grading.judges.classifiers import EmbeddedSvhnClassifier, LoadedJudge, MnistmClassifier, SvhnClassifier
from grading.judges.clip import TransformersClip
from grading.judges.sam import TransformersSam
from hw2.concepts.compose import Composition, draw_blended
from hw2.concepts.generate import ConceptSampler
from hw2.concepts.inversion import Inversion
from hw2.concepts.recipe import InversionConfig
from hw2.concepts.single_file import build_stable_diffusion, sd_v1_tokenizer
from hw2.concepts.stable_diffusion import StableDiffusion
from hw2.concepts.training import learn_word
from hw2.devices.arithmetic import training_arithmetic
from hw2.digits.checkpoint import load_digit_model
from hw2.digits.data import DigitImages
from hw2.digits.sample import DigitSampler, official_names
from hw2.digits.train import TrainConfig, train_digits
from hw2.faces.network import FaceUNet
from hw2.faces.sample import FaceSampler, batch_invariant
from hw2.faces.train import preset, train_faces
from hw2.files.bundled import DIGIT_UNET
from tests.rehearsal.commands import COMMANDS, run, run_at_real_size
from tests.rehearsal.measure import Case, Mark

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
NOBODY = Judge("", "custom", "", "")
SLOW = "digits reverse"
"""It walks through 1000 steps; `digits ddpm` takes the same ones."""
SHORT = ("hw2 concepts generate --device cuda:1", "rank 1: hw2 digits grid")
LONG = ("hw2 faces train --device cuda:1", "rank 1: hw2 concepts learn")
"""Of the commands on a second device and in a second process, those that `make test` and `make test-all` run."""
SHARING = (
    *("digits sample", "digits grid", "digits train", "faces sample", "faces train"),
    *("concepts learn", "concepts generate"),
)
"""Commands that `accelerate launch` may start; those that only draw a picture leave it to the first process."""
PHOTOGRAPHS = 133_257
"""Training images of MNIST-M and SVHN together."""

FACES, TRAIN, GENERATE = 50 * 2, 40_000, 25 * 4
"""Steps of the homework's whole task: of ten faces by fives, of the default recipe, of 100 pictures by 25."""


# --- Problem 2


def faces(dtype: str, mark: Mark) -> None:
    """Two of 50 DDIM steps of five faces by the official network."""
    with torch.device("cuda"):
        network = FaceUNet().to(DTYPES[dtype]).eval().requires_grad_(False)
    noises = {f"{i:02d}": torch.zeros(1, 3, 256, 256) for i in range(5)}
    list(FaceSampler(batch_invariant(network, DTYPES[dtype]), 2, device="cuda").sample(noises, 0.5, mark))


def train_faces_officially(parts: int, mark: Mark) -> None:
    """Two steps of the official recipe, each divided into parts."""
    config = dataclasses.replace(preset("official"), num_steps=2)
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"compile_network": False, "report_every": 1, "watch": mark, "accumulation": parts}
        train_faces(torch.zeros(2, 3, 256, 256), config, Path(folder), **options)


# --- Problem 1


def train(precision: Any, resumed: bool, mark: Mark) -> None:
    """Two steps of the default recipe on the homework's number of images; if resumed, then two more."""
    images = torch.zeros(1, 3, 28, 28, dtype=torch.uint8).expand(PHOTOGRAPHS, -1, -1, -1).contiguous()
    digits = torch.arange(PHOTOGRAPHS)
    data = DigitImages(images, digits % 10, digits // 10 % 2)
    options: dict[str, Any] = {"compile_network": False, "report_every": 1, "watch": mark}
    config = TrainConfig(num_steps=2, decay_fraction=0.0, mixed_precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        train_digits(data, config, Path(folder), **options)
        if resumed:
            train_digits(data, dataclasses.replace(config, num_steps=4), Path(folder), resume=True, **options)


def draw_digits(sampler: str, mark: Mark) -> None:
    """Two steps of a hundred digits by the bundled model."""
    model = load_digit_model(DIGIT_UNET, device="cuda")
    list(DigitSampler(model, sampler, 2, device="cuda").sample(official_names(5), mark))


# --- Problem 3


def learn_step(dtype: str, checkpointing: bool, mark: Mark) -> None:
    """The loss and the gradient of a step of four pictures; no validation."""
    model = build_stable_diffusion(device="cuda", dtype=DTYPES[dtype])
    if checkpointing:
        model.unet.enable_gradient_checkpointing()
    inversion = Inversion(model, torch.zeros(1, 3, 512, 512), InversionConfig("<new1>", "dog"))
    with training_arithmetic(deterministic=False):
        mark()
        inversion.loss(torch.Generator(), 4, slice(None)).backward()
        mark()


def learn(dtype: str, options: dict[str, Any], mark: Mark) -> None:
    """Two steps of textual inversion, each with its validation, from two pictures."""
    model = build_stable_diffusion(device="cuda", dtype=DTYPES[dtype])
    config = InversionConfig("<new1>", "dog", num_steps=2, validate_every=1, **options)
    pictures = torch.zeros(2, 3, model.image_size, model.image_size)
    without_hash = mock.patch.object(StableDiffusion, "fingerprint", return_value="")  # of 4 GB
    with tempfile.TemporaryDirectory() as folder, without_hash:
        learn_word(model, pictures, config, Path(folder) / "new1.safetensors", watch=mark)


def generate(dtype: str, count: int, mark: Mark) -> None:
    """Two steps of `count` pictures at once, and their decoding."""
    sampler = ConceptSampler(build_stable_diffusion(device="cuda", dtype=DTYPES[dtype]), num_inference_steps=2)
    sampler = dataclasses.replace(sampler, batch_size=count)
    list(sampler.sample({str(i): "a photo of a dog" for i in range(count)}, mark))


def compose(dtype: str, mark: Mark) -> None:
    """Eight pictures of two words at once; the five steps keep half as many maps as the usual 25."""
    sampler = ConceptSampler(build_stable_diffusion(device="cuda", dtype=DTYPES[dtype]), num_inference_steps=5)
    words = {"<new1>": "dog", "<new2>": "cat"}
    sampler.model.add_words({token: torch.zeros(2, 768) for token in words})
    composition = Composition("a <new1> and a <new2> on the beach", words, hold=1.0)
    list(draw_blended(dataclasses.replace(sampler, batch_size=8), composition, [str(i) for i in range(8)], mark))


# --- judges


def classify(network: type[MnistmClassifier | SvhnClassifier | EmbeddedSvhnClassifier], mark: Mark) -> None:
    """A hundred digits by a classifier."""
    judge = LoadedJudge(network().to("cuda").eval(), NOBODY, "cuda")
    judge.predict([np.zeros((28, 28, 3), np.uint8)] * 100)


def clip(patch: int, mark: Mark) -> None:
    """Pictures of one prompt and its sentence by a CLIP of OpenAI's size."""
    with torch.device("cuda"):
        model = CLIPModel(CLIPConfig(vision_config={"patch_size": patch})).eval().requires_grad_(False)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224})
    judge = TransformersClip(model, sd_v1_tokenizer(), processor, NOBODY, "cuda")
    judge.image_features([np.zeros((512, 512, 3), np.uint8)] * 25)
    judge.text_features(["a photo of a dog"])


def segment(mark: Mark) -> None:
    """One picture by a SAM2 of the smallest official size."""
    with torch.device("cuda"):
        model = Sam2Model(Sam2Config()).eval().requires_grad_(False)
    judge = TransformersSam(model, Sam2Processor(Sam2ImageProcessor()), NOBODY, "cuda")
    judge.mask(np.zeros((512, 512, 3), np.uint8))


FUNCTIONS = [
    Case("faces float32", partial(faces, "float32"), most_gib=1.84, most_syncs=0, steps=FACES, short=True),
    Case("faces float16", partial(faces, "float16"), most_gib=0.93, most_syncs=0, steps=FACES),
    Case("faces bfloat16", partial(faces, "bfloat16"), most_gib=0.93, most_syncs=0, steps=FACES),
    # Five at once need 1.84 GiB.
    Case("faces float32, batch halved", partial(faces, "float32"), total=1.5),
    Case("faces train official in 8 parts", partial(train_faces_officially, 8), most_gib=17.4, steps=500_000),
    # A step waits for the range of its timesteps, the gradient's norm and the loss.
    Case("digits train float32", partial(train, "no", False), most_gib=1.5, most_syncs=3, steps=TRAIN, long=True),
    Case("digits train bfloat16", partial(train, "bf16", False), most_gib=1.3, most_syncs=3, steps=TRAIN, long=True),
    Case("digits train resumed", partial(train, "bf16", True), most_gib=1.3),
    # Whether a timestep is guided is decided on the CPU.
    Case("digits dpm++", partial(draw_digits, "dpm++"), most_syncs=1, short=True),
    Case("digits ddim", partial(draw_digits, "ddim"), most_syncs=1),
    Case("digits ddpm", partial(draw_digits, "ddpm"), most_syncs=1),
    Case("learn step float32", partial(learn_step, "float32", False), most_gib=9.8, most_syncs=1, steps=2000),
    Case(
        "learn step bfloat16",
        partial(learn_step, "bfloat16", False),
        most_gib=4.9,
        most_syncs=1,
        steps=2000,
        long=True,
    ),
    Case("learn step checkpointing", partial(learn_step, "float32", True), most_gib=7.3, most_syncs=1, steps=2000),
    # A step and its validation wait for two ranges of timesteps, two losses, and whether all vectors are finite.
    Case("learn float32", partial(learn, "float32", {}), most_gib=9.8, most_syncs=5),
    Case("learn bfloat16", partial(learn, "bfloat16", {}), most_gib=4.9, most_syncs=5),
    Case("learn bfloat16 in parts", partial(learn, "bfloat16", {"accumulation": 2, "pairs": True}), most_syncs=7),
    Case("generate float32", partial(generate, "float32", 25), most_gib=10.4, most_syncs=0, steps=GENERATE),
    Case("generate float16", partial(generate, "float16", 25), most_gib=5.2, most_syncs=0, steps=GENERATE),
    Case("generate float16, batch halved", partial(generate, "float16", 25), total=4.5),
    Case("generate 2 float32", partial(generate, "float32", 2), most_syncs=0, long=True),
    Case("compose float32", partial(compose, "float32"), most_gib=8.4, most_syncs=0),
    Case("compose float16", partial(compose, "float16"), most_gib=4.2, most_syncs=0),
    Case("judge mnistm", partial(classify, MnistmClassifier), short=True),
    Case("judge svhn", partial(classify, SvhnClassifier), short=True),
    Case("judge svhn embedded", partial(classify, EmbeddedSvhnClassifier)),
    Case("judge clip 32", partial(clip, 32), short=True),
    Case("judge clip 16", partial(clip, 16)),
    Case("judge sam", segment),
]
ALONE = [Case(f"hw2 {name}", run(name)) for name in COMMANDS if name != SLOW]
SECOND = [
    Case(f"hw2 {name} --device cuda:1", run(name, "--device", "cuda:1"), devices=2, place=1)
    for name in COMMANDS
    if name != SLOW
]
# Only the first process draws a grid.
SHARED = [
    Case(f"rank 1: hw2 {name}", run(name), devices=2, place=None if name == "digits grid" else 1, rank=1)
    for name in SHARING
]
REAL = [
    Case("hw2 faces sample float16 at real size", run_at_real_size("faces sample", "--dtype", "float16")),
    Case("hw2 concepts generate at real size on 8 GiB", run_at_real_size("concepts generate"), total=8),
    Case("hw2 concepts learn at real size", run_at_real_size("concepts learn", "--dtype", "bfloat16")),
    Case("hw2 concepts compose at real size", run_at_real_size("concepts compose", "--dtype", "float16")),
]
CASES = {case.name: case for case in [*FUNCTIONS, *ALONE, *SECOND, *SHARED, *REAL]}
CASES |= {name: dataclasses.replace(CASES[name], short=True) for name in SHORT}
CASES |= {name: dataclasses.replace(CASES[name], long=True) for name in LONG}
