import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from grading.sandbox import nvml
from grading.sandbox.nvml import GpuMemory, is_exclusive, load_nvml, total_memory, why_unmeasured
from grading.sandbox.run import Limits, Sandbox
from grading.submission.ending import ending
from tests.grading.fake_nvml import install_nvml
from tests.grading.sandboxed import SMALL, needs_sandbox, run

MIB = 2**20


@pytest.fixture
def proc(tmp_path):
    """A /proc in which processes 10 and 11 are in one namespace, and 20 is in another. 30 has ended."""
    for pid, inside in ((10, "sandbox"), (11, "sandbox"), (20, "host")):
        (tmp_path / inside).touch()
        (tmp_path / str(pid) / "ns").mkdir(parents=True)
        (tmp_path / str(pid) / "ns" / "pid").symlink_to(tmp_path / inside)
    return tmp_path


def every_process():
    return [(int(name), 100 * MIB) for name in os.listdir("/proc") if name.isdecimal()]


@pytest.fixture
def gpu(tmp_path, folder):
    """A sandbox with a GPU."""
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o666)
    return Sandbox(gpu=True, devices=tmp_path)


def test_the_memory_is_that_of_the_sandboxs_processes_on_all_gpus(monkeypatch, proc):
    first, second = [(10, 3 * MIB), (20, 50 * MIB), (30, 70 * MIB)], [(11, 5 * MIB), (10, MIB)]
    install_nvml(monkeypatch, usage=lambda: [first, second], modes=(0, 0))
    memory = GpuMemory(10, proc)
    assert (memory.used(), memory.peak) == (9 * MIB, 9 * MIB)


def test_the_peak_stays_when_memory_is_freed(monkeypatch, proc):
    monkeypatch.setattr(nvml, "INTERVAL", 0)
    answers = iter([3, 8, 2])
    install_nvml(monkeypatch, usage=lambda: [[(10, next(answers))]])
    memory = GpuMemory(10, proc)
    assert [memory.used() for _ in range(3)] == [3, 8, 2]
    assert memory.peak == 8


def test_the_driver_is_asked_only_once_in_each_interval(monkeypatch, proc):
    now = 100.0
    monkeypatch.setattr(nvml.time, "monotonic", lambda: now)
    fake = install_nvml(monkeypatch, usage=lambda: [[(10, 7)]])
    memory = GpuMemory(10, proc)
    assert [memory.used() for _ in range(20)] == [7] * 20
    assert fake.looks == 1
    now += nvml.INTERVAL
    memory.used()
    assert fake.looks == 2


@pytest.mark.parametrize(
    "facts",
    [
        {"usage": lambda: [[(10, None)]]},
        {"broken": ["nvmlDeviceGetComputeRunningProcesses"]},
        {"broken": ["nvmlDeviceGetCount"]},
        {"broken": ["nvmlInit"]},
    ],
)
def test_what_the_driver_does_not_know_is_not_measured_and_is_not_zero(monkeypatch, proc, facts):
    install_nvml(monkeypatch, **facts)
    memory = GpuMemory(10, proc)
    assert (memory.used(), memory.peak) == (0, None)
    assert why_unmeasured(memory.peak)


def test_memory_of_others_that_is_not_known_does_not_matter(monkeypatch, proc):
    install_nvml(monkeypatch, usage=lambda: [[(20, None), (30, None), (11, MIB)]])
    memory = GpuMemory(10, proc)
    assert (memory.used(), memory.peak) == (MIB, MIB)


def test_processes_that_cannot_be_told_apart_are_nobodys(monkeypatch, proc):
    install_nvml(monkeypatch, usage=lambda: [[(30, MIB), (31, MIB)]])
    assert GpuMemory(30, proc).used() == 0


def test_without_the_package_the_reason_says_what_to_install(monkeypatch, proc):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert GpuMemory(10, proc).peak is None
    said = "nvidia-ml-py is not installed; run pip install '.[gpu]' in a checkout, or pip install 'FILE.whl[gpu]' with "
    assert why_unmeasured(None) == said + "the file of the wheel"
    with pytest.raises(nvml.UnmeasuredError):
        load_nvml()
    assert total_memory() == []


def test_a_run_whose_processes_nvml_does_not_find_was_not_measured(monkeypatch):
    install_nvml(monkeypatch)
    assert "does not know" in why_unmeasured(0)
    assert why_unmeasured(1) == ""


@needs_sandbox
def test_only_the_processes_of_the_run_count(folder, gpu, monkeypatch):
    install_nvml(monkeypatch, usage=lambda: [every_process()])
    monkeypatch.setattr(nvml, "INTERVAL", 0)
    result = run("sleep 1 & sleep 1; wait", folder, sandbox=gpu)
    assert (result.limit, result.exit_status) == ("", 0)
    assert result.gpu_bytes == 400 * MIB  # bubblewrap's init, the shell, and two processes of it


@needs_sandbox
def test_a_run_that_exceeds_its_gpu_memory_is_stopped(folder, gpu, monkeypatch):
    install_nvml(monkeypatch, usage=lambda: [every_process()])
    monkeypatch.setattr(nvml, "INTERVAL", 0)
    limits = replace(SMALL, gpu_bytes=350 * MIB)
    script = "sleep 1; echo one; sleep 5 & sleep 5 & wait"
    result = run(script, folder, limits, sandbox=gpu)
    assert (result.limit, result.log, result.seconds < 4) == ("gpu memory", "one", True)
    stage = ending("hw2_1.sh", "hw2_1.sh", result, limits)
    assert (stage.status, stage.limit) == ("fail", "gpu memory")
    assert stage.message == "hw2_1.sh was stopped: it used more than 350 MiB of GPU memory."
    assert stage.gpu_bytes > limits.gpu_bytes


@needs_sandbox
def test_a_run_without_a_gpu_is_not_measured(folder, monkeypatch):
    fake = install_nvml(monkeypatch, usage=lambda: [every_process()])
    assert run("sleep 0.5", folder).gpu_bytes is None
    assert fake.looks == 0


def test_the_limit_is_the_memory_of_the_courses_card():
    assert Limits().gpu_bytes == 20 * 2**30


# --- compute mode


@pytest.mark.parametrize(
    ("modes", "exclusive"), [((0,), False), ((2,), False), ((3,), True), ((1,), True), ((0, 3), True), ((), False)]
)
def test_the_compute_mode_is_that_of_any_gpu(monkeypatch, modes, exclusive):
    install_nvml(monkeypatch, modes=modes)
    assert is_exclusive() == exclusive


def test_a_driver_without_compute_modes_has_none(monkeypatch):
    install_nvml(monkeypatch, modes=(3,), broken=["nvmlDeviceGetComputeMode"])
    assert not is_exclusive()


@pytest.mark.parametrize(
    ("answer", "exclusive"),
    [
        ("Default", False),
        ("Exclusive_Process", True),
        ("Default\nExclusive_Process", True),
        ("[N/A]", False),
        ("", False),
    ],
)
def test_without_nvml_the_compute_mode_is_that_of_nvidia_smi(monkeypatch, tmp_path: Path, answer, exclusive):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f'#!/bin/sh\n[ "$1" = --query-gpu=compute_mode ] && printf "{answer}"\n')
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert is_exclusive() == exclusive
