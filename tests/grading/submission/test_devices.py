"""How scripts and judges share GPUs of each compute mode."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from grading.core.errors import GradingError
from grading.sandbox.run import Sandbox
from grading.submission.assignment import Assignment
from grading.submission.devices import gpu_facts, judges_device
from tests.grading.fake_nvml import install_nvml

DEFAULT, EXCLUSIVE = 0, 3

GPU = Assignment(Path("data"), gpu=True)


@pytest.mark.parametrize(
    ("mode", "assignment", "device"),
    [
        (DEFAULT, GPU, "auto"),
        (DEFAULT, replace(GPU, device="cuda:1"), "cuda:1"),
        (EXCLUSIVE, GPU, "cpu"),
        (EXCLUSIVE, replace(GPU, device="cpu"), "cpu"),
        (EXCLUSIVE, replace(GPU, gpu=False), "auto"),
        (EXCLUSIVE, replace(GPU, gpu=False, device="cuda"), "cuda"),
        (EXCLUSIVE, replace(GPU, gpu=False, trust=True), "cpu"),
    ],
)
def test_judges_leave_an_exclusive_gpu_to_the_scripts(monkeypatch, mode, assignment, device):
    install_nvml(monkeypatch, modes=(mode,))
    assert assignment.find_judges().device == device


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_judges_that_would_block_the_scripts_are_refused(monkeypatch, device):
    install_nvml(monkeypatch, modes=(EXCLUSIVE,))
    with pytest.raises(GradingError, match=r"block the scripts; run nvidia-smi -c 0, or choose cpu") as error:
        judges_device(device, scripts_use_gpu=True)
    assert error.value.option == "device"


def test_the_record_says_what_is_measured_and_where_judges_run(monkeypatch):
    install_nvml(monkeypatch, modes=(DEFAULT,))
    assert gpu_facts(Sandbox(gpu=True), 300) == {"gpu_memory": "measured"}
    assert gpu_facts(Sandbox(), None) == {}
    assert gpu_facts(Sandbox(trust=True), None) == {}
    install_nvml(monkeypatch, modes=(EXCLUSIVE,))
    assert gpu_facts(Sandbox(gpu=True), 300)["judges"].startswith("on the CPU, because the GPU serves one process")
    assert gpu_facts(Sandbox(trust=True), None).keys() == {"judges"}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_facts(Sandbox(gpu=True), None)["gpu_memory"].startswith("not measured (nvidia-ml-py is not installed; ")
