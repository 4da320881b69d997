"""System commands that answer a question."""

from __future__ import annotations

import shutil
import subprocess

SECONDS = 30
"""The time that an answer may take. nvidia-smi needs some seconds where the driver must first wake the GPU."""


def said(command: str, *arguments: str) -> str:
    """The output of a system command; empty if it is not installed, fails or takes too long."""
    path = shutil.which(command)
    if path is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - a system command
            [path, *arguments], capture_output=True, text=True, errors="replace", check=False, timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
