"""The Python environment of the scripts: what it links to, what is installed in it, and whether it works."""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ValidationError

from grading.core.errors import GradingError
from grading.core.text import printable
from grading.environment.hub import hub_folders
from grading.sandbox.own_code import SITES
from grading.sandbox.run import OUTPUT, Limits, RunResult, Sandbox, run_sandboxed

ROOT = Path(__file__).parents[2]
"""The folder that holds the grader's own packages."""

CHECK_LIMITS = Limits(seconds=300.0)
"""The limits of a check. The first import of torch can take a minute."""

FACTS = """
import importlib.metadata, json, platform, sys
found = {(d.metadata["Name"], d.version) for d in importlib.metadata.distributions()}
packages = sorted("==".join(each) for each in found if all(each))
with open(sys.argv[1] + "/facts.json", "w") as file:
    json.dump({"version": platform.python_version(), "packages": packages}, file)
"""

CUDA = """
import time, torch
x = torch.ones(8, 8, device="cuda")
wrong = (x @ x).sum().item() != 512
time.sleep(1)  # so that its GPU memory can be measured
raise SystemExit(wrong)
"""


@dataclass(frozen=True)
class PythonFacts:
    """What an environment is. packages: "name==version" of all that is installed, sorted."""

    version: str
    packages: tuple[str, ...]

    @property
    def packages_sha256(self) -> str:
        """The hash of the packages, one a line."""
        return hashlib.sha256("\n".join(self.packages).encode()).hexdigest()


class _Facts(BaseModel):
    version: str
    packages: tuple[str, ...]


def check_python(sandbox: Sandbox) -> PythonFacts:
    """Run the environment's python3 in the sandbox, and return its version and packages.

    Raises GradingError if it does not run, if scripts cannot read the Hub cache, or if no sandbox can be made.
    """
    with _run_python(replace(sandbox, gpu=False), FACTS) as ended, suppress(OSError, ValidationError):
        facts = _Facts.model_validate_json(_read(ended.output, "facts.json"))
        return PythonFacts(facts.version, facts.packages)
    raise GradingError(
        f"{printable(str(sandbox.python))} is not a Python environment that works for scripts ({_reason(ended)}); "
        "expected bin/python3 with version 3.8 or newer; choose another environment",
        option="python",
    )


def check_gpu(sandbox: Sandbox) -> int | None:
    """Compute something on the GPU in the sandbox, if scripts are to have one, and return the GPU memory that it used.

    It is None or 0 if the memory of runs cannot be measured. Raises GradingError if the computation fails.
    """
    if not sandbox.gpu:
        return None
    with _run_python(sandbox, CUDA) as ended:
        if ended.exit_status or ended.limit:
            raise GradingError(
                f"scripts cannot use a GPU here ({_reason(ended)}); install the NVIDIA driver and a torch with CUDA, "
                "or grade without a GPU",
                option="gpu",
            )
        return ended.gpu_bytes


def linked_folders(python: Path) -> list[Path]:
    """The folders and files outside an environment from which it imports packages, as `pip install -e` links them.

    They are named by the .pth files of site-packages and by setuptools' finders, which are read and not run. The
    grader's own code is left out: no script may see it.
    """
    named = [path for site in _site_folders(python) for path in (*_paths(site), *_mapped(site))]
    system = (Path("/usr"), python.absolute())
    return sorted({path for path in named if not any(map(path.is_relative_to, system)) and not _is_own(path)})


def _site_folders(python: Path) -> Iterator[Path]:
    for pattern in ("lib/python3*/site-packages", "lib/python3*/dist-packages", "lib/python3/dist-packages"):
        yield from (site.absolute() for site in sorted(python.glob(pattern)))


def _paths(site: Path) -> Iterator[Path]:
    """The paths in .pth files. Python runs the lines that begin with import, and skips what does not exist."""
    for file in sorted(site.glob("*.pth")):
        for line in file.read_text(errors="replace").splitlines():
            if line.strip() and not line.startswith(("#", "import ", "import\t")):
                path = Path(os.path.normpath(site / line.strip()))
                if os.path.exists(path):  # noqa: PTH110 - Path raises an error for what is no path
                    yield path


def _mapped(site: Path) -> Iterator[Path]:
    """The packages and modules in the tables of setuptools' finders. A module's path lacks its .py."""
    for finder in sorted(site.glob("__editable__*.py")):
        for named in _tables(finder):
            for path in (Path(named), Path(f"{named}.py")):
                if path.is_absolute() and os.path.exists(path):  # noqa: PTH110 - see above
                    yield path


def _tables(finder: Path) -> Iterator[str]:
    """The values of MAPPING, {name: path}, and NAMESPACES, {name: paths}."""
    with suppress(SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        for node in ast.parse(finder.read_bytes()).body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name) and target.id in ("MAPPING", "NAMESPACES"):
                    table = ast.literal_eval(node.value)
                    for value in table.values() if isinstance(table, dict) else ():
                        paths = [value] if isinstance(value, str) else value
                        yield from (path for path in paths if isinstance(path, str))


def _is_own(path: Path) -> bool:
    """Whether a folder is our code's alone. In a site-packages it lies beside others' packages; there it is covered."""
    if path.name in SITES:
        return False
    inside = [up.parent for up in (path, *path.parents) if up.name in ("hw2", "grading")]
    return ROOT.is_relative_to(path) or any((root / "grading" / "sandbox").is_dir() for root in (path, *inside))


def _run_python(sandbox: Sandbox, code: str) -> RunResult:
    python = sandbox.python.absolute() / "bin" / "python3"
    if not python.exists():
        raise GradingError(
            f"{printable(str(sandbox.python))} has no bin/python3; expected a Python environment; choose its folder",
            option="python",
        )
    command = [str(python), "-I", "-u", "-c", code, OUTPUT]
    shown = hub_folders(sandbox.hub_cache)  # so that a cache that scripts could not read is found now
    return run_sandboxed(command, submission=Path("/usr"), inputs=shown, limits=CHECK_LIMITS, sandbox=sandbox)


def _read(folder: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(2**24)


def _reason(ended: RunResult) -> str:
    last = ended.log.strip().rpartition("\n")[2]
    return f"it exceeded the limit on {ended.limit}" if ended.limit else last or f"exit status {ended.exit_status}"
