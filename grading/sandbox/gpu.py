"""The NVIDIA GPU of a sandbox: its devices, the variables that CUDA reads, and the folders of its driver.

The devices are those that NVIDIA's container toolkit passes (libnvidia-container, src/nvc_info.c: lookup_devices, and
fill_mig_device_info for MIG; /dev/dxg alone on WSL2). Missing ones are created as CUDA and Apptainer do it
(internal/pkg/util/gpu/nvidia_devices.go), by nvidia-modprobe. /proc/driver/nvidia needs no mount, because every new
/proc shows it. On WSL2 the driver lies below /usr/lib/wsl, which the sandbox's /usr has, with what is mounted there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.system import said
from grading.core.text import printable

DEVICES = Path("/dev")

NEEDED = ("nvidiactl", "nvidia-uvm")
"""The devices without which no CUDA program runs, besides the cards and except on WSL2."""

OPTIONAL = ("nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps")
"""Those for profilers and displays, and the folder of the capabilities of MIG."""

CREATE_UVM = ("nvidia-modprobe", "-u", "-c=0")
"""The command that creates nvidia-uvm and nvidia-uvm-tools. It is setuid root where NVIDIA's installer placed it."""

READ_BY_CUDA = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
"""Variables of the grader that scripts get, so that they use the same GPUs. Only containers' tools read
NVIDIA_VISIBLE_DEVICES."""

DRIVER = "libcuda.so.1"

DRIVER_FOLDERS = (Path("/usr/local/nvidia/lib64"), Path("/usr/lib/wsl/lib"), Path("/run/opengl-driver/lib"))
"""Where Kubernetes, WSL2 and NixOS place the driver's libraries."""

LOADER_FOLDERS = tuple(
    Path(root, name)
    for root in ("/", "/usr")
    for name in ("lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu")
)
"""Where every program finds libraries. As LD_LIBRARY_PATH, they would replace libraries that packages bring along."""

INSTEAD = "or grade without a GPU"


def find_devices(devices: Path = DEVICES) -> list[Path]:
    """The devices of all GPUs in the folder `devices`. Creates nvidia-uvm if it is missing and can be created.

    Raises GradingError if there is no GPU, or a device without which none can be used.
    """
    if (devices / "dxg").exists():
        return [devices / "dxg"]
    cards = _cards(devices)
    if not cards:
        raise _missing(devices / "nvidia0", "install the NVIDIA driver, check that nvidia-smi lists the card")
    if not (devices / "nvidia-uvm").exists():
        said(*CREATE_UVM)
    for name in NEEDED:
        if not (devices / name).exists():
            create = " ".join(CREATE_UVM) if name == "nvidia-uvm" else "nvidia-smi"
            raise _missing(devices / name, f"run {create} as root, or any CUDA program once")
    return [*cards, *(path for name in (*NEEDED, *OPTIONAL) if (path := devices / name).exists())]


def check_open(devices: list[Path]) -> None:
    """Raises GradingError for a device that only its owner may use. Root's runs are another user's."""
    for device in devices:
        if device.name not in OPTIONAL and device.stat().st_mode & 0o006 != 0o006:
            shown = printable(str(device))
            raise GradingError(
                f"{shown} is closed to other users, so no run can use the GPU; run chmod a+rw {shown}, {INSTEAD}",
                option="gpu",
            )


def gpu_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that scripts need to use the grader's GPUs. variables: those of the grader."""
    found = {name: variables[name] for name in READ_BY_CUDA if name in variables}
    folders = driver_folders(variables)
    return found | ({"LD_LIBRARY_PATH": ":".join(map(str, folders))} if folders else {})


def driver_folders(variables: Mapping[str, str], usual: tuple[Path, ...] = DRIVER_FOLDERS) -> list[Path]:
    """The folders with the driver's libraries that a program finds by LD_LIBRARY_PATH only.

    Other entries of the grader's LD_LIBRARY_PATH are left out. usual: folders that are tried as well.
    """
    named = [Path(name) for name in variables.get("LD_LIBRARY_PATH", "").split(":") if name.startswith("/")]
    return [
        folder
        for folder in dict.fromkeys((*named, *usual))
        if folder not in LOADER_FOLDERS and (folder / DRIVER).exists()
    ]


def driver_binds(folders: list[Path]) -> list[Path]:
    """The folders of the driver that a sandbox lacks, and those that its libraries are links to."""
    wanted = [each for folder in folders for each in (folder, (folder / DRIVER).resolve().parent)]
    return [folder for folder in dict.fromkeys(wanted) if not folder.is_relative_to("/usr")]


def driver_version(module: Path = Path("/proc/driver/nvidia/version")) -> str:
    """The version of the NVIDIA driver, such as 535.104.05; empty if there is none. module: the kernel's answer."""
    try:
        found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", module.read_text())
    except OSError:
        found = None
    if found:
        return found[1]
    answer = said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").partition("\n")[0]
    return answer if re.fullmatch(r"\d+(\.\d+)+", answer) else ""


def hides_gpus(variables: Mapping[str, str]) -> bool:
    """Whether CUDA_VISIBLE_DEVICES hides every GPU. CUDA ignores all entries from the first invalid one on."""
    first = variables.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    return first in ("", "-1", "NoDevFiles")


def visible_gpus(variables: Mapping[str, str], devices: Path = DEVICES) -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, by their names in it; without it, the numbers of all GPUs."""
    if hides_gpus(variables):
        return []
    cards = len(_cards(devices)) or int((devices / "dxg").exists())
    named = [name.strip() for name in variables.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return (named if any(named) else [str(number) for number in range(cards)]) if cards else []


def _cards(devices: Path) -> list[Path]:
    return sorted(path for path in devices.glob("nvidia[0-9]*") if path.name.removeprefix("nvidia").isdecimal())


def _missing(device: Path, remedy: str) -> GradingError:
    return GradingError(
        f"scripts are to have a GPU, but {printable(str(device))} is missing; {remedy}, {INSTEAD}", option="gpu"
    )
