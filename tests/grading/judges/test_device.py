"""The device of the judges, on machines whose driver PyTorch cannot use."""

import warnings

import pytest
import torch

from grading.core.errors import GradingError
from grading.judges import device
from grading.judges.device import chosen_device

TOO_OLD = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 12020). Please update your GPU "
    "driver by downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx"
)


@pytest.fixture
def machine(monkeypatch):
    """A machine with a PyTorch for CUDA 13.0, a driver, and what PyTorch says about its GPUs."""
    device._tell.cache_clear()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch, "__version__", "2.14.1+cu130")

    def make(driver="", usable=0, warning="", counted=None, wheel="13.0"):
        def is_available():
            if warning:
                warnings.warn(warning, UserWarning, stacklevel=2)
            return usable > 0

        monkeypatch.setattr(torch.version, "cuda", wheel)
        monkeypatch.setattr(torch.cuda, "is_available", is_available)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: usable if counted is None else counted)
        monkeypatch.setattr(device, "driver_version", lambda: driver)

    return make


def test_a_gpu_that_works_is_chosen_without_a_word(machine, capfd):
    machine("580.65.06", usable=2)
    assert [chosen_device(name) for name in ("auto", "cuda", "cuda:1", "cpu")] == ["cuda", "cuda", "cuda:1", "cpu"]
    assert capfd.readouterr() == ("", "")


def test_a_machine_without_a_gpu_takes_the_cpu_without_a_word(machine, capfd):
    machine()
    assert chosen_device("auto") == "cpu"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("counted", [0, 1])
def test_with_an_old_driver_auto_takes_the_cpu_and_says_so_once(machine, capfd, counted):
    machine("535.104.05", warning=TOO_OLD, counted=counted)
    assert [chosen_device("auto"), chosen_device("auto")] == ["cpu", "cpu"]
    assert capfd.readouterr().err == (
        "The judges run on the CPU, because the NVIDIA driver 535.104.05 supports CUDA 12.2, and PyTorch 2.14.1+cu130 "
        "needs CUDA 13.0; install a newer driver or a PyTorch for CUDA 12.2.\n"
    )


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1"])
def test_with_an_old_driver_cuda_is_refused_in_one_sentence(machine, capfd, name, counted):
    machine("535.104.05", warning=TOO_OLD, counted=counted)
    with pytest.raises(GradingError) as error:
        chosen_device(name)
    assert str(error.value) == (
        f"the device for the judges is {name}, but the NVIDIA driver 535.104.05 supports CUDA 12.2, and PyTorch "
        "2.14.1+cu130 needs CUDA 13.0; install a newer driver or a PyTorch for CUDA 12.2, or choose cpu"
    )
    assert error.value.option == "device"
    assert capfd.readouterr() == ("", "")


def test_where_pytorch_has_warned_before_the_driver_is_still_named(machine, capfd):
    machine("535.104.05")
    assert chosen_device("auto") == "cpu"
    said = capfd.readouterr().err
    assert "cannot use the GPU with the NVIDIA driver 535.104.05; install a driver for CUDA 13.0" in said


def test_another_reason_is_quoted(machine):
    machine("580.65.06", warning="CUDA initialization: Unexpected error\nError 804: forward \x1b[2Jcompatibility")
    with pytest.raises(
        GradingError, match=r"\(CUDA initialization: Unexpected error Error 804: forward \\x1b"
    ) as error:
        chosen_device("cuda")
    assert "\x1b" not in str(error.value)


def test_a_pytorch_without_cuda_is_named(machine):
    machine("580.65.06", wheel=None)
    with pytest.raises(GradingError, match="is built without CUDA; install a PyTorch with CUDA, or choose cpu"):
        chosen_device("cuda")


def test_a_user_who_hides_the_gpu_gets_the_cpu_without_a_word(machine, monkeypatch, capfd):
    machine("580.65.06")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert chosen_device("auto") == "cpu"
    assert capfd.readouterr() == ("", "")
    with pytest.raises(GradingError, match="PyTorch finds no CUDA device here; choose cpu"):
        chosen_device("cuda")


@pytest.mark.parametrize("name", ["cuda:2", "cuda:10"])
def test_a_gpu_that_is_not_there_is_refused(machine, name):
    machine("580.65.06", usable=2)
    with pytest.raises(GradingError, match=f"is {name}, but PyTorch finds 2 CUDA devices here; choose cpu"):
        chosen_device(name)


@pytest.mark.parametrize("name", ["tpu", "mps", "", "cuda:x"])
def test_other_devices_are_refused(machine, name):
    machine()
    with pytest.raises(GradingError, match="expected cpu, cuda, cuda:N or auto"):
        chosen_device(name)
