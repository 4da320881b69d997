"""What the sandbox's tests share."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from grading.core.errors import GradingError
from grading.sandbox.calls import open_filter
from grading.sandbox.cgroups import find_groups, remove_left_over
from grading.sandbox.run import Limits, RunResult, Sandbox, run_sandboxed

ROOT = Path(__file__).parents[2]
ATTACKS = ROOT / "fixtures" / "submissions" / "attacks"

SMALL = Limits(
    seconds=10.0,
    memory_bytes=256 * 2**20,
    processes=64,
    space_bytes=32 * 2**20,
    files=1000,
    file_bytes=18 * 2**20,
)
"""Far below what the attacks use without the protection."""

TRUSTED = Sandbox(trust=True)


@functools.cache
def why_no_network() -> str:
    """Why no download can have a network of its own here; empty if one can."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        try:
            run_sandboxed(["true"], submission=Path(folder), network=True).close()
        except GradingError as error:
            return str(error)
    return ""


@functools.cache
def why_no_sandbox() -> str:
    """Why no sandbox can be made here; empty if one can."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        try:
            run_sandboxed(["true"], submission=Path(folder)).close()
        except GradingError as error:
            return str(error)
    return ""


NO_OTHER_USER = "only root can act as another user, and only with a Python that others may read"


@functools.cache
def another_user_runs_python() -> bool:
    """Whether this process can start its Python as another user."""
    command = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", sys.executable, "-c", "import numpy"]
    return os.geteuid() == 0 and subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0


needs_sandbox = pytest.mark.skipif(bool(why_no_sandbox()), reason=why_no_sandbox())
needs_network = pytest.mark.skipif(bool(why_no_network()), reason=why_no_network())

BOTH = pytest.mark.parametrize(
    "sandbox", [TRUSTED, pytest.param(Sandbox(), marks=needs_sandbox)], ids=["trusted", "sandboxed"]
)
"""Runs a test once without the sandbox and once with it."""


def remove_left_over_groups() -> None:
    """Remove the control groups of graders that a test has killed."""
    for place in find_groups().places:
        remove_left_over(place.folder)


def run(script: str, folder: Path, limits: Limits = SMALL, **options: Any) -> RunResult:
    """Run a script of bash in a folder, and release its output."""
    with run_sandboxed(["bash", "-c", script], submission=folder, limits=limits, **options) as result:
        return result


def without_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs use all system calls."""
    monkeypatch.setattr("grading.sandbox.bubblewrap.open_filter", lambda resources: open_filter(resources, ()))
