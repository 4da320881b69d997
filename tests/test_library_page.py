"""What docs/library.md and the notebook show runs as it stands there."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel
from PIL import Image

import hw2
from hw2.files.output import png_bytes
from tests.commands import ROOT

PAGE = ROOT / "docs" / "library.md"
NOTEBOOK = ROOT / "docs" / "follow_one_noise.ipynb"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def small_unet(**options):
    return UNet2DModel(
        sample_size=32, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, **options,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder of a person who follows the page."""
    small_unet().save_pretrained(tmp_path / "model" / "unet")
    small_unet(num_class_embeds=11).save_pretrained(tmp_path / "model" / "classes")
    DDIMScheduler().save_config(tmp_path / "model")
    shutil.copytree(ROOT / "fixtures" / "hw2_data" / "textual_inversion" / "critter", tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_every_example_of_the_page_runs_after_the_ones_before(folder, capsys):
    names: dict[str, object] = {}
    for example in EXAMPLES:
        exec(compile(example, str(PAGE), "exec"), names)
    assert len(EXAMPLES) == 7
    assert names["images"].shape == names["path"].shape == (5, 3, 32, 32)
    assert names["tokens"] == ["<new1>"]
    assert len(capsys.readouterr().out.splitlines()) == 15, "three samplers of five steps"
    faces = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        expected = names["network"](faces, torch.tensor([500]))
        assert torch.equal(names["ours"](faces, torch.tensor([500])), expected)
        torch.testing.assert_close(names["theirs"](faces, 500).sample, expected, rtol=1e-4, atol=1e-4)
    assert names["velocity"].shape == (1, 3, 28, 28)


def test_the_page_names_what_the_package_gives():
    lines = re.findall(r"^from hw2 import (.*)$", PAGE.read_text(), re.MULTILINE)
    imported = {name for line in lines for name in line.split(", ")}
    assert imported <= set(hw2.__all__)
    assert {"ddim", "NoiseSchedule", "load_words"} <= imported


def test_examples_are_short():
    assert max(len(example.strip().splitlines()) for example in EXAMPLES) <= 12


def cells(kind):
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


def test_the_notebook_is_kept_without_outputs():
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells("code"))
    assert len(cells("markdown")) >= 6


@pytest.fixture
def followed(monkeypatch):
    """Runs the notebook's cells in order; gives their names."""

    def run():
        monkeypatch.chdir(NOTEBOOK.parent)
        names: dict[str, object] = {}
        for cell in cells("code"):
            exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
        return names

    return run


def test_every_cell_of_the_notebook_runs_after_the_ones_before(followed, monkeypatch, tiny_network):
    monkeypatch.setattr(hw2, "load_face_unet", lambda _: tiny_network)
    names = followed()
    assert names["face"].shape == (3, 32, 32)
    # what the words between the cells claim of every network
    assert names["abar"][981] < 1e-4
    middle = names["lengths"]["lerp"][2] / names["lengths"]["slerp"][2]
    assert middle == pytest.approx(0.5**0.5, abs=0.03)
    assert sorted(names["fast"]) == ["ddim 15", "ddim 5", "dpm++ 15"]


@pytest.mark.slow
@pytest.mark.long
def test_the_notebook_follows_the_noise_to_the_picture_of_the_command(followed):
    names = followed()
    truth = np.asarray(Image.open(ROOT / "fixtures" / "hw2_data" / "face" / "GT" / "00.png"))
    found = hw2.face_to_u8(names["face"])
    assert np.abs(found.astype(int) - truth).max() <= 1
    assert names["mse"] < 0.01
    assert len(png_bytes(found)) > 1000
    # what the words between the cells claim of the bundled network
    assert names["fast"]["dpm++ 15"] < names["fast"]["ddim 5"]
    assert names["fast"]["ddim 15"] < names["fast"]["ddim 5"]
