"""Commands and packages that a submission asks for and the grading machine lacks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from grading.causes.rule import Scene
from grading.core.results import Cause
from grading.core.text import printable
from grading.environment.imports import imported_modules, own_modules
from grading.environment.packages import REMOVED_FROM_PYTHON, REMOVED_NAMES, distribution_of
from grading.environment.python import linked_folders
from grading.files.texts import read_start

COMMANDS = ("gdown", "wget", "curl", "unzip", "git", "tar", "7z", "unrar", "aria2c", "python", "pip", "conda", "ffmpeg")
"""Commands that a grading machine is expected to have. Any other one is the submission's own."""

_NO_COMMAND = re.compile(
    r"(?:^|: )(?P<name>[\w.-]+): (?:command )?not found$|No such file or directory: '(?P<program>[\w.-]+)'$",
    re.MULTILINE,
)


def missing_command(scene: Scene) -> Cause | None:
    """A usual command that the script calls is not installed."""
    asked = {match["name"] or match["program"] for match in _NO_COMMAND.finditer(scene.log)}
    named = [name for name in COMMANDS if name in asked and scene.in_code(rf"\b{re.escape(name)}\b")]
    absent = scene.probes.missing_commands(named) if named else []
    if not absent:
        return None
    return Cause(
        "machine", "command", absent[0],
        f"The submission calls {absent[0]}, which is not installed on the grading machine.",
        f"install {absent[0]} where scripts find it, in their environment or in the system",
    )  # fmt: skip


_NO_MODULE = re.compile(r"No module named '?(?P<module>[\w.]+)'?")
_NO_NAME = re.compile(r"cannot import name '(?P<name>\w+)' from '(?P<module>[\w.]+)'")
_NO_ATTRIBUTE = re.compile(r"module '(?P<module>[\w.]+)' has no attribute '(?P<name>\w+)'")
_BROKEN = re.compile(r"ImportError|ModuleNotFoundError|cannot open shared object file|compiled using NumPy 1")


def missing_package(scene: Scene) -> Cause | None:
    """A package that the submission imports is not in the environment of the scripts, or in another version."""
    modules = list(dict.fromkeys(match["module"] for match in _NO_MODULE.finditer(scene.log)))
    names = list(dict.fromkeys((match["module"], match["name"]) for match in _NO_NAME.finditer(scene.log)))
    removed = [(match["module"], match["name"]) for match in _NO_ATTRIBUTE.finditer(scene.log)]
    names += [each for each in removed if each[1] in REMOVED_NAMES.get(each[0], ())]
    if not modules and not names and not _BROKEN.search(scene.log):
        return None
    own = own_modules(scene.submission)
    imported = _imported(scene)
    asked = [
        each for each in [*((module, "") for module in modules), *names] if _is_foreign(scene, each[0], own, imported)
    ]
    for (module, name), error in scene.probes.imports(asked).items() if asked else ():
        if error:
            return _package_cause(module, name, error)
    return _broken_package(scene, own, imported) or _forgotten(modules, own, imported)


def _imported(scene: Scene) -> set[str]:
    """First names of the modules that the submission imports, or a package of staff's outside the environment."""
    folders = [path for path in linked_folders(scene.probes.sandbox.python) if path.is_dir()]
    found = [module for folder in (scene.submission, *folders) for module in imported_modules(folder)]
    return {module.partition(".")[0] for module in found}


def _is_foreign(scene: Scene, module: str, own: Iterable[str], imported: Iterable[str]) -> bool:
    """Whether the submission's code asks for a module that others provide."""
    top = module.partition(".")[0]
    known = distribution_of(top) or top in REMOVED_FROM_PYTHON or top in REMOVED_NAMES or _is_declared(scene, top)
    return bool(known) and top not in own and (top in imported or scene.in_code(rf"-m\s+{re.escape(top)}\b"))


def _is_declared(scene: Scene, top: str) -> bool:
    """Whether the submission's own requirements.txt names a package."""
    start = read_start(scene.submission / "requirements.txt", 2**16).decode(errors="replace")
    lines = (line.strip().replace("-", "_") for line in start.splitlines())
    return any(re.match(rf"{re.escape(top)}\b", line, re.IGNORECASE) for line in lines)


def _package_cause(module: str, name: str, error: str) -> Cause:
    top = module.partition(".")[0]
    package = distribution_of(top) or top
    if top in REMOVED_FROM_PYTHON or (top in REMOVED_NAMES and not distribution_of(top)):
        evidence = (
            f"The submission imports {' of '.join(filter(None, (name, module)))}, which this Python no longer has."
        )
        return Cause("machine", "python", module, evidence, "give the scripts an older Python, such as the course's")
    if name or "." in module:
        wanted = f"{name} of {module}" if name else module
        evidence = f"The submission uses {wanted}, which the installed version of {package} does not have."
        return Cause("machine", "version", package, evidence, f"install the course's version of {package}")
    evidence = f"The submission imports {top}, which the environment of the scripts lacks."
    if "No module named" not in error:
        said = re.sub(r"/\S*/", "", error)  # students read it, so that it has no path of staff
        evidence = f"The submission imports {top}, which does not work in the environment of the scripts ({said})."
    return Cause("machine", "package", package, printable(evidence), f"add {package} to the environment of the scripts")


def _broken_package(scene: Scene, own: Iterable[str], imported: Iterable[str]) -> Cause | None:
    """A package that the submission imports fails in the grader's probe with the error that the log has."""
    asked = sorted(top for top in set(imported) - set(own) if distribution_of(top))
    for (top, _), error in scene.probes.imports([(top, "") for top in asked]).items() if asked else ():
        if not error or error.partition(": ")[2] not in scene.log:
            continue
        missing = _NO_MODULE.search(error)
        return _package_cause(missing["module"].partition(".")[0] if missing else top, "", error)
    return None


def _forgotten(modules: Sequence[str], own: Iterable[str], imported: Iterable[str]) -> Cause | None:
    """A module that nobody knows is probably a file of the submission that was not handed in."""
    for module in modules:
        top = module.partition(".")[0]
        if top not in own and not distribution_of(top) and top in imported:
            evidence = f"The submission imports {top}, which is neither one of its files nor a known package."
            return Cause("submission", "own file", top, evidence)
    return None
