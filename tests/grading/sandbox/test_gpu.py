import os
import tempfile
from pathlib import Path

import pytest

from grading.core.errors import GradingError
from grading.sandbox.gpu import (
    check_open,
    driver_binds,
    driver_folders,
    driver_version,
    find_devices,
    gpu_environment,
    hides_gpus,
    visible_gpus,
)
from grading.sandbox.run import Sandbox
from tests.grading.sandboxed import needs_sandbox, run

WHOLE = ("nvidia0", "nvidiactl", "nvidia-uvm")


@pytest.fixture
def dev():
    """Makes a folder of devices, in which plain files stand for the devices. Every user can reach it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        folder = Path(place)
        folder.chmod(0o755)

        def make(*names):
            for name in names:
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text(f"device {name}")
                (folder / name).chmod(0o666)
            return folder

        yield make


@pytest.fixture
def modprobe(tmp_path, monkeypatch):
    """Makes a system command nvidia-modprobe, the only one on the PATH besides the usual ones."""
    tools = tmp_path / "tools"
    tools.mkdir()

    def place(script):
        (tools / "nvidia-modprobe").write_text(f"#!/bin/sh\n{script}\n")
        (tools / "nvidia-modprobe").chmod(0o755)

    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    return place


@pytest.mark.parametrize(
    ("variables", "cards", "expected"),
    [
        ({}, ("nvidia3", "nvidia7"), ["0", "1"]),  # CUDA numbers those of a container anew
        ({}, ("dxg",), ["0"]),
        ({}, ("nvidiactl", "nvidia-uvm"), []),
        ({"CUDA_VISIBLE_DEVICES": "5, GPU-8932f937"}, ("nvidia0",), ["5", "GPU-8932f937"]),
        ({"CUDA_VISIBLE_DEVICES": "0"}, (), []),
        ({"CUDA_VISIBLE_DEVICES": ""}, ("nvidia0",), []),
        ({"CUDA_VISIBLE_DEVICES": "-1,0"}, ("nvidia0",), []),
    ],
)
def test_the_gpus_to_share_out_are_those_that_the_grader_may_use(dev, variables, cards, expected):
    assert visible_gpus(variables, dev(*cards)) == expected


def test_all_devices_of_the_driver_are_passed_and_nothing_else(dev):
    others = ("nvidia-fs0", "nvidia-nvswitch0", "nvidia-caps-imex-channels", "null", "sda")
    folder = dev(*WHOLE, "nvidia10", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps/nvidia-cap2", *others)
    assert {path.name for path in find_devices(folder)} == {
        *WHOLE, "nvidia10", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps",
    }  # fmt: skip


def test_on_wsl_there_is_one_device_for_everything(dev):
    assert [path.name for path in find_devices(dev("dxg"))] == ["dxg"]


@pytest.mark.parametrize(
    ("there", "missing", "remedy"),
    [
        ((), "nvidia0", "install the NVIDIA driver"),
        (("nvidiactl", "nvidia-uvm"), "nvidia0", "install the NVIDIA driver"),
        (("nvidia0", "nvidia-uvm"), "nvidiactl", "run nvidia-smi as root"),
        (("nvidia0", "nvidiactl"), "nvidia-uvm", "run nvidia-modprobe -u -c=0 as root, or any CUDA program once"),
    ],
)
def test_a_missing_device_is_named_with_what_to_do(dev, modprobe, there, missing, remedy):
    modprobe("exit 1")
    folder = dev(*there)
    with pytest.raises(GradingError, match=f"{folder}/{missing} is missing; {remedy}") as error:
        find_devices(folder)
    assert error.value.option == "gpu"
    assert "--" not in str(error.value)


def test_a_missing_uvm_device_is_created_first(dev, modprobe):
    folder = dev("nvidia0", "nvidiactl")
    modprobe(f'[ "$*" = "-u -c=0" ] && touch {folder}/nvidia-uvm {folder}/nvidia-uvm-tools')
    assert {path.name for path in find_devices(folder)} == {*WHOLE, "nvidia-uvm-tools"}


def test_nothing_is_created_where_nothing_is_missing(dev, modprobe):
    folder = dev(*WHOLE)
    modprobe(f"touch {folder}/nvidia-uvm-tools")
    find_devices(folder)
    assert not (folder / "nvidia-uvm-tools").exists()


def test_a_device_that_only_its_owner_may_use_is_named(dev):
    folder = dev(*WHOLE, "nvidia-modeset")
    (folder / "nvidia-modeset").chmod(0o600)  # no CUDA program needs it
    check_open(find_devices(folder))
    (folder / "nvidia-uvm").chmod(0o660)
    with pytest.raises(GradingError, match=f"run chmod a\\+rw {folder}/nvidia-uvm"):
        check_open(find_devices(folder))


@needs_sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="only root's runs are another user's")
def test_root_hands_no_run_a_gpu_that_it_cannot_open(folder, dev, modprobe):
    devices = dev(*WHOLE)
    (devices / "nvidia0").chmod(0o660)
    with pytest.raises(GradingError, match="closed to other users"):
        run("true", folder, sandbox=Sandbox(gpu=True, devices=devices))


@needs_sandbox
def test_the_devices_reach_the_sandbox_only_with_a_gpu(folder, dev, modprobe):
    devices = dev(*WHOLE, "nvidia-caps/nvidia-cap2", "sda")
    script = "cat /dev/nvidia0 /dev/nvidia-caps/nvidia-cap2; ls /dev; echo written > /dev/nvidiactl"
    with_gpu = run(script, folder, sandbox=Sandbox(gpu=True, devices=devices))
    assert with_gpu.exit_status == 0, with_gpu.log
    assert with_gpu.log.startswith("device nvidia0device nvidia-caps/nvidia-cap2")
    assert "sda" not in with_gpu.log
    assert (devices / "nvidiactl").read_text() == "written\n"
    assert "nvidia" not in run("ls /dev", folder, sandbox=Sandbox(devices=devices)).log


@needs_sandbox
def test_cuda_can_name_its_threads_which_no_other_run_can(folder, dev):
    """cuInit writes the name of its first thread there, and fails with error 304 if it cannot (seen on an H100)."""
    devices = dev("nvidia0", "nvidiactl", "nvidia-uvm")
    script = "echo named > /proc/self/task/$$/comm; read -r name < /proc/$$/comm; echo $name"
    assert run(script, folder, sandbox=Sandbox(gpu=True, devices=devices)).log == "named"
    assert "Read-only file system" in run(script, folder).log


@needs_sandbox
def test_without_a_gpu_no_script_runs(folder, dev, modprobe):
    modprobe("exit 1")
    with pytest.raises(GradingError, match="nvidia0 is missing"):
        run("touch /submission/ran", folder, sandbox=Sandbox(gpu=True, devices=dev()))


@needs_sandbox
def test_every_new_proc_shows_the_drivers_folder(folder):
    assert run("ls -d /proc/driver", folder).log == "/proc/driver"


# --- variables


def test_cuda_gets_the_variables_that_it_reads():
    grader = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "NVIDIA_VISIBLE_DEVICES": "all", "A": "b"}
    found = gpu_environment(grader)
    found.pop("LD_LIBRARY_PATH", "")  # of a machine that needs it
    assert found == {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def test_hidden_gpus_stay_hidden():
    assert gpu_environment({"CUDA_VISIBLE_DEVICES": ""})["CUDA_VISIBLE_DEVICES"] == ""
    assert all(hides_gpus({"CUDA_VISIBLE_DEVICES": value}) for value in ("", "-1", "-1,0", "NoDevFiles"))
    assert not any(hides_gpus({"CUDA_VISIBLE_DEVICES": value}) for value in ("0", "1,-1", "GPU-8932f937", "MIG-1"))
    assert not hides_gpus({})


@pytest.fixture
def libraries(tmp_path):
    """A folder with the driver's library, one that links to it, and one without it."""
    for name in ("driver", "linked", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "driver" / "libcuda.so.1").touch()
    (tmp_path / "linked" / "libcuda.so.1").symlink_to(tmp_path / "driver" / "libcuda.so.1")
    return tmp_path


def test_only_folders_of_the_driver_stay_on_the_library_path(libraries, monkeypatch):
    monkeypatch.chdir(libraries)
    path = f"{libraries}/other:{libraries}/driver::driver:{libraries}/missing:{libraries}/driver"
    assert driver_folders({"LD_LIBRARY_PATH": path}, ()) == [libraries / "driver"]
    assert driver_folders({}, (libraries / "driver", libraries / "other")) == [libraries / "driver"]
    assert driver_folders({"LD_LIBRARY_PATH": "/usr/lib/x86_64-linux-gnu:/lib64:/usr/lib"}, ()) == []


def test_folders_outside_usr_are_bound_with_what_their_libraries_link_to(libraries):
    assert driver_binds([libraries / "linked"]) == [libraries / "linked", libraries / "driver"]
    assert driver_binds([Path("/usr/local/nvidia/lib64")]) == []


@needs_sandbox
def test_scripts_see_the_graders_gpu_and_its_driver(folder, dev, modprobe, libraries, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{libraries}/linked:{libraries}/other")
    gpu = Sandbox(gpu=True, devices=dev(*WHOLE))
    script = f"echo $CUDA_VISIBLE_DEVICES; ls -L ${{LD_LIBRARY_PATH%%:*}}; ls {libraries}/other"
    assert run(script, folder, sandbox=gpu).log.splitlines()[:2] == ["1", "libcuda.so.1"]
    assert "No such file" in run(script, folder, sandbox=gpu).log
    assert run("echo $CUDA_VISIBLE_DEVICES:$LD_LIBRARY_PATH", folder, sandbox=Sandbox()).log == ":"


@needs_sandbox
def test_what_staff_set_wins_over_the_graders_own_variables(folder, dev, modprobe, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    gpu = Sandbox(gpu=True, devices=dev(*WHOLE), environment={"CUDA_VISIBLE_DEVICES": "2"})
    assert run("echo $CUDA_VISIBLE_DEVICES", folder, sandbox=gpu).log == "2"


@needs_sandbox
def test_a_driver_folder_that_holds_a_secret_is_refused(folder, dev, modprobe, libraries, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", str(libraries / "driver"))
    hidden = (libraries / "driver" / "libcuda.so.1",)
    with pytest.raises(GradingError, match="must stay hidden"):
        run("true", folder, sandbox=Sandbox(gpu=True, devices=dev(*WHOLE), hidden=hidden))


# --- driver


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.104.05  Release Build  (dvs-builder@U22)",
    ],
)
def test_the_drivers_version_is_the_kernels_answer(tmp_path, line):
    (tmp_path / "version").write_text(f"{line}\nGCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1)\n")
    assert driver_version(tmp_path / "version") == "535.104.05"


@pytest.mark.parametrize(
    ("answer", "version"), [("echo 560.35; echo 560.35", "560.35"), ("echo no", ""), ("exit 9", "")]
)
def test_where_the_kernel_does_not_say_it_nvidia_smi_does(tmp_path, monkeypatch, answer, version):
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\n{answer}\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    assert driver_version(tmp_path / "missing") == version
