"""Whole workflows, run as `make grade` and the staff's scripts run them."""

import json
import os
import shutil
import subprocess

import jsonschema
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hw2.faces.network import FaceUNet
from tests.commands import ROOT
from tests.grading.sandboxed import needs_sandbox
from tests.models.tiny_faces import random_face_weights


def test_a_bundled_noise_becomes_the_ground_truth(tmp_path, hw2, hw2_grade, bundled_model, bundled_data):
    for folder, name in (("noise", "03.pt"), ("GT", "03.png")):
        (tmp_path / folder).mkdir()
        shutil.copy(bundled_data / "face" / folder / name, tmp_path / folder)
    options = ["--noise", tmp_path / "noise", "--checkpoint", bundled_model, "--device", "cpu"]
    assert hw2("faces", "sample", *options, "--output", tmp_path / "out").returncode == 0
    run = hw2_grade("faces", tmp_path / "out", tmp_path / "GT", "--json", "-")
    assert run.returncode == 0
    result = json.loads(run.stdout)
    assert len(result["mse_per_image"]) == 1
    assert result["mse"] < 0.01  # the ground truth is diffusers'; a pixel in a thousand may round the other way


@pytest.mark.slow
@pytest.mark.long  # tests/hw2/faces loads such a file and computes such a network; tests/hw2/test_main.py draws
def test_an_official_checkpoint_and_a_noise_of_official_size_become_a_face(tmp_path, hw2):
    # The real UNet.pt has this form and size; only the course hands out its weights.
    torch.save(random_face_weights(FaceUNet(), seed=0), tmp_path / "UNet.pt")
    (tmp_path / "noise").mkdir()
    torch.save(torch.randn(1, 3, 256, 256), tmp_path / "noise" / "private.pt")
    options = ["--noise", tmp_path / "noise", "--checkpoint", tmp_path / "UNet.pt", "--num-inference-steps", "2"]
    run = hw2("faces", "sample", *options, "--output", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    with Image.open(tmp_path / "out" / "private.png") as image:
        assert (image.size, image.mode) == ((256, 256), "RGB")
        assert image.getextrema() != ((0, 0),) * 3


def test_every_bundled_file_is_the_one_that_the_readme_describes(capsys):
    from fixtures.making.regenerate import PARTS

    PARTS["checksums"]()
    printed = capsys.readouterr().out
    _, listed = (ROOT / "fixtures" / "README.md").read_text().split("\n```text\n")
    assert listed == f"{printed}```\n"
    assert len(printed.splitlines()) == 34


def test_the_bundled_model_is_small_and_half_precision(bundled_model):
    assert bundled_model.stat().st_size < 8 * 2**20
    weights = load_file(bundled_model)
    assert {value.dtype for name, value in weights.items() if name != "time.0.inv_freq"} == {torch.float16}


@pytest.mark.parametrize("status", [0, 1, 2])
def test_make_grade_leaves_with_the_verdict(tmp_path, status):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / ".ready").touch()
    graded = f'[ "$1" = submission ] && echo $(nice) $OMP_NUM_THREADS >> graded && exit {status}; exit 0'
    for name, body in {"hw2": "echo $(nice) $OMP_NUM_THREADS >> drawn", "hw2-grade": graded}.items():
        (tmp_path / ".venv" / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / ".venv" / "bin" / name).chmod(0o755)
    # If make runs this test suite, it passes its own flags on to this make; a person types none of them.
    without = [word for name in ("MAKEFLAGS", "MAKELEVEL", "OMP_NUM_THREADS") for word in ("-u", name)]
    run = subprocess.run(["env", *without, "make", "grade"], cwd=tmp_path, check=False)
    assert run.returncode == status
    # Pictures take what the submission leaves: the submission chooses its threads, pictures have few and are nice.
    own = os.nice(0)
    assert (tmp_path / "graded").read_text().split() == [str(own)]
    cores = subprocess.run(["env", *without, "nproc"], capture_output=True, text=True, check=True).stdout
    threads = max(1, int(cores) // 4)
    assert (tmp_path / "drawn").read_text() == 5 * f"{min(own + 19, 19)} {threads}\n"


@needs_sandbox
@pytest.mark.slow
@pytest.mark.long  # tests/test_docs.py parses the scripts; tests/grading/submission runs small ones in the sandbox
def test_the_reference_submission_earns_its_points_in_the_sandbox(tmp_path, hw2_grade, bundled_model, bundled_data):
    """Scripts and package are in one folder, as a student hands them in. It is one face, since all take minutes."""
    student = shutil.copytree(ROOT / "fixtures" / "submissions" / "reference", tmp_path / "reference")
    shutil.copytree(ROOT / "hw2", student / "hw2", ignore=shutil.ignore_patterns("__pycache__"))
    for folder, name in (("noise", "03.pt"), ("GT", "03.png")):
        (tmp_path / "data" / "face" / folder).mkdir(parents=True)
        shutil.copy(bundled_data / "face" / folder / name, tmp_path / "data" / "face" / folder)
    options = ["--data", tmp_path / "data", "--unet", bundled_model, "--problems", "2", "--public-only"]
    options += ["--output", tmp_path / "out"]
    run = hw2_grade("submission", student, *options, "--json", "-")
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert (result["points"], result["max_points"]) == (10, 10)
    assert result["record"]["options"]["sandbox"] == "bubblewrap"
    schema = json.loads((ROOT / "grading" / "reports" / "schemas" / "grade.schema.json").read_text())
    for written in (result, json.loads((tmp_path / "out" / "grade.json").read_text())):
        jsonschema.validate(written, schema)
