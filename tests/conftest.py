"""Fixtures that several folders of tests share."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

from hw2.devices.choose import cuda_devices, cuda_problem
from hw2.digits.checkpoint import DigitModel
from hw2.digits.network import DATASETS
from hw2.faces.checkpoint import save_face_unet
from hw2.faces.network import FaceUNet
from tests.commands import ROOT, run_command
from tests.models.tiny_digits import random_digit_model
from tests.models.tiny_faces import TINY, random_face_weights

Command = Callable[..., "subprocess.CompletedProcess[str]"]


gc.disable()  # while everything is imported; `pytest_collection_finish` enables it

# No test is timed: the first call of a network takes seconds on a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# A shell ignores Ctrl-C for commands in its background; every command that the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup` ignores it, likewise


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from all tests but those of `pytest -m gpu`: on a machine with a GPU, `auto` would choose it.

    Under a driver that is too old, PyTorch warns when it is first asked for GPUs, and warnings are errors here.
    """
    if "gpu" not in config.option.markexpr:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    cuda_devices()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker begins one while the others have nothing left."""
    slow = {item.path for item in items if {"slow", "rehearsal"} & set(item.keywords)}
    items.sort(key=lambda item: item.path not in slow)
    if not cuda_devices():
        reason = cuda_problem() or "needs a CUDA device"
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason=f"{reason} (pytest -m gpu)"))


def pytest_collection_finish() -> None:
    """What was imported stays; without this, each full garbage collection takes half a second to look at it again."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """`torch.randn` gives a test the same numbers whichever tests its worker ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real homework material; only this project's development checkouts have it beside them."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real homework data is not here")
    return folder


@pytest.fixture(scope="session")
def bundled_model() -> Path:
    """The face network that this project trained and ships."""
    return ROOT / "hw2" / "models" / "face_unet.safetensors"


@pytest.fixture(scope="session")
def bundled_digit_model() -> Path:
    """The digit model that this project trained and ships."""
    return ROOT / "hw2" / "models" / "digit_unet.safetensors"


@pytest.fixture(scope="session")
def bundled_data() -> Path:
    """The data of the embedded homework, in the homework's own layout."""
    return ROOT / "fixtures" / "hw2_data"


@pytest.fixture
def tiny_network() -> FaceUNet:
    """A face network of 8x8 images and a few thousand parameters, none of them zero."""
    network = FaceUNet(TINY)
    network.load_state_dict(random_face_weights(network, seed=1))
    return network.eval().requires_grad_(False)


@pytest.fixture
def tiny_checkpoint(tmp_path: Path, tiny_network: FaceUNet) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_face_unet(tiny_network, path)
    return path


@pytest.fixture
def noise_folder(tmp_path: Path) -> Path:
    """Five noises 00.pt .. 04.pt of 8x8 pixels, and the hidden files that macOS adds."""
    folder = tmp_path / "noise"
    folder.mkdir()
    for i in range(5):
        g = torch.Generator().manual_seed(i)
        torch.save(torch.randn(1, 3, 8, 8, generator=g), folder / f"{i:02d}.pt")
    (folder / ".DS_Store").write_bytes(b"Bud1")
    (folder / "._00.pt").write_bytes(b"AppleDouble")
    return folder


@pytest.fixture
def tiny_digit_model() -> DigitModel:
    """A digit model of a few thousand parameters, none of them zero."""
    return random_digit_model()


@pytest.fixture
def digits_folder(tmp_path: Path) -> Path:
    """hw2_data with three images of each digit in each data set; red is the digit, green the data set."""
    folder = tmp_path / "hw2_data"
    g = np.random.default_rng(0)
    for dataset, name in enumerate(DATASETS):
        data = folder / "digits" / name / "data"
        data.mkdir(parents=True)
        rows = ["image_name,label"]
        for i in range(30):
            pixels = g.integers(0, 256, (28, 28, 3), dtype=np.uint8)
            pixels[:, :, 0], pixels[:, :, 1] = i % 10, dataset
            Image.fromarray(pixels).save(data / f"{i:05d}.png")
            rows.append(f"{i:05d}.png,{i % 10}")
        (data.parent / "train.csv").write_text("\n".join(rows) + "\n")
        (data / ".DS_Store").write_bytes(b"Bud1")
    return folder


@pytest.fixture(scope="session")
def hw2() -> Command:
    """Run the `hw2` command as a person would."""
    return lambda *arguments, **options: run_command("hw2", *arguments, **options)


@pytest.fixture(scope="session")
def hw2_grade() -> Command:
    """Run the `hw2-grade` command as a person would."""
    return lambda *arguments, **options: run_command("grading", *arguments, **options)
