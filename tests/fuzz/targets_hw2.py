"""The solution's readers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from hw2.concepts.clip import load_clip
from hw2.concepts.embeddings import read_embeddings
from hw2.concepts.inversion import read_captions
from hw2.concepts.prompts import read_prompts
from hw2.concepts.recipe import InversionConfig
from hw2.concepts.single_file import TEXT as TEXT_ENCODER
from hw2.concepts.single_file import UNET, VAE, SingleFileConfig, _networks, read_single_file, unet_to_ldm, vae_to_ldm
from hw2.concepts.stable_diffusion import load_stable_diffusion
from hw2.concepts.training import learn_word
from hw2.concepts.zero_shot import read_class_names, read_pixels
from hw2.digits.checkpoint import load_digit_model, save_digit_model
from hw2.digits.data import DigitImages, load_digits
from hw2.digits.network import DATASETS
from hw2.digits.prepare import load_photographs
from hw2.digits.recognizer import Recognizer, load_or_train_recognizer
from hw2.digits.train import TrainConfig, train_digits
from hw2.errors import InputError
from hw2.faces.checkpoint import load_face_unet, save_face_unet
from hw2.faces.network import FaceUNet
from hw2.faces.sample import load_noises
from hw2.files.output import OutputFolder
from hw2.files.pictures import read_images
from tests.fuzz.engine import Target
from tests.fuzz.files import (
    as_json,
    lines,
    picture,
    pictures,
    pngs,
    safetensors,
    shared,
    torch_files,
    write,
)  # fmt: skip
from tests.fuzz.mutate import Mutator, change_json, change_png, change_safetensors, change_text, change_zip
from tests.models.tiny_clip import save_tiny_clip
from tests.models.tiny_digits import TINY_DIGITS, random_digit_model
from tests.models.tiny_faces import TINY, random_face_weights
from tests.models.tiny_sd import save_tiny_stable_diffusion

JSON, TEXT, PNG, SAFETENSORS, ZIP = (
    (change_json, change_text), (change_text,), (change_png,), (change_safetensors,), (change_zip,),
)  # fmt: skip


def _target(
    name: str, file: str, read: Callable[[Path], object], seeds: Callable[[], Sequence[bytes]] | None,
    mutators: Sequence[Mutator], prepare: Callable[[Path], object] = lambda folder: None, inputs: int = 60,
) -> Target:  # fmt: skip
    return Target(name, file, read, seeds, mutators, (InputError,), prepare, inputs)


def _file(
    name: str, read: Callable[[Path], object], seeds: Callable[[], Sequence[bytes]] | None,
    mutators: Sequence[Mutator], save: Callable[[Path], object] = lambda path: None, inputs: int = 60,
) -> Target:  # fmt: skip
    """A file that is read by its path. save: makes a valid one."""
    file = "0_1.safetensors" if mutators is SAFETENSORS else "0_1"
    return _target(name, file, lambda folder: read(folder / file), seeds, mutators, lambda f: save(f / file), inputs)


# --- digits

ROWS = lines("image_name,label", "0.png,5", "1.png,0", "2.png,1")
TRAINING = TrainConfig(num_steps=1, batch_size=2, mixed_precision="no", network=TINY_DIGITS)


def _digits(folder: Path) -> None:
    for name in DATASETS:
        write(folder / name, {"train.csv": ROWS, **{f"data/{i}.png": picture() for i in range(3)}})


def _read_digits(folder: Path) -> None:
    shutil.rmtree(folder / "cache", ignore_errors=True)
    load_digits(folder, folder / "cache")


def _cached(folder: Path) -> None:
    """The file that is mutated takes the place of every data set's cache."""
    _digits(folder)
    load_digits(folder, folder / "cache")
    shutil.copyfile(next((folder / "cache").iterdir()), folder / "cached")


def _read_cached(folder: Path) -> None:
    for path in (folder / "cache").iterdir():
        shutil.copyfile(folder / "cached", path)
    assert load_digits(folder, folder / "cache").images_u8.shape == (6, 3, 28, 28)


def _train(folder: Path, resume: bool = True) -> None:
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 3, 28, 28), generator=g, dtype=torch.uint8)
    digits = DigitImages(images, torch.arange(20) % 10, torch.arange(20) // 10)
    train_digits(digits, TRAINING, folder / "run", device="cpu", resume=resume, save_every=1)


def _save_digits(path: Path) -> None:
    save_digit_model(random_digit_model(), path)


def _recognizer(path: Path) -> None:
    nothing: Any = None
    load_or_train_recognizer(path, nothing, nothing, "cpu")


# --- faces


def _save_face(path: Path) -> None:
    network = FaceUNet(TINY)
    network.load_state_dict(random_face_weights(network, 0))
    save_face_unet(network, path)


# --- concepts

TINY_SINGLE = SingleFileConfig(
    unet={
        "sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "attention_head_dim": 2,
        "cross_attention_dim": 24, "norm_num_groups": 4, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    },
    vae={
        "sample_size": 16, "block_out_channels": (8, 8), "layers_per_block": 1, "latent_channels": 4,
        "norm_num_groups": 4, "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    },
    text_encoder={
        "vocab_size": 50, "hidden_size": 24, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 3,
    },
)  # fmt: skip
WORD = InversionConfig("<new1>", "dog", num_steps=1, batch_size=1, validate_every=1)
PROMPTS = {
    "0": {"token_name": "<new1>", "prompt": ["a <new1> on the beach", "<new1>"]},
    "b": {"token_name": "<x>", "prompt": ["<x>"]},
}


def _single() -> dict[str, torch.Tensor]:
    """The tensors of a tiny Stable Diffusion of one file, under CompVis' names."""
    unet, vae, text = _networks(TINY_SINGLE)
    layers = TINY_SINGLE.unet["layers_per_block"]
    named: list[tuple[str, Any, Callable[[str], str]]] = [
        (UNET, unet, lambda name: unet_to_ldm(name, layers, {1})), (VAE, vae, lambda name: vae_to_ldm(name, 2)),
        (TEXT_ENCODER, text, lambda name: f"text_model.{name.removeprefix('text_model.')}"),
    ]  # fmt: skip
    found = {
        prefix + old(name): value for prefix, network, old in named for name, value in network.state_dict().items()
    }
    return {**found, "betas": torch.zeros(3), "model_ema.decay": torch.ones(())}


def _learn(folder: Path, resume: bool = True) -> None:
    if not (folder / "sd").exists():
        save_tiny_stable_diffusion(folder / "sd")
    images = torch.zeros(1, 3, 16, 16)
    learn_word(load_stable_diffusion(folder / "sd"), images, WORD, folder / "a.safetensors", resume=resume)


def _read_single(path: Path) -> None:
    read_single_file(path, TINY_SINGLE)


SD_FILES = (
    "unet/config.json", "vae/config.json", "text_encoder/config.json", "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json", "scheduler/scheduler_config.json", "text_encoder/model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)  # fmt: skip
CLIP_FILES = ("config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json")


def _part(kind: str, name: str, load: Callable[[Path], object], save: Callable[[Path], object]) -> Target:
    """A file of a model's folder."""
    mutators = SAFETENSORS if name.endswith(".safetensors") else JSON
    read = lambda folder: load(folder / kind)  # noqa: E731
    return _target(f"{kind}/{name}", f"{kind}/{name}", read, None, mutators, lambda folder: save(folder / kind), 4)


VECTORS = torch.ones(2, 8)
EMBEDDINGS = (
    {"<new1>": VECTORS}, VECTORS, {"string_to_param": {"*": VECTORS}, "name": "x", "string_to_token": {"*": 265}},
    {"a": VECTORS[0], "b": VECTORS[1]}, torch.nn.Parameter(VECTORS),
)  # fmt: skip

TARGETS = (
    _target(
        "digits-table", "mnistm/train.csv", _read_digits,
        lambda: [ROWS, *shared("train_csv*/digits/*/train.csv")], TEXT, _digits,
    ),
    _target("digits-image", "svhn/data/1.png", _read_digits, pngs, PNG, _digits, 30),
    _target("digits-cache", "cached", _read_cached, None, SAFETENSORS, _cached, 30),
    _file("digits-model", load_digit_model, None, SAFETENSORS, _save_digits),
    _file("recognizer", _recognizer, lambda: [safetensors(Recognizer().state_dict(), {})], SAFETENSORS, inputs=50),
    _target("photographs", "a.jpg", load_photographs, lambda: [*pictures(), picture("JPEG", side=40)], PNG),
    _target("pictures", "a.jpg", lambda folder: read_images(folder, 16), pictures, PNG),
    _file("zero-shot-image", read_pixels, pngs, PNG),
    _target(
        "noise", "00.pt", lambda folder: load_noises(folder, 4),
        lambda: torch_files(torch.randn(1, 3, 8, 8), {"a": 1}), ZIP, inputs=25,
    ),
    _file("face.pt", load_face_unet, lambda: torch_files({"a": VECTORS}, {"state_dict": {}}), ZIP, inputs=15),
    _file("face", load_face_unet, None, SAFETENSORS, _save_face),
    _target("training", "run/checkpoint.pt", _train, None, ZIP, lambda folder: _train(folder, False), 10),
    _target("learning", "a.training/checkpoint.pt", _learn, None, ZIP, lambda folder: _learn(folder, False), 5),
    _file("prompts", read_prompts, lambda: as_json(PROMPTS), JSON),
    _target(
        "captions", "c.json", lambda folder: read_captions(folder / "c.json", folder, "<new1>"),
        lambda: as_json({"a.png": "a {}"}), JSON, lambda folder: write(folder, {"a.png": picture()}),
    ),
    _file("class-names", read_class_names, lambda: as_json({"0": "apple", "1": "a_bear"}), JSON),
    _file(
        "word.pt", read_embeddings,
        lambda: [*torch_files(*EMBEDDINGS), *shared("words/*.pt"), *shared("words/*.bin")], ZIP,
    ),
    _file(
        "word.safetensors", read_embeddings,
        lambda: [safetensors({"<new1>": VECTORS}), *shared("words/*.safetensors")], SAFETENSORS,
    ),
    _file("single.ckpt", _read_single, lambda: torch_files({"state_dict": _single(), "epoch": 1}), ZIP, inputs=15),
    _file("single.safetensors", _read_single, lambda: [safetensors(_single())], SAFETENSORS, inputs=15),
    *(_part("sd", name, load_stable_diffusion, save_tiny_stable_diffusion) for name in SD_FILES),
    *(_part("hw2-clip", name, lambda path: load_clip(str(path)), save_tiny_clip) for name in CLIP_FILES),
    _target(
        "settings", "out/.partial/settings", lambda folder: OutputFolder(folder / "out", ["a.png"], 1),
        lambda: [b"0" * 64], TEXT,
    ),
)  # fmt: skip
