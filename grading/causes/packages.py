"""Commands and packages that a submission asks for and the grading machine lacks."""

from __future__ import annotations

import re
from collections.abc import Iterable

from grading.causes.rule import Scene
from grading.core.results import Cause
from grading.core.text import printable
from grading.environment.imports import imported_modules, own_modules
from grading.environment.packages import REMOVED_FROM_PYTHON, distribution_of
from grading.files.texts import read_start

COMMANDS = ("gdown", "wget", "curl", "unzip", "git", "tar", "7z", "unrar", "aria2c", "python", "pip", "conda", "ffmpeg")
"""Commands that the grading machine is expected to have. Any other one is the submission's own."""

_NO_COMMAND = re.compile(r"(?:^|: )(?P<name>[\w.-]+): (?:command )?not found$", re.MULTILINE)


def missing_command(scene: Scene) -> Cause | None:
    """A usual command that the script calls is not installed."""
    asked = {match["name"] for match in _NO_COMMAND.finditer(scene.log)}
    named = [name for name in COMMANDS if name in asked and scene.in_code(rf"\b{re.escape(name)}\b")]
    absent = scene.probes.missing_commands(named) if named else []
    if not absent:
        return None
    return Cause(
        "machine", "command", absent[0],
        f"The submission calls {absent[0]}, which is not installed on the grading machine.",
        f"install {absent[0]} where scripts find it, in the environment of the scripts or in the system",
    )  # fmt: skip


_NO_MODULE = re.compile(r"No module named '?(?P<module>[\w.]+)'?")
_NO_NAME = re.compile(r"cannot import name '(?P<name>\w+)' from '(?P<module>[\w.]+)'")


def missing_package(scene: Scene) -> Cause | None:
    """A package that the submission imports is not in the environment of the scripts, or in another version."""
    modules = list(dict.fromkeys(match["module"] for match in _NO_MODULE.finditer(scene.log)))
    names = list(dict.fromkeys((match["module"], match["name"]) for match in _NO_NAME.finditer(scene.log)))
    if not modules and not names:
        return None
    own = own_modules(scene.submission)
    asked = [each for each in [*((module, "") for module in modules), *names] if _is_foreign(scene, each[0], own)]
    for (module, name), error in scene.probes.imports(asked).items() if asked else ():
        if error:
            return _package_cause(module, name, error)
    return _broken_package(scene, modules, own) or _forgotten(scene, modules, own)


def _is_foreign(scene: Scene, module: str, own: Iterable[str]) -> bool:
    """Whether the submission's code asks for a module that others provide."""
    top = module.partition(".")[0]
    known = distribution_of(top) or top in REMOVED_FROM_PYTHON or _is_declared(scene, top)
    return bool(known) and top not in own and (_imports(scene, top) or scene.in_code(rf"-m\s+{re.escape(top)}\b"))


def _imports(scene: Scene, top: str) -> bool:
    return any(module.partition(".")[0] == top for module in imported_modules(scene.submission))


def _is_declared(scene: Scene, top: str) -> bool:
    """Whether the submission's own requirements.txt names a package."""
    start = read_start(scene.submission / "requirements.txt", 2**16).decode(errors="replace")
    return any(
        re.match(rf"{re.escape(top)}\b", line.strip().replace("-", "_"), re.IGNORECASE) for line in start.splitlines()
    )


def _package_cause(module: str, name: str, error: str) -> Cause:
    top = module.partition(".")[0]
    package = distribution_of(top) or top
    if top in REMOVED_FROM_PYTHON:
        evidence = f"The submission imports {module}, which this Python no longer has."
        return Cause("machine", "package", module, evidence, "give the scripts an older Python, such as the course's")
    if name or "." in module:
        wanted = f"{name} of {module}" if name else module
        evidence = f"The submission imports {wanted}, which the installed version of {package} does not have."
        return Cause("machine", "version", package, evidence, f"install the course's version of {package}")
    evidence = f"The submission imports {top}, which the environment of the scripts lacks."
    if "No module named" not in error:
        evidence = f"The submission imports {top}, which does not work in the environment of the scripts ({error})."
    return Cause("machine", "package", package, printable(evidence), f"add {package} to the environment of the scripts")


def _broken_package(scene: Scene, modules: list[str], own: Iterable[str]) -> Cause | None:
    """A package that the submission imports itself lacks one of the modules that the log names."""
    tops = {module.partition(".")[0] for module in imported_modules(scene.submission)}
    asked = sorted(top for top in tops - set(own) if distribution_of(top))
    for error in scene.probes.imports([(top, "") for top in asked]).values() if modules else ():
        missing = _NO_MODULE.search(error)
        if missing and missing["module"] in modules:
            return _package_cause(missing["module"].partition(".")[0], "", error)
    return None


def _forgotten(scene: Scene, modules: list[str], own: Iterable[str]) -> Cause | None:
    """A module that nobody knows is probably a file of the submission that was not handed in."""
    for module in modules:
        top = module.partition(".")[0]
        if top not in own and not distribution_of(top) and _imports(scene, top):
            evidence = f"The submission imports {top}, which is neither one of its files nor a known package."
            return Cause("submission", "own file", top, evidence)
    return None
