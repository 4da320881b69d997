"""The device is chosen before anything is loaded, and a GPU that cannot be used is told in one sentence."""

import pytest
import torch

from hw2.devices import choose
from hw2.devices.choose import chosen_device, cuda_problem, start_processes
from hw2.devices.launcher import LAUNCHED
from hw2.errors import InputError
from tests.hw2.devices.gpus import NO_DRIVER, OLD_DRIVER, pretend_failing_cuda, pretend_gpus


class Processes:
    """As much of accelerate's PartialState as is asked for; it notes what was current when it was made."""

    made: tuple[bool, object] = ()

    def __init__(self, cpu):
        self.device = torch.device("cpu" if cpu else "cuda")
        Processes.made = (cpu, Processes.current)

    current: object = None


@pytest.fixture
def processes(monkeypatch):
    monkeypatch.setattr(choose, "PartialState", Processes)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: setattr(Processes, "current", device))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    Processes.current = None


@pytest.fixture
def driver(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    file = tmp_path / "version"
    file.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
        "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"
    )
    monkeypatch.setattr(choose, "DRIVER_FILE", file)


@pytest.fixture
def no_driver(monkeypatch, tmp_path):
    monkeypatch.setattr(choose, "DRIVER_FILE", tmp_path / "none")
    monkeypatch.setattr(choose, "CONTROL_DEVICES", ())


@pytest.mark.parametrize(
    ("gpus", "name", "device"),
    [
        (0, "auto", "cpu"),
        (1, "auto", "cuda"),
        (1, "cuda", "cuda"),
        (2, "cuda:1", "cuda:1"),
        (2, "cpu", "cpu"),
    ],
)
def test_a_device_is_chosen_by_its_name(monkeypatch, no_driver, gpus, name, device):
    pretend_gpus(monkeypatch, gpus)
    assert chosen_device(name) == device


@pytest.mark.parametrize(
    ("gpus", "name", "sentence"),
    [
        (0, "cuda", "the device is cuda, but PyTorch finds no CUDA device here; use cpu or auto"),
        (1, "cuda:1", "the device is cuda:1, but PyTorch finds 1 CUDA device here; use cpu or auto"),
        (2, "cuda:2", "the device is cuda:2, but PyTorch finds 2 CUDA devices here; use cpu or auto"),
        (2, "tpu", "the device is 'tpu'; expected cpu, cuda, cuda:N or auto"),
        (2, "mps", "the device is 'mps'; expected cpu, cuda, cuda:N or auto"),
    ],
)
def test_a_device_that_is_not_there_is_refused(monkeypatch, no_driver, gpus, name, sentence):
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    pretend_gpus(monkeypatch, gpus)
    with pytest.raises(InputError) as refused:
        chosen_device(name)
    assert str(refused.value) == sentence
    assert refused.value.parameters == ("device",)


@pytest.mark.usefixtures("driver")
def test_a_driver_older_than_the_wheel_is_one_sentence_and_no_warning(monkeypatch, capsys):
    pretend_failing_cuda(monkeypatch, OLD_DRIVER)
    needs = (
        f"the NVIDIA driver 535.104.05 supports CUDA 12.2, and PyTorch {torch.__version__} needs CUDA 13.0; install "
        "driver 580 or newer, or a PyTorch for CUDA 12.2 (pytorch.org/get-started)"
    )
    with pytest.raises(InputError) as refused:
        chosen_device("cuda:0")
    assert str(refused.value) == f"{needs}, or use the CPU"
    assert chosen_device("auto") == "cpu"
    assert capsys.readouterr().err == f"hw2: {needs}; the CPU is used\n"
    assert chosen_device("cpu") == "cpu"
    assert not capsys.readouterr().err


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (
            "No CUDA GPUs are available",
            "the NVIDIA driver 535.104.05 shows PyTorch no GPU (CUDA_VISIBLE_DEVICES is '7'",
        ),
        (
            "CUDA unknown error - this may be\ndue to X",
            "PyTorch cannot start CUDA (CUDA unknown error - this may be due",
        ),
    ],
)
def test_other_reasons_are_told_too(monkeypatch, reason, sentence):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    pretend_failing_cuda(monkeypatch, reason)
    assert cuda_problem().startswith(sentence)
    assert cuda_problem().endswith("; check nvidia-smi")


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(("hidden", "told"), [("", False), ("-1", False), ("7", True)])
def test_gpus_that_the_user_hides_are_no_problem(monkeypatch, capsys, hidden, told):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    pretend_failing_cuda(monkeypatch, "No CUDA GPUs are available")
    assert chosen_device("auto") == "cpu"
    assert bool(capsys.readouterr().err) == told


@pytest.mark.usefixtures("no_driver")
@pytest.mark.parametrize("reason", [NO_DRIVER, "No CUDA GPUs are available"])
def test_a_machine_without_a_gpu_has_no_problem(monkeypatch, reason):
    pretend_failing_cuda(monkeypatch, reason)
    assert cuda_problem() == ""


@pytest.mark.usefixtures("driver")
def test_a_wheel_without_cuda_beside_a_gpu_is_told(monkeypatch):
    pretend_failing_cuda(monkeypatch, "Torch not compiled with CUDA enabled")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert cuda_problem().endswith("has no CUDA, but this machine has a GPU; install a PyTorch for CUDA")


@pytest.mark.usefixtures("processes", "no_driver")
def test_a_numbered_gpu_is_current_before_the_processes_join(monkeypatch):
    pretend_gpus(monkeypatch, 2)
    assert start_processes("cuda:1").device == torch.device("cuda:1")
    assert Processes.made == (False, torch.device("cuda:1"))


@pytest.mark.usefixtures("processes", "no_driver")
def test_a_numbered_gpu_contradicts_a_launcher(monkeypatch):
    pretend_gpus(monkeypatch, 2)
    for name in LAUNCHED:
        monkeypatch.setenv(name, "1")
    with pytest.raises(InputError, match="the launcher gives each process a GPU of its own; use cuda, and"):
        start_processes("cuda:1")
    assert start_processes("auto").device == torch.device("cuda")  # accelerate gives the index
    assert start_processes("cpu").device == torch.device("cpu")
