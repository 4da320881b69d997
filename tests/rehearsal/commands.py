"""The command line of hw2 on fake devices, with the bundled models or with models of real size."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import torch
from PIL import Image

import hw2.__main__
from hw2.concepts.single_file import build_stable_diffusion
from hw2.concepts.stable_diffusion import StableDiffusion
from hw2.digits.network import DATASETS
from hw2.faces.network import FaceUNet
from hw2.files.bundled import FACE_UNET, SMALL_CLIP
from tests.commands import ROOT
from tests.rehearsal.measure import Mark

DATA, WORDS = ROOT / "fixtures" / "hw2_data", ROOT / "fixtures" / "submissions" / "reference" / "learned"
PICTURES = DATA / "textual_inversion" / "0"
FACES = ["--noise", DATA / "face" / "noise", "--checkpoint", FACE_UNET, "--num-inference-steps", 2]
TRAINED = ["--num-steps", 1, "--batch-size", 4, "--no-compile", "--pictures-every", 0]
LEARN = ["concepts", "learn", "--images", PICTURES, "--token", "<new9>", "--initializer", "boat", "--num-steps", 1]
GENERATE = ["concepts", "generate", "--embeddings", WORDS / "new1.safetensors", WORDS / "new2.safetensors"]
COMPOSE = [
    "concepts", "compose", "--prompt", "a <new1> and a <new2>", "--word", "<new1>=dog", "--word", "<new2>=cat",
    "--embeddings", WORDS / "new1.safetensors", "--embeddings", WORDS / "new2.safetensors", "--count", 2,
]  # fmt: skip

Arguments = Callable[[Path], list[object]]
"""The arguments of a command, given a folder for what it writes."""


def digits_folder(folder: Path) -> Path:
    """The homework's layout with two black images of each digit in each data set."""
    for name in DATASETS:
        data = folder / "digits" / name / "data"
        data.mkdir(parents=True)
        for i in range(20):
            Image.fromarray(np.zeros((28, 28, 3), np.uint8)).save(data / f"{i:05d}.png")
        rows = "".join(f"{i:05d}.png,{i % 10}\n" for i in range(20))
        (data.parent / "train.csv").write_text("image_name,label\n" + rows)
    return folder


def prompts(folder: Path) -> Path:
    """An input.json with one prompt of one word."""
    path = folder / "input.json"
    path.write_text(json.dumps({"0": {"token_name": "<new1>", "prompt": ["a <new1> on the beach"]}}))
    return path


COMMANDS: dict[str, Arguments] = {
    "faces sample": lambda to: ["faces", "sample", *FACES, "--output", to / "faces"],
    "faces eta-grid": lambda to: ["faces", "eta-grid", *FACES, "--output", to / "eta.png"],
    "faces interpolate": lambda to: ["faces", "interpolate", *FACES, "--output", to / "walk.png"],
    "faces train": lambda to: [
        "faces", "train", "--images", PICTURES, "--preset", "bundled", "--output", to / "run", *TRAINED,
    ],
    "digits sample": lambda to: [
        "digits", "sample", "--per-digit", 1, "--num-inference-steps", 2, "--output", to / "digits",
    ],
    "digits sample with its recognizer": lambda to: ["digits", "sample", "--per-digit", 1, "--output", to / "digits"],
    "digits grid": lambda to: ["digits", "grid", "--num-inference-steps", 2, "--output", to / "grid.png"],
    "digits reverse": lambda to: ["digits", "reverse", "--output", to / "reverse.png"],
    "digits train": lambda to: [
        "digits", "train", "--data", digits_folder(to / "data"), "--cache", to / "cache", "--output", to / "run",
        *TRAINED,
    ],
    "digits train with pictures": lambda to: [
        "digits", "train", "--data", digits_folder(to / "data"), "--cache", to / "cache", "--output", to / "run",
        *TRAINED, "--pictures-every", 1,
    ],
    "digits distill": lambda to: [
        "digits", "distill", "--data", digits_folder(to / "data"), "--cache", to / "cache", "--output", to / "run",
        *TRAINED, "--first-steps", 4, "--num-inference-steps", 2,
    ],
    "concepts learn": lambda to: [*LEARN, "--output", to / "new9.safetensors", "--pictures-every", 0],
    "concepts learn with pictures": lambda to: [
        *LEARN, "--output", to / "new9.safetensors", "--validate-every", 1, "--pictures-every", 1, "--clip", SMALL_CLIP,
    ],
    "concepts generate": lambda to: [
        *GENERATE, "--json", prompts(to), "--per-prompt", 2, "--num-inference-steps", 2, "--output", to / "drawn",
    ],
    "concepts compose": lambda to: [*COMPOSE, "--num-inference-steps", 2, "--output", to / "composed.png"],
    "concepts zero-shot": lambda to: [
        "concepts", "zero-shot", "--images", DATA / "clip_zeroshot" / "val", "--labels",
        DATA / "clip_zeroshot" / "id2label.json", "--output", to / "zero_shot",
    ],
}  # fmt: skip
"""Every command that computes on a device."""


def command(name: str, options: list[object], mark: Mark) -> None:
    """Run a command of `COMMANDS` with further options. Raises RuntimeError with its message if it fails."""
    output = io.StringIO()
    with TemporaryDirectory() as folder, contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
        arguments = [str(argument) for argument in [*COMMANDS[name](Path(folder)), *options]]
        try:
            hw2.__main__.app(arguments)
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"exit status {end.code}: {output.getvalue().strip()[-300:]}") from end


def command_at_real_size(name: str, options: list[object], mark: Mark) -> None:
    """The same with networks of the official size; their files are not read, because there are none."""

    def face_unet(path: Path, *, device: str, dtype: torch.dtype) -> FaceUNet:
        with torch.device(device):
            return FaceUNet().to(dtype).eval().requires_grad_(False)

    def stable_diffusion(path: Path, *, device: str, dtype: torch.dtype) -> StableDiffusion:
        return build_stable_diffusion(device=device, dtype=dtype)

    with ExitStack() as stack:
        for place, replacement in {
            "hw2.faces.checkpoint.load_face_unet": face_unet,
            "hw2.faces.sample.load_noises": lambda *_: {f"{i:02d}": torch.zeros(1, 3, 256, 256) for i in range(10)},
            "hw2.concepts.stable_diffusion.load_stable_diffusion": stable_diffusion,
            "hw2.concepts.stable_diffusion.StableDiffusion.fingerprint": lambda self: "",
            "hw2.concepts.embeddings.read_embeddings": lambda path, *_: {f"<{path.stem}>": torch.zeros(1, 768)},
        }.items():
            stack.enter_context(mock.patch(place, replacement))
        command(name, options, mark)


Run = Callable[[Mark], None]


def run(name: str, *options: object) -> Run:
    """The work of a case: this command with these options."""
    return partial(command, name, list(options))


def run_at_real_size(name: str, *options: object) -> Run:
    """The same with networks of the official size."""
    return partial(command_at_real_size, name, list(options))
