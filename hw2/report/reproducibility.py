"""What a reader needs to make the same report: versions, files, seeds, times and commands."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import hw2
from hw2.report.inputs import SEED, Inputs, shown_path
from hw2.report.part import Made, code_digest

PACKAGES = ("torch", "diffusers", "transformers", "numpy", "pillow", "matplotlib")


@dataclass(frozen=True)
class Record:
    """versions: package -> version. files: name -> SHA-256. seconds: part -> seconds. commands: part -> command."""

    versions: Mapping[str, str]
    files: Mapping[str, str]
    seconds: Mapping[str, float]
    commands: Mapping[str, str]
    total: float
    seed: int
    device: str
    code: str


def record(made: Sequence[Made], inputs: Inputs, problems: Sequence[int]) -> Record:
    """The record of these parts."""
    seconds = {each.part.name: each.seconds for each in made}
    return Record(
        versions={"hw2": hw2.__version__, "Python": platform.python_version(), **_packages()},
        files={name: digest for problem in problems for name, digest in inputs.files(problem).items()},
        seconds=seconds,
        commands={each.part.name: _command(each, inputs) for each in made},
        total=sum(seconds.values()),
        seed=SEED,
        device=inputs.device,
        code=code_digest(),
    )


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "–"
    return found


def _command(made: Made, inputs: Inputs) -> str:
    part = made.part
    places = {name: shown_path(getattr(inputs, name)) for name in ("data", "unet", "digits")}
    return part.command.format(**places) or f"hw2 report --problems {part.problem} --output report"
