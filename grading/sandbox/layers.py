"""Folders that a command may change without changing the host's: an overlay, or a copy where there can be none."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.text import printable
from grading.sandbox.backend import Job
from grading.sandbox.duplicate import duplicate
from grading.sandbox.temporary import mount_points, prefix, temporary_folder

MERGED, FILE = "merged", "file"
"""What a layer's mount point has for the run: the host's folder, with the changes if there can be any, or a file."""

LAYER = f"""
layer() {{  # folder, mount point, bytes: an overlay whose changes are kept in memory
  mount -t tmpfs -o "size=$3,mode=711" layer "$2" && cd "$2" && mkdir lower upper work {MERGED} &&
  mount --bind "$1" lower && chown --reference=lower upper && chmod --reference=lower upper &&
  mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work,redirect_dir=on layer {MERGED} && cd /
}}
"""
"""A function of sh. The command sees the mount's options, so they name no path of the host."""

SMALL = 2**22
"""Bytes of a file that is copied for each run. The mount of a larger one tells its name, without its folders."""

VEIL = f"""
veil() {{  # folder or file, mount point: the same, to be read only
  folder=$1
  [ -d "$1" ] || folder=${{1%/*}}
  mount -t tmpfs -o mode=711 layer "$2" && cd "$2" && mkdir lower empty {MERGED} &&
  mount --bind "${{folder:-/}}" lower && mount -t overlay -o ro,lowerdir=lower:empty layer {MERGED} || return 1
  if [ -f "$1" ] && [ "$(stat -c %s "$1")" -le {SMALL} ]; then
    cp --preserve=mode,timestamps "$1" {FILE} || return 1
  elif ! [ -d "$1" ]; then
    touch {FILE} && mount --bind "{MERGED}/${{1##*/}}" {FILE} || return 1
  fi
  cd /
}}
"""
"""A function of sh. A bind mount tells its path on the host in /proc/self/mountinfo, and an overlay does not."""

TRIED: dict[int, bool] = {}
"""Whether overlays can be mounted, by the number of the file system."""

PRIVATE_MOUNTS = ("unshare", "--mount", "--propagation", "private", "sh", "-c")
"""Runs a script of sh as root in a mount namespace that no other process sees and that ends with it."""

USERS_MOUNTS = ("unshare", "--user", "--map-root-user", *PRIVATE_MOUNTS[1:])
"""The same for another user, who is root in a user namespace that the script gets. It mounts layers to be read only."""


def private_mounts() -> tuple[str, ...]:
    """The beginning of a command that mounts what no other process sees."""
    return PRIVATE_MOUNTS if os.geteuid() == 0 else USERS_MOUNTS


def can_overlay(job: Job) -> bool:
    """Whether an overlay can be mounted over each layered folder of a job. Only root can."""
    return os.geteuid() == 0 and all(_mounts(job.folders[inside]) for inside in job.layered)


def can_veil(path: Path) -> bool:
    """Whether an overlay can show all of a folder, or of a file's folder. An overlay shows no mounts below a folder.

    A user can make one where the kernel allows user namespaces, and overlays in them (Linux 5.11).
    """
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    return _mounts(folder) and not any(point.is_relative_to(path.resolve()) for point in mount_points() - {folder})


def _mounts(folder: Path) -> bool:
    """Whether an overlay can be mounted over a folder: one trial for each file system."""
    device = folder.stat().st_dev
    if device not in TRIED:
        TRIED[device] = _try_mount(folder)
    return TRIED[device]


def _try_mount(folder: Path) -> bool:
    script = f'{LAYER} layer "$1" "$2" 1m' if os.geteuid() == 0 else f'{VEIL} veil "$1" "$2"'
    with tempfile.TemporaryDirectory(prefix=prefix("grade")) as point:
        tried = subprocess.run(  # noqa: S603 - a system command
            [*private_mounts(), script, "sh", str(folder.resolve()), point], env={"PATH": os.defpath},
            capture_output=True, check=False,
        )  # fmt: skip
    return tried.returncode == 0


def with_copies(job: Job, resources: ExitStack) -> Job:
    """The same job with a copy of each layered folder, which `resources` removes.

    A copy lies beside its original, where there is room for it, and where some disks share the content of both.
    Raises GradingError if a folder cannot be copied.
    """
    copies = {inside: _copy(job.folders[inside], resources) for inside in job.layered}
    return replace(job, folders={**job.folders, **copies})


def _copy(folder: Path, resources: ExitStack) -> Path:
    """Copy a folder as it is."""
    try:
        copy = resources.enter_context(temporary_folder("grade", folder.parent)) / "copy"
        duplicate(folder.resolve(), copy)
    except OSError as error:
        raise _uncopied(folder, str(error.strerror)) from None
    return copy


def _uncopied(folder: Path, reason: str) -> GradingError:
    shown = printable(str(folder))
    return GradingError(f"{shown} cannot be copied for the run ({printable(reason)}); free some space and grade again")
