"""The packages of the course's environment, and the package that provides a module."""

from __future__ import annotations

import csv
import functools
import re
import sys
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path

_HERE = files("grading.environment")

COURSE_REQUIREMENTS = "requirements/course.txt"
"""The packages of Fall 2024 and Fall 2025 in the course's versions, for Python 3.8."""

CURRENT_REQUIREMENTS = "requirements/current.txt"
"""The same packages in versions that install on a current Python."""

NOT_ALLOWED = frozenset({"diffusers"})
"""Distributions that the homework forbids; the requirements do not name them."""

REMOVED_FROM_PYTHON: Mapping[str, str] = {
    "dummy_threading": "3.9",
    "formatter": "3.10",
    "parser": "3.10",
    "symbol": "3.10",
    "macpath": "3.8",
    "binhex": "3.11",
    "asynchat": "3.12",
    "asyncore": "3.12",
    "distutils": "3.12",
    "imp": "3.12",
    "smtpd": "3.12",
    "aifc": "3.13",
    "audioop": "3.13",
    "cgi": "3.13",
    "cgitb": "3.13",
    "chunk": "3.13",
    "crypt": "3.13",
    "imghdr": "3.13",
    "lib2to3": "3.13",
    "mailcap": "3.13",
    "msilib": "3.13",
    "nis": "3.13",
    "nntplib": "3.13",
    "ossaudiodev": "3.13",
    "pipes": "3.13",
    "sndhdr": "3.13",
    "spwd": "3.13",
    "sunau": "3.13",
    "telnetlib": "3.13",
    "uu": "3.13",
    "xdrlib": "3.13",
}
"""Modules of the standard library, with the version of Python that no longer has them ("What's New in Python")."""


REMOVED_NAMES: Mapping[str, frozenset[str]] = {
    "numpy": frozenset(
        {"bool", "complex", "float", "float_", "int", "long", "object", "str", "unicode_", "Inf", "NaN"}
    ),
    "PIL.Image": frozenset({"ANTIALIAS", "CUBIC", "LINEAR"}),
    "collections": frozenset({"Callable", "Iterable", "Mapping", "MutableMapping", "Sequence"}),
}
"""Names that newer versions of a module no longer have, by module (its release notes)."""

NOT_ON_PYPI: Mapping[str, str] = {
    "latent-diffusion": "pip install -e of the stable-diffusion folder of the course's template",
    "nvidia-apex": "pip install git+https://github.com/NVIDIA/apex",
    "google-colab": "only Google Colab has it; the code must do without",
}
"""How to install a distribution of the table that PyPI lacks, or has under another name."""


def requirements_file(name: str = CURRENT_REQUIREMENTS) -> Path:
    """The path of one of our requirements files. name: COURSE_REQUIREMENTS or CURRENT_REQUIREMENTS."""
    with as_file(_HERE / name) as path:
        return path


def distribution_of(module: str) -> str | None:
    """The distribution, as pip knows it, that provides a module; None if the table does not know the module.

    module: an imported name, such as "cv2" or "mpl_toolkits.axes_grid1"; its first name decides, unless the table has
    a longer one. A module that nobody knows is probably a file that the submission lacks.
    """
    return _DISTRIBUTIONS.get(root_of(module))


def root_of(module: str) -> str:
    """The part of an imported name that a distribution provides: "cv2", or "google.protobuf" where "google" is shared.

    That is the longest beginning that the table has, or else the first name.
    """
    names = module.split(".")
    longest_first = (".".join(names[:length]) for length in range(len(names), 0, -1))
    return next((name for name in longest_first if name in _DISTRIBUTIONS), names[0])


def known_modules() -> Mapping[str, str]:
    """The distribution of each module of the table."""
    return _DISTRIBUTIONS


def install_hint(distribution: str) -> str:
    """What to type, or to know, to get a distribution of the table."""
    return NOT_ON_PYPI.get(distribution, f"pip install {distribution}")


def is_standard(module: str) -> bool:
    """Whether a module belongs to Python's standard library, of this version or of an earlier one."""
    top = module.partition(".")[0]
    return top in sys.stdlib_module_names or top in REMOVED_FROM_PYTHON


@functools.cache
def course_packages() -> Mapping[str, str]:
    """The requirements of the course: for each distribution, its line without the name, such as "==1.11.0"."""
    return _requirements((_HERE / COURSE_REQUIREMENTS).read_text())


def _requirements(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        line = line.partition("#egg=")[2] if line.startswith("-e ") else line.partition("#")[0].strip()
        if line:
            name = re.split(r"[=<>~!]", line, maxsplit=1)[0]
            found[name] = line.removeprefix(name)
    return found


def _read_distributions() -> dict[str, str]:
    lines = (_HERE / "distributions.csv").read_text().splitlines()
    return {row["module"]: row["distribution"] for row in csv.DictReader(lines)}


_DISTRIBUTIONS: Mapping[str, str] = _read_distributions()
