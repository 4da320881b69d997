"""The code that a student hands in: the scripts' lines, and the Python files that each of them reaches."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from grading.environment.imports import MAX_DEPTH, MAX_ENTRIES, python_files, scanned
from grading.homeworks.homework import Homework
from grading.preflight import code_facts
from grading.problems.problem import Problem
from grading.sandbox.folders import walk
from grading.submission.near_misses import read_script, started_scripts

ROOT = str(Path(__file__).parents[2])
PROGRAM = (
    sys.executable,
    "-I",
    "-c",
    f"import sys; sys.path.insert(0, {ROOT!r}); from grading.environment.scan import main; "
    f"from {code_facts.__name__} import facts_of; main(facts_of)",
)
"""Runs `code_facts` on files, apart from the grader."""

MAX_FILES = 500
"""Python files of a folder that are read."""

MAX_LINE = 2000
"""Characters of a script's line that are read."""

DOWNLOAD = "hw2_download_ckpt.sh"

STARTED = re.compile(r"(?<![\w./$*{}~-])[\w./$*{}~-]+\.py\b")
MODULE = re.compile(r"\bpython[\d.]*(?:\s+-\w)*?\s+-m\s+([\w.]+)")


@dataclass(frozen=True)
class Line:
    """One line with its file and number. text: a line of a script without comments, or the text of a fact. kind: of
    the fact (see `code_facts`), or "script".
    """

    path: str
    number: int
    text: str
    kind: str = "script"

    @property
    def where(self) -> str:
        """FILE:LINE, unsafe to print."""
        return f"{self.path}:{self.number}"


@dataclass(frozen=True)
class HandIn:
    """A folder before it is handed in. Nothing of it is run, and no link is followed."""

    folder: Path
    homework: Homework

    @functools.cached_property
    def entries(self) -> list[str]:
        """Paths of all files and links, without those of git among the first MAX_ENTRIES entries."""
        return list(_entries(self.folder))

    @functools.cached_property
    def facts(self) -> dict[str, list[Line]]:
        """The facts of each Python file."""
        paths = list(islice(python_files(self.folder), MAX_FILES))
        return {
            path: [Line(path, line, text, kind) for kind, line, text in facts]
            for path, facts in zip(paths, scanned(self.folder, paths, PROGRAM), strict=False)
        }

    def scripts(self) -> Iterator[tuple[Problem, str]]:
        """The problems, each with its script, if that is there."""
        for problem in self.homework.problems:
            if read_script(self.folder / problem.script):
                yield problem, problem.script

    def lines(self, script: str) -> list[Line]:
        """The lines of a script and of those that it starts, without comments."""
        return [
            Line(path, number, bare)
            for path in started_scripts(self.folder, script)
            if path != DOWNLOAD or script == DOWNLOAD
            for number, line in enumerate(read_script(self.folder / path).decode(errors="replace").splitlines(), 1)
            if (bare := re.sub(r"(^|\s)#.*", "", line[:MAX_LINE]).strip())
        ]

    def started(self, script: str) -> Iterator[tuple[Line, str]]:
        """The Python files that a script names, as it names them, each with the line; a module a.b as a/b.py."""
        for line in self.lines(script):
            yield from ((line, name) for name in STARTED.findall(line.text))
            yield from ((line, f"{name.replace('.', '/')}.py") for name in MODULE.findall(line.text))

    def found(self, name: str) -> list[str]:
        """The folder's Python files that a name in a script may mean. A script may change its folder before."""
        wanted = (name, f"{name.removesuffix('.py')}/__main__.py")
        clean = [PurePosixPath(os.path.normpath(each)).parts for each in wanted]
        return [path for path in self.facts if any(PurePosixPath(path).parts[-len(each) :] == each for each in clean)]

    def reached(self, script: str) -> list[str]:
        """The Python files that run when a script does: those that it names, and what they import."""
        return self._reached.get(script, [])

    @functools.cached_property
    def _reached(self) -> dict[str, list[str]]:
        return {script: self._reach(script) for _, script in self.scripts()}

    def _reach(self, script: str) -> list[str]:
        found = list(dict.fromkeys(path for _, name in self.started(script) for path in self.found(name)))
        for path in found:  # which grows
            imported = (line.text for line in self.facts[path] if line.kind in ("import", "from"))
            found += sorted({each for name in imported for each in self.imported(path, name)}.difference(found))
        return found

    def imported(self, importer: str, module: str) -> list[str]:
        """The own files that an imported name may mean; those beside the importing file, if there are any."""
        found = self._modules.get(tuple(filter(None, module.split("."))), [])
        beside = [path for path in found if PurePosixPath(path).is_relative_to(PurePosixPath(importer).parent)]
        return beside or found

    @functools.cached_property
    def _modules(self) -> dict[tuple[str, ...], list[str]]:
        """The files of a module, by the parts of its name; a file has a name for each folder that it may start from."""
        found: dict[tuple[str, ...], list[str]] = {}
        for path in self.facts:
            parts = PurePosixPath(path).with_suffix("").parts
            name = parts[:-1] if parts[-1] == "__init__" else parts
            for start in range(max(0, len(name) - 8), len(name)):
                found.setdefault(name[start:], []).append(path)
        return found

    def code(self, *kinds: str) -> Iterator[Line]:
        """The facts of some kinds in all files that the scripts reach, in order."""
        paths = dict.fromkeys(path for _, script in self.scripts() for path in self.reached(script))
        yield from (line for path in paths for line in _by_line(self.facts[path]) if line.kind in kinds)

    def shell(self) -> Iterator[Line]:
        """The lines of the problems' scripts."""
        yield from dict.fromkeys(line for _, script in self.scripts() for line in self.lines(script))


def _by_line(facts: list[Line]) -> list[Line]:
    return sorted(facts, key=lambda line: line.number)


def _entries(folder: Path) -> Iterator[str]:
    with suppress(OSError):
        for each in walk(folder, MAX_ENTRIES, MAX_DEPTH):
            each.folders[:] = (name for name in each.folders if name not in (".git", "__pycache__"))
            yield from (each.path(name) for name in sorted(each.files))
