"""An environment for the scripts, and what the submissions of a class import that it lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.text import printable
from grading.environment.imports import foreign_modules
from grading.environment.packages import NOT_ALLOWED, REMOVED_FROM_PYTHON, distribution_of, install_hint, root_of
from grading.files.storage import locked

PARTIAL = ".hw2-grade-unfinished"
"""File in an environment that is not complete: it is there from the first step until pip has ended well."""

PROBE_SECONDS = 120
"""For one answer of an environment's Python, whose disk may be slow."""

PROBE = """
import importlib.util, json, sys
def absent(name):
    try:
        return importlib.util.find_spec(name) is None
    except (ImportError, ValueError):
        return True
print(json.dumps({"version": sys.version.split()[0], "missing": [name for name in sys.argv[1:] if absent(name)]}))
"""
"""Program for an environment's Python: its version, and which modules named in its arguments it lacks."""


@dataclass(frozen=True)
class Lacking:
    """A module that submissions import and that an environment lacks.

    distribution: that provides it; empty if nobody knows, and it is probably a file that the submissions lack. remedy:
    what to do. fixable: whether staff can add it. submissions: their names, not yet safe to print.
    """

    module: str
    distribution: str
    remedy: str
    fixable: bool
    submissions: tuple[str, ...]


def build_environment(
    folder: Path, requirements: Path | None, default: Path, interpreter: str = sys.executable
) -> bool:
    """Make a virtual environment in `folder`, and return whether anything was installed.

    A finished environment is left as it is, unless requirements name a file to install into it. An unfinished one is
    continued. default: requirements of a new environment. interpreter: path or name of its Python. pip reports on
    stderr. Raises GradingError if the folder holds something else, or a step fails.
    """
    if is_finished(folder) and requirements is None:
        return False
    wanted = requirements or default
    if not wanted.is_file():
        raise GradingError(f"{printable(str(wanted))} is not a file; expected requirements as pip reads them")
    with _made(folder):
        if not is_finished(folder):
            (folder / PARTIAL).touch()
            _run([interpreter, "-m", "venv", str(folder)], "no environment could be made")
        pip = [str(folder / "bin" / "python3"), "-m", "pip", "install", "--requirement", str(wanted)]
        _run(pip, f"pip could not install all of {printable(str(wanted))}")
        (folder / PARTIAL).unlink(missing_ok=True)
    return True


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a Python environment that is not half built."""
    return (folder / "bin" / "python3").exists() and not (folder / PARTIAL).exists()


def missing_modules(folder: Path, modules: Iterable[str]) -> set[str]:
    """The modules that the environment in `folder` lacks. Nothing is imported but the parents of dotted names.

    Raises GradingError if its Python cannot be run.
    """
    command = [str(folder / "bin" / "python3"), "-I", "-c", PROBE, *modules]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=PROBE_SECONDS)  # noqa: S603 - staff's own
        return set(json.loads(done.stdout)["missing"])
    except (OSError, ValueError, subprocess.SubprocessError):
        shown = printable(str(folder))
        raise GradingError(f"{shown} has no Python that runs; expected an environment with bin/python3") from None


def lacking(folder: Path, submissions: Path, on_submission: Callable[[str], None] = lambda _: None) -> list[Lacking]:
    """What the submissions, one for each folder in `submissions`, import that the environment in `folder` lacks.

    The most common come first. Nothing of a submission runs. Raises GradingError if a folder cannot be read.
    """
    users: dict[str, list[str]] = {}
    for path in _folders(submissions):
        on_submission(path.name)
        for module in sorted(set(map(root_of, foreign_modules(path)))):
            users.setdefault(module, []).append(path.name)
    found = [_lacking(module, users) for module in missing_modules(folder, users)]
    return sorted(found, key=lambda each: (not each.fixable, -len(each.submissions), each.module))


def _lacking(module: str, users: Mapping[str, Sequence[str]]) -> Lacking:
    distribution = distribution_of(module) or ""
    remedy = install_hint(distribution) if distribution else "probably a file that the submission lacks"
    if module in REMOVED_FROM_PYTHON:
        remedy = f"use a Python before {REMOVED_FROM_PYTHON[module]}, which no longer has it"
    if distribution in NOT_ALLOWED:
        remedy = "none: the homework forbids it"
    fixable = (bool(distribution) or module in REMOVED_FROM_PYTHON) and distribution not in NOT_ALLOWED
    return Lacking(module, distribution, remedy, fixable, tuple(users[module]))


def _folders(submissions: Path) -> list[Path]:
    try:
        entries = [Path(entry.path) for entry in os.scandir(submissions) if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        shown = printable(str(submissions))
        raise GradingError(f"{shown} cannot be read ({error.strerror}); expected a folder of submissions") from None
    return sorted(entries, key=os.fsencode)


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder, locked. Raises GradingError if it holds something other than an environment."""
    try:
        ours = is_finished(folder) or (folder / PARTIAL).exists()
        if not ours and folder.exists() and any(each.name != ".lock" for each in folder.iterdir()):
            raise GradingError(f"{printable(str(folder))} holds something else; choose a new folder", option="output")
        with locked(folder):
            yield
    except OSError as error:
        shown = printable(str(error.filename or folder))
        raise GradingError(f"{shown} cannot be used ({error.strerror}); choose another folder") from None


def _run(command: Sequence[str], failure: str) -> None:
    """Run a program whose output goes to stderr. Raises GradingError, which begins with `failure`."""
    try:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, check=False).returncode  # noqa: S603
    except OSError as error:
        raise GradingError(f"{failure} ({printable(command[0])}: {error.strerror})") from None
    if status != 0:
        raise GradingError(f"{failure}; its messages are above; correct the cause, then run this again to resume")
