"""What a script needs of the machine and does not have: a GPU, CPU time, and places to write to."""

from __future__ import annotations

import re

from grading.causes.rule import Scene
from grading.core.pythonlog import find_error
from grading.core.results import Cause
from grading.core.text import printable

_NO_GPU = re.compile(
    r"Found no NVIDIA driver|No CUDA GPUs are available|not compiled with CUDA|CUDA driver version is insufficient|"
    r"torch\.cuda\.is_available\(\)|CUDA-capable device|no NVIDIA GPU|CUDA is not available|CUDA_ERROR_NO_DEVICE|"
    r"No CUDA runtime|Unexpected error from cudaGetDeviceCount|CUDA initialization|on your system is too old|"
    r"nvidia-smi: (?:command )?not found",
)
_CUDA_CODE = r"\bcuda\b|torch\.load\(|load_from_checkpoint|nvidia-smi"
"""Code that may use a GPU. A checkpoint that was saved on one asks for it when it is loaded."""


def no_gpu(scene: Scene) -> Cause | None:
    """The script needs a GPU, and scripts have none."""
    if not _NO_GPU.search(scene.log) or not scene.in_code(_CUDA_CODE):
        return None
    reason = scene.probes.cuda()
    if not reason:
        return None
    evidence = "The script needs a GPU, and the grading gave it none."
    if scene.gpu:
        evidence = f"The script needs a GPU, and no CUDA operation runs in the sandbox ({reason})."
    return Cause("machine", "gpu", "a GPU", evidence, "grade on a machine with a GPU, with the option gpu")


def slow_without_gpu(scene: Scene) -> Cause | None:
    """The script reached its time limit on the CPU, and its code would use a GPU."""
    if scene.stage.limit != "seconds" or not scene.in_code(r"\bcuda\b") or not scene.probes.cuda():
        return None
    evidence = (
        "The script reached its time limit without a GPU; the course's machine has one, and its code would use it."
    )
    return Cause("machine", "gpu", "a GPU", evidence, "grade on a machine with a GPU, with the option gpu")


def too_little_cpu(scene: Scene) -> Cause | None:
    """The script reached its time limit because others used the CPUs, as the grader measured it."""
    stage = scene.stage
    if stage.limit != "seconds" or not stage.cpu_lost:
        return None
    evidence = (
        f"In {stage.seconds:.1f} s it got {stage.cpu_seconds or 0:.1f} s of CPU time, and waited for at least "
        f"{stage.cpu_lost:.1f} s more while others used the CPUs."
    )
    return Cause("machine", "cpu", "CPU time", evidence, "grade with fewer workers, or when the machine is less busy")


def gpu_memory(scene: Scene) -> Cause | None:
    """The script was stopped for its GPU memory. PyTorch's cache is a part of it, and grows with the card."""
    if scene.stage.limit != "gpu memory":
        return None
    return Cause(
        "machine", "gpu memory", "GPU memory",
        "A part may be PyTorch's cache, which grows with the card and would shrink on the course's.",
        "grade on a card, or a MIG slice, of the course's size, or raise gpu_bytes under [limits]",
    )  # fmt: skip


_READ_ONLY = re.compile(r"^(?:OSError|PermissionError): \[Errno (?:13|30)\] [\w -]+: '(?P<path>[^']+)'$")
_GIVEN = ("/data", "/output", "/submission")


def read_only_place(scene: Scene) -> Cause | None:
    """The script ends because it writes outside its folders, where the course's machine has no sandbox."""
    error = find_error(scene.log)
    found = _READ_ONLY.match(error.text) if error else None
    if not found or not scene.stage.exit_status or found["path"].startswith(_GIVEN):
        return None
    first = found["path"].split("/")[0] if not found["path"].startswith("/") else found["path"]
    if first not in ("..", found["path"]) or not scene.in_code(re.escape(found["path"])):
        return None
    shown = printable(found["path"])
    return Cause(
        "machine", "read-only", shown,
        f"The script writes to {shown}, which is outside its folders and read-only here.",
        "decide the points yourself (a column settled_N of the staff file)",
    )  # fmt: skip
