"""What --version shows, and a log file begins with: the versions that a bug report needs."""

from __future__ import annotations

import platform
import runpy
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import typer

import grading


def print_version(wanted: bool) -> None:
    """For --version: print the versions; then the program ends."""
    if wanted:
        typer.echo(version_line())
        raise typer.Exit


def version_line() -> str:
    """The versions, on one line."""
    parts = [f"hw2-grade {grading.__version__}", f"Python {platform.python_version()}", _torch(), _bubblewrap()]
    return ", ".join([*parts, platform.platform()])


def _torch() -> str:
    """PyTorch and its CUDA, read from its file of versions. Importing torch would take seconds."""
    try:
        if found := find_spec("torch"):
            said = runpy.run_path(str(Path(found.origin or "").with_name("version.py")))
            return f"torch {said['__version__']} (CUDA {said['cuda'] or 'none'})"
    except (ImportError, OSError, KeyError):
        pass
    return "no torch"


def _bubblewrap() -> str:
    path = shutil.which("bwrap")
    if path is None:
        return "no bubblewrap"
    return subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
