"""The facts that are needed to reproduce a grade: versions, hashes, hardware."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.system import said
from grading.core.text import printable
from grading.files.take import FOLDER_RIGHTS, SUBMISSION_CAPS, Caps, is_closed
from grading.sandbox.cgroups import find_groups
from grading.sandbox.folders import walk

PACKAGES = ("dlcv-hw2", "torch", "torchvision", "transformers", "pillow", "numpy", "safetensors")


_said = functools.cache(said)


def versions() -> dict[str, str]:
    """The versions of everything that the numbers depend on, and of the sandbox."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    found["bubblewrap"] = _said("bwrap", "--version").removeprefix("bubblewrap ")
    return found


def hardware() -> dict[str, str | int]:
    """Processor, cores that the grader may use, memory in GiB, GPUs, and what holds the limits of untrusted scripts."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+)", _text("/proc/meminfo"), re.MULTILINE)
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": cpu[1] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory[1]) / 2**20) if memory else 0,
        "gpus": _said("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"),
        "limits": find_groups().protection,
    }


def data_hashes(paths: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of each file, or of a folder's files with their names. Raises GradingError if one cannot be read."""
    return {name: _hash(path) for name, path in paths.items()}


def listing_hash(folder: Path, caps: Caps = SUBMISSION_CAPS) -> str:
    """SHA-256 of the names, sizes and times of all that is below a folder; follows no link.

    caps: what is beyond is refused by the copy, so that it is not looked at. What cannot be listed has no entries.
    Raises GradingError if the folder itself cannot be opened by the grader although its owner may.
    """
    digest = hashlib.sha256()
    try:
        for each in walk(folder, caps.entries, caps.depth):
            for name in sorted([*each.files, *each.folders]):
                digest.update(os.fsencode(f"{each.path(name)}\0{_looks(name, each.descriptor)}\n"))
    except OSError as error:
        if not is_closed(folder.stat(), FOLDER_RIGHTS):
            raise GradingError(f"{printable(str(folder))} cannot be listed ({error.strerror})") from None
    return digest.hexdigest()


def _looks(name: str, folder: int) -> str:
    """The mode, size and time of an entry; empty if there is no access to it."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return ""
    return f"{status.st_mode}\0{status.st_size}\0{status.st_mtime_ns}"


def _hash(path: Path) -> str:
    try:
        if path.is_dir():
            return _hash_all(sorted(each for each in path.rglob("*") if each.is_file()), path)
        return _hash_file(path)
    except OSError as error:
        raise GradingError(f"{printable(str(error.filename or path))} cannot be read ({error.strerror})") from None


def _hash_all(files: Iterable[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{_hash_file(path)}  {path.relative_to(root)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _hash_file(path: Path) -> str:
    status = path.stat()
    return _hash_content(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=10_000)
def _hash_content(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
