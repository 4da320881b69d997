"""The sandbox and the judges on a real GPU: `pytest -m gpu`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from grading.environment.python import check_gpu
from grading.judges.classifiers import load_digit_judge
from grading.judges.clip import load_clip
from grading.judges.sources import EMBEDDED
from grading.sandbox.gpu import driver_version, find_devices
from grading.sandbox.run import Limits, Sandbox
from tests.grading.sandboxed import needs_sandbox, run

pytestmark = [pytest.mark.gpu]

GPU = Sandbox(gpu=True)

ROOMY = Limits(seconds=240.0)
"""CUDA's libraries alone need more than the tests' small limits."""

measured = pytest.mark.skipif(importlib.util.find_spec("pynvml") is None, reason="needs nvidia-ml-py")

SUM = "import torch; print(torch.ones(1000, device='cuda').sum().item(), torch.cuda.device_count())"


def python(code: str) -> str:
    return f'{sys.prefix}/bin/python3 -c "{code}"'


@pytest.fixture
def measurable():
    """Skip where NVML does not tell the memory of the sandbox's processes, as in some containers."""
    if not check_gpu(GPU):
        pytest.skip("NVML does not tell the memory of the sandbox's processes here")


@needs_sandbox
def test_a_cuda_operation_runs_in_the_sandbox(folder):
    result = run(python(SUM), folder, ROOMY, sandbox=GPU)
    assert (result.exit_status, result.limit) == (0, ""), result.log
    assert result.log.split()[0] == "1000.0"


@needs_sandbox
def test_a_sandbox_without_a_gpu_has_none(folder):
    assert run(python(SUM), folder, ROOMY).exit_status != 0
    assert run("ls -d /dev/nvidia* /dev/dxg 2> /dev/null", folder).log == ""


@needs_sandbox
def test_all_devices_that_are_found_are_passed(folder):
    there = {path.name for path in find_devices()}
    assert there <= set(run("ls /dev", folder, sandbox=GPU).log.split())


@needs_sandbox
@pytest.mark.parametrize("visible", ["", "-1"])
def test_the_graders_visible_devices_are_the_scripts(folder, monkeypatch, visible):
    code = "import torch; print(torch.cuda.device_count())"
    shown = run(python(code), folder, ROOMY, sandbox=replace(GPU, environment={"CUDA_VISIBLE_DEVICES": "0"}))
    assert shown.log.splitlines()[-1] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert run(python(code), folder, ROOMY, sandbox=GPU).log.splitlines()[-1] == "0"


@needs_sandbox
@measured
def test_a_script_that_exceeds_its_gpu_memory_is_stopped(folder, measurable):
    code = "import time, torch; kept = torch.zeros(3 * 2**28, device='cuda'); time.sleep(60)"  # 3 GiB of float32
    result = run(python(code), folder, replace(ROOMY, gpu_bytes=2 * 2**30), sandbox=GPU)
    assert result.limit == "gpu memory", result.log
    assert result.gpu_bytes is not None
    assert 3 * 2**30 <= result.gpu_bytes < 5 * 2**30  # CUDA itself needs some hundred MiB


@needs_sandbox
@measured
def test_the_graders_own_gpu_memory_does_not_count(folder, measurable):
    held = (
        "import sys, torch; kept = torch.zeros(3 * 2**28, device='cuda'); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        code = "import time, torch; kept = torch.zeros(2**26, device='cuda'); time.sleep(1)"
        result = run(python(code), folder, replace(ROOMY, gpu_bytes=2 * 2**30), sandbox=GPU)
        other.communicate(b"\n")
    assert (result.limit, result.exit_status) == ("", 0), result.log
    assert result.gpu_bytes is not None
    assert 2**28 <= result.gpu_bytes < 2 * 2**30


def test_the_driver_has_a_version():
    assert driver_version()


# --- judges


@pytest.fixture(scope="module")
def pictures():
    """Noise, and pictures with areas and edges."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(60):
        image = rng.integers(0, 256, (28, 28, 3), dtype=np.uint8)
        if i % 2:
            image[:] = rng.integers(0, 256, 3)
            image[5 : 10 + i % 15, 8 : 12 + i % 9] = rng.integers(0, 256, 3)
        found.append(image)
    return found


@pytest.mark.parametrize("dataset", ["mnistm", "svhn"])
def test_digit_judges_compute_on_a_gpu_what_they_do_on_a_cpu(pictures, dataset):
    """The tolerance is 1e-4 of the largest feature. On a CPU, float32 differs from float64 by 6e-7 of it, and factors
    that are rounded to TF32 make a difference of 6e-4 (SVHN) and 1e-3 (MNIST-M).
    """
    path = EMBEDDED / f"judge_{dataset}.safetensors"
    cpu, gpu = (load_digit_judge(dataset, path, "embedded", device).predict(pictures) for device in ("cpu", "cuda"))
    assert np.abs(cpu.features - gpu.features).max() <= 1e-4 * np.abs(cpu.features).max()
    assert (cpu.digits == gpu.digits).mean() >= 0.95  # noise may lie on a border between two digits


def test_the_clip_judge_computes_on_a_gpu_what_it_does_on_a_cpu(pictures):
    """Features are unit vectors. On a CPU, float32 differs from float64 by 1e-7, and TF32 by 8e-5."""
    cpu, gpu = (load_clip("embedded", device) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(gpu.image_features(pictures), cpu.image_features(pictures), rtol=0, atol=2e-5)
    sentences = ["a circle", "a red square on the beach"]
    np.testing.assert_allclose(gpu.text_features(sentences), cpu.text_features(sentences), rtol=0, atol=2e-5)


def test_a_judges_scores_on_a_gpu_do_not_depend_on_the_run(pictures):
    judge = load_digit_judge("svhn", EMBEDDED / "judge_svhn.safetensors", "embedded", "cuda")
    first, second = judge.predict(pictures), judge.predict(pictures)
    assert (first.features == second.features).all()
