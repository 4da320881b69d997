"""Finds this project's own code in what a run can see, and covers it: it holds the solution and the expected outputs.

Our code may be there as an installed wheel, as a link of `pip install -e` to a checkout, or as a copy. It is told from
others' packages of the same name by its rooms, and by the list of files that an installation keeps.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import grading

HERE = Path(grading.__file__).resolve().parents[1]
"""The folder that holds the packages of the grader that runs."""

Kind = Literal["package", "folder", "info", "file"]

ROOMS = (
    frozenset({"concepts", "diffusion", "digits", "faces"}),
    frozenset({"homeworks", "judges", "sandbox"}),
    frozenset({"hw2_data", "making"}),
)
"""Folders that our packages hw2, grading and fixtures have, and no other folder has all of."""

PACKAGES = ("hw2", "grading", "fixtures")

IN_A_CHECKOUT = ("tests", ".git", "build", "dist")
"""What else of a checkout shows the solution: tests with its numbers, its history, and what was built of it."""

SITES = ("site-packages", "dist-packages")

OF_USR = ("local", "lib/python3", *(f"lib/python3.{minor}" for minor in range(8, 20)))
"""Where Pythons of the system keep packages. All of /usr takes seconds to search, and packages are nowhere else."""

SKIPPED = ("__pycache__", "node_modules", "proc", "sys")

INSTALLED = re.compile(
    r"(__editable__[_.]*)?dlcv[-_]hw2([-_.].*)?\.(dist-info|egg-info|egg-link|pth|py|whl|tar\.gz|zip)"
)
"""Names of what an installation of this project leaves beside its packages, or of what it was installed from."""

ABSENT = """
import importlib.machinery, importlib.util, os, sys

here = os.path.realpath(os.path.dirname(os.path.dirname(__file__)))
sys.absent_hw2 = {here, *getattr(sys, "absent_hw2", ())}
others = [entry for entry in sys.path if os.path.realpath(entry) not in sys.absent_hw2]
spec = importlib.machinery.PathFinder.find_spec(__name__, others)
if spec is None:
    raise ModuleNotFoundError("No module named %r" % __name__, name=__name__)
sys.modules[__name__] = module = importlib.util.module_from_spec(spec)
if spec.loader:
    spec.loader.exec_module(module)
"""
"""In place of a package. Imports find what they would find if the package were absent: another of that name, or none.
There may be several such places, and none of them is found from another.

An empty folder would be imported as a namespace, and be merged with a submission's folder of the same name.
"""

FACTS = "Metadata-Version: 2.1\nName: dlcv-hw2\nVersion: 0\n"
"""In place of an installation's facts. Programs that list all of them expect a name."""

CONTENT: dict[Kind, dict[str, str]] = {
    "package": {"__init__.py": ABSENT},
    "info": {"METADATA": FACTS},
    "folder": {},
}
"""The files in what covers a folder."""

Listing = dict[str, bool]


@dataclass(frozen=True)
class Place:
    """A part of our code. path: relative to the folder that a run sees."""

    path: Path
    kind: Kind


@dataclass(frozen=True)
class Shown:
    """A folder or file that a run sees. own: the parts of our code in it, none within another."""

    outside: Path
    inside: str
    own: tuple[Place, ...] = ()

    def shows(self, secret: Path) -> bool:
        """Whether a path lies in it, and not in a part that is covered."""
        root, path = self.outside.resolve(), secret.resolve()
        return path.is_relative_to(root) and not any(path.is_relative_to(root / place.path) for place in self.own)


class Covers:
    """bubblewrap's arguments that cover our code.

    closing: the last arguments. A cover stays open until all else is mounted, because something that the run may see
    can lie within. contents: descriptors that bubblewrap reads.
    """

    def __init__(self, resources: ExitStack) -> None:
        self.resources = resources
        self.closing: list[str] = []
        self.contents: list[int] = []

    def over(self, shown: Shown) -> list[str]:
        """Arguments that follow the mount of `shown`."""
        return [argument for place in shown.own for argument in self._over(Path(shown.inside, place.path), place.kind)]

    def _over(self, path: Path, kind: Kind) -> list[str]:
        if kind == "file":
            return ["--perms", "0444", "--ro-bind-data", self._content(""), str(path)]
        self.closing += ["--remount-ro", str(path)]
        arguments = ["--tmpfs", str(path)]
        for name, text in CONTENT[kind].items():
            arguments += ["--perms", "0444", "--file", self._content(text), str(path / name)]
        return arguments

    def _content(self, text: str) -> str:
        descriptor = os.memfd_create("cover")
        self.resources.callback(os.close, descriptor)
        os.write(descriptor, text.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        self.contents.append(descriptor)
        return str(descriptor)


def outer_first(folders: Sequence[Path]) -> list[Path]:
    """Folders in an order in which they can be mounted.

    One within another is given by its real path, to which links in the other lead.
    """
    within = {each for each in folders if any(each != other and each.is_relative_to(other) for other in folders)}
    places = dict.fromkeys(each.resolve() if each in within else each for each in folders)
    return sorted(places, key=lambda each: len(each.parts))


def look(outside: Path, inside: str, *, searched: bool) -> Shown:
    """What a run sees of a folder or file.

    searched: look for copies of our code too, in all folders below it except those within installed packages; otherwise
    only the code of the grader that runs is found.
    """
    return Shown(outside, inside, _own_places(outside.resolve(), searched) if outside.is_dir() else ())


def _own_places(root: Path, searched: bool) -> tuple[Place, ...]:
    found = dict(_search(root)) if searched else {}
    if HERE.is_relative_to(root):
        below = HERE.relative_to(root)
        found |= {below / name: kind for name, kind in _entries(HERE, _listed(HERE))}
    elif searched and any(root.is_relative_to(HERE / name) for name in PACKAGES):
        found[Path()] = "folder"
    within = {Path(os.path.normpath(path)): kind for path, kind in found.items()}
    outermost = [path for path in within if path.parts[:1] != ("..",) and not within.keys() & set(path.parents)]
    return tuple(Place(path, within[path]) for path in sorted(outermost))


@functools.cache
def _search(root: Path) -> tuple[tuple[Path, Kind], ...]:
    """The parts of our code below a folder, relative to it. The answer of the first call is kept."""
    found: dict[Path, Kind] = {}
    folders = [root / name for name in OF_USR] if root == Path("/usr") else [root]
    while folders:
        folder = folders.pop()
        listed = _listed(folder)
        if _is_own(listed):
            found[folder.relative_to(root)] = "package"
            continue
        found |= {(folder / name).relative_to(root): kind for name, kind in _entries(folder, listed)}
        wanted = PACKAGES if folder.name in SITES else listed
        folders += [folder / name for name in wanted if listed.get(name) and name not in SKIPPED]
    return tuple(found.items())


def _entries(folder: Path, listed: Listing) -> Iterator[tuple[Path, Kind]]:
    """The parts of our code among a folder's entries, and programs elsewhere that were installed with them."""
    own = [name for name in PACKAGES if listed.get(name) and _is_own(_listed(folder / name))]
    yield from ((Path(name), "package") for name in own)
    if {"hw2", "grading"} <= set(own) and "pyproject.toml" in listed:
        yield from ((Path(name), _kind(folder / name)) for name in IN_A_CHECKOUT if name in listed)
    for name in filter(INSTALLED.fullmatch, listed):
        yield Path(name), "info" if listed[name] else "file"
        yield from _recorded(folder, folder / name / "RECORD")


def _recorded(site: Path, record: Path) -> Iterator[tuple[Path, Kind]]:
    """The packages, modules and programs in an installation's list of files, relative to the folder of packages."""
    with suppress(OSError):
        files = [Path(line.partition(",")[0].strip('"')) for line in record.read_text(errors="replace").splitlines()]
        tops = {Path(file.parts[0]) for file in files if file.parts and not file.is_absolute()} - {Path("..")}
        for path in tops | {file for file in files if file.parts[:1] == ("..",)}:
            if (site / path).exists() and path.name not in ("__pycache__", record.parent.name):
                kind = _kind(site / path)
                yield path, "package" if kind == "folder" else kind


def _kind(path: Path) -> Kind:
    return "folder" if path.is_dir() else "file"


def _is_own(listed: Listing) -> bool:
    return any(all(listed.get(room) for room in rooms) for rooms in ROOMS)


def _listed(folder: Path) -> Listing:
    """The names of a folder's entries, and whether each is a folder; empty if they cannot be listed."""
    with suppress(OSError), os.scandir(folder) as entries:
        return {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    return {}
