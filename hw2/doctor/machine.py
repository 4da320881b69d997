"""What the machine has: PyTorch and the driver, the cards, the kernels for them, and the compiler."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import torch

from hw2.devices.arithmetic import compile_problem, half_precision, has_bfloat16
from hw2.devices.choose import LEAST_DRIVER, cuda_devices, cuda_problem, driver_version
from hw2.devices.memory import free_memory
from hw2.doctor.rows import Row
from hw2.wording import counted

OTHERS = 1.5 * 2**30
"""Bytes of a card that this process and a desktop may take. If more is in use, another program computes there."""


@dataclass(frozen=True)
class Card:
    """One GPU. capability: (major, minor). free, total: bytes. half: the 16-bit format of `--dtype auto`.

    mode: the compute mode, as nvidia-smi names it, such as "Exclusive_Process"; "" if it does not answer.
    """

    name: str
    capability: tuple[int, int]
    free: int
    total: int
    half: torch.dtype
    mode: str


def card(index: int) -> Card:
    """The GPU of that index. It opens the card, and raises RuntimeError if that fails."""
    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    half = half_precision(f"cuda:{index}")
    mode = _compute_mode(str(getattr(properties, "uuid", "")))
    return Card(properties.name, (properties.major, properties.minor), free, total, half, mode)


def _compute_mode(uuid: str) -> str:
    """What nvidia-smi says about the card; indices would differ under CUDA_VISIBLE_DEVICES."""
    command = ["nvidia-smi", f"--id=GPU-{uuid}", "--query-gpu=compute_mode", "--format=csv,noheader"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def versions() -> Iterator[Row]:
    """Python, PyTorch, and the CUDA that it was built for."""
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone"
    if torch.version.hip:
        built = f"ROCm {torch.version.hip}"
    yield Row("versions", "ok", f"Python {platform.python_version()}, PyTorch {torch.__version__}, built for {built}")


def driver() -> Iterator[Row]:
    """Whether the driver and the wheel can work together, and how many GPUs there are."""
    if problem := cuda_problem():
        found, _, remedy = problem.rpartition("; ")
        yield Row("driver", "problem", found, remedy)
        return
    if not cuda_devices():
        yield Row("GPU", "ok", "no GPU; the CPU is used")
        return
    least = LEAST_DRIVER.get(int(str(torch.version.cuda or 0).split(".")[0]), "")
    found = f"driver {driver_version()}" + (f"; CUDA {torch.version.cuda} needs {least} or newer" if least else "")
    if least and _numbers(driver_version()) < _numbers(least) and _numbers(driver_version()):
        yield Row("driver", "warning", f"{found}; CUDA starts all the same", f"install driver {least} or newer")
    else:
        yield Row("driver", "ok", found)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def card_rows(index: int) -> Iterator[Row]:
    """One GPU: its memory, its formats, and whether this PyTorch has kernels for it."""
    name, found = f"cuda:{index}", card(index)
    yield _card_row(name, found)
    if found.mode not in ("", "Default"):
        yield Row(
            f"{name} mode",
            "warning",
            f"its compute mode is {found.mode}, which keeps other programs out",
            "to share the card, type sudo nvidia-smi -c DEFAULT",
        )
    yield _formats_row(f"{name} formats", found)
    yield kernels(f"{name} kernels", found.capability, torch.cuda.get_arch_list())


def _card_row(name: str, found: Card) -> Row:
    sizes = f"{found.free / 2**30:.1f} of {found.total / 2**30:.1f} GiB are free"
    text = f"{found.name}, compute capability {_dotted(found.capability)}, {sizes}"
    if found.total - found.free > OTHERS:
        return Row(name, "warning", text, "another program uses the rest; nvidia-smi names it")
    return Row(name, "ok", text)


def _formats_row(name: str, found: Card) -> Row:
    since = {"float16": (5, 3), "bfloat16": (8, 0), "TF32": (8, 0)}
    native = [each for each, capability in since.items() if found.capability >= capability]
    half = format_name(found.half)
    return Row(name, "ok", f"float32{''.join(f', {each}' for each in native)} are native; --dtype auto takes {half}")


def kernels(name: str, capability: tuple[int, int], compiled_for: list[str]) -> Row:
    """Whether the wheel has kernels for a card. compiled_for: such as ["sm_75", "sm_90a", "compute_90"].

    Machine code ("sm_75") runs on its major version from its minor version on, and with an "a" only on its own. PTX
    ("compute_90") is compiled for any later card when it is first used (CUDA C++ Programming Guide, "Compatibility").
    """
    has = f"PyTorch {torch.__version__} has kernels for {' '.join(compiled_for)}"
    entries = [parts for each in compiled_for if (parts := re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", each))]
    if not entries or any(parts[1] == "sm" and _runs(capability, parts) for parts in entries):  # ROCm has other names
        return Row(name, "ok", f"{has}; the card takes them")
    if any(parts[1] == "compute" and not parts[4] and capability >= _version(parts) for parts in entries):
        return Row(
            name, "warning", f"{has}; the card compiles them when they are first used", "install a newer PyTorch"
        )
    newer = all(capability > _version(parts) for parts in entries)
    wanted = "a newer PyTorch" if newer else "a PyTorch for an older CUDA"
    found = f"{has}, and none for compute capability {_dotted(capability)}"
    return Row(name, "problem", found, f"install {wanted} (pytorch.org/get-started)")


def _version(parts: re.Match[str]) -> tuple[int, int]:
    return int(parts[2]), int(parts[3])


def _runs(capability: tuple[int, int], parts: re.Match[str]) -> bool:
    """Whether machine code of this name runs on the card."""
    major, minor = _version(parts)
    return capability == (major, minor) or (parts[4] != "a" and capability[0] == major and capability[1] > minor)


def several() -> Iterator[Row]:
    """How many GPUs programs see, and what trainings on several of them need."""
    count, visible = cuda_devices(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if not count:
        return
    named = "not set" if visible is None else repr(visible)
    seen = f"{counted(count, 'GPU')}; CUDA_VISIBLE_DEVICES is {named}"
    if count < 2:
        yield Row("GPUs", "ok", seen)
        return
    if not torch.distributed.is_available() or not torch.distributed.is_nccl_available():
        yield Row("GPUs", "warning", f"{seen}; PyTorch has no NCCL", "install a PyTorch with NCCL to train on several")
        return
    apart = [pair for pair in permutations(range(count), 2) if not torch.cuda.can_device_access_peer(*pair)]
    peers = "they reach each other's memory" if not apart else "some reach each other through the CPU only"
    yield Row("GPUs", "ok", f"{seen}; NCCL is there; {peers}")


def compiler(device: torch.device, *, tries: bool) -> Iterator[Row]:
    """The compilers, and torch.compile if it is tried. On a CPU the trial takes longer than everything else."""
    variable, usual = ("CC", ("gcc", "clang", "cc")) if device.type == "cuda" else ("CXX", ("g++", "clang++", "c++"))
    candidates = (os.environ.get(variable, ""), *usual)
    path = next((there for name in candidates if name and (there := shutil.which(name))), "")
    if path:
        yield Row("compiler", "ok", path)
    else:
        yield Row("compiler", "warning", "none; torch.compile needs one", "install one: sudo apt-get install g++")
    if not tries:
        yield Row("torch.compile", "ok", "not tried, because trainings on a CPU do not use it; --compile tries it")
    elif reason := compile_problem(device):
        remedy = (
            "install a C++ compiler and Python's headers (sudo apt-get install g++ python3-dev), or use --no-compile"
        )
        yield Row("torch.compile", "warning", f"it does not work, and trainings are slower: {reason}", remedy)
    else:
        yield Row("torch.compile", "ok", "it works")


def processor(device: torch.device) -> Iterator[Row]:
    """The CPU: its threads, and the formats that it computes in."""
    auto = "; --dtype auto takes float32" if device.type == "cpu" else ""
    found = (
        f"{platform.machine()}, {counted(os.cpu_count() or 1, 'core')}, {counted(torch.get_num_threads(), 'thread')}"
    )
    yield Row("CPU", "ok", found + auto)


def room(device: torch.device) -> int | None:
    """Bytes that are free on the device; None if the machine does not tell."""
    if device.type == "cuda":
        free_memory()
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def native_formats(device: torch.device) -> tuple[torch.dtype, ...]:
    """The formats that `--dtype auto` or a training may take: float32, and on a GPU those of 16 bits that it has."""
    if device.type == "cpu":
        return (torch.float32,)
    return (torch.float32, torch.float16, torch.bfloat16) if has_bfloat16(device) else (torch.float32, torch.float16)


def format_name(dtype: torch.dtype) -> str:
    """The name of a number format: "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
