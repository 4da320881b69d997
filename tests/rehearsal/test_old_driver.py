"""A driver that is too old for this PyTorch, as PyTorch itself reports it: one sentence, and no warning escapes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.commands import ROOT
from tests.rehearsal.run import missing, stubbed

pytestmark = pytest.mark.rehearsal
KERNEL = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.104.05  Release Build"
HW2 = """
import sys
from pathlib import Path
from hw2.devices import choose
choose.DRIVER_FILE = Path(sys.argv.pop(1))
from hw2.__main__ import main
main()
"""
TELLS = (
    f"the NVIDIA driver 535.104.05 supports CUDA 12.2, and PyTorch {torch.__version__} needs CUDA {torch.version.cuda}"
)
REMEDY = "install driver 580 or newer, or a PyTorch for CUDA 12.2 (pytorch.org/get-started)"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    if lack := missing():
        pytest.skip(lack)
    return {**stubbed(tmp_path_factory.mktemp("stub")), "FAKE_CUDA_DRIVER": "12020", "CUDA_VISIBLE_DEVICES": "0"}


def run(environment: dict[str, str], *command: object) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, *map(str, command)]
    return subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)


of_cuda_13 = pytest.mark.skipif(not str(torch.version.cuda).startswith("13."), reason="the sentence is that of CUDA 13")


@of_cuda_13
def test_the_doctor_tells_it_in_one_sentence(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "version").write_text(KERNEL)
    examined = run(environment, "-c", HW2, tmp_path / "version", "doctor", "--json")
    assert examined.returncode == 2, examined.stderr
    problems = [row for row in json.loads(examined.stdout) if row["status"] == "problem"]
    assert [(row["name"], row["found"], row["remedy"]) for row in problems] == [("driver", TELLS, REMEDY)]


@of_cuda_13
@pytest.mark.long
def test_a_command_tells_it_in_the_same_sentence(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "version").write_text(KERNEL)
    given = ("--json", "fixtures/hw2_data/textual_inversion/input.json")
    word = ("--embeddings", "fixtures/submissions/reference/learned/new1.safetensors")
    pictures = ("concepts", "generate", *given, *word, "--output", tmp_path / "out")
    refused = run(environment, "-c", HW2, tmp_path / "version", *pictures, "--device", "cuda")
    assert refused.returncode == 2  # importing diffusers asked PyTorch for GPUs, too
    assert refused.stderr == f"hw2: {TELLS}; {REMEDY}, or use the CPU (--device)\n"


@pytest.mark.long
def test_pytest_reaches_its_tests(environment: dict[str, str]) -> None:
    """With warnings as errors, PyTorch's own warning ended pytest before the first test."""
    chosen = ("tests/grading/sandbox/test_gpu_real.py", "-k", "visible_devices")
    tests = run(environment, "-m", "pytest", "-q", "-m", "gpu", *chosen)
    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert "2 skipped" in tests.stdout
