import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from grading.core.errors import GradingError
from grading.environment.python import PythonFacts, check_gpu, check_python, linked_folders
from grading.sandbox.run import Sandbox
from grading.submission.assignment import Assignment
from tests.grading.sandboxed import BOTH, ROOT, TRUSTED, needs_sandbox, run


@pytest.fixture
def environment(tmp_path):
    """An environment without packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    return tmp_path / "env"


def site(environment: Path) -> Path:
    return next(environment.glob("lib/python3*/site-packages"))


def package(folder: Path, name: str = "ldm") -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("WHAT = 1")
    return folder / name


FINDER = """from __future__ import annotations
import sys
MAPPING: dict[str, str] = {mapping!r}
NAMESPACES: dict[str, list[str]] = {namespaces!r}
open({ran!r}, "w")
"""


def link(environment: Path, folder: Path, way: str) -> list[Path]:
    """Link ldm in `folder` into an environment, and return what scripts must see for it."""
    if way == "path":
        (site(environment) / "ldm.pth").write_text(f"# a comment\nimport os\n\n{folder}\n{folder}/none\n")
        return [folder]
    if way == "relative path":
        (site(environment) / "easy-install.pth").write_text(os.path.relpath(folder, site(environment)))
        return [folder]
    finder = FINDER.format(
        mapping={"ldm": str(folder / "ldm"), "one": str(folder / "one")},
        namespaces={"more": [str(folder / "more")]},
        ran=str(folder / "ran"),
    )
    (folder / "one.py").touch()
    (folder / "more").mkdir()
    (site(environment) / "__editable___ldm_0_1_finder.py").write_text(finder)
    (site(environment) / "ldm.pth").write_text(f"import sys; sys.path.append({str(folder)!r})\n")
    return [folder / "ldm", folder / "more", folder / "one.py"]


WAYS = pytest.mark.parametrize("way", ["path", "relative path", "finder"])


@WAYS
def test_packages_installed_with_e_are_named_without_running_anything(environment, tmp_path, way):
    folder = package(tmp_path / "EXT").parent
    expected = link(environment, folder, way)
    assert linked_folders(environment) == expected
    assert not (folder / "ran").exists()


@needs_sandbox
@WAYS
def test_packages_installed_with_e_are_seen_read_only(environment, tmp_path, folder, way):
    link(environment, package(tmp_path / "EXT").parent, way)
    (tmp_path / "EXT" / "secret").touch()
    sandbox = Assignment(tmp_path, python=environment).sandbox
    ext = tmp_path / "EXT"
    result = run(f"python3 -c 'import ldm; print(ldm.WHAT)'; touch {ext}/ldm/x", folder, sandbox=sandbox)
    if way != "finder":  # this one only pretends to be setuptools'
        assert result.log.splitlines()[0] == "1"
    assert "Read-only file system" in result.log
    assert run("python3 -c 'import ldm'", folder, sandbox=replace(sandbox, visible=())).exit_status == 1
    with pytest.raises(GradingError, match=r"weights must stay hidden, but it is in .*ldm, which runs can see"):
        (ext / "ldm" / "weights").touch()
        run("true", folder, sandbox=replace(sandbox, visible=(ext / "ldm",), hidden=(ext / "ldm" / "weights",)))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "submission"
    folder.mkdir()
    return folder


def test_the_graders_own_code_is_never_shown(environment, tmp_path):
    (site(environment) / "own.pth").write_text(f"{ROOT}\n{ROOT.parent}\n{ROOT}/hw2\n{ROOT}/grading/judges\n/\n/usr\n")
    assert linked_folders(environment) == []
    assert not [path for path in linked_folders(Path(sys.prefix)) if path.name in ("hw2", "grading", "models")]
    other = package(tmp_path / "theirs", "hw2")
    (site(environment) / "own.pth").write_text(str(other.parent))
    assert linked_folders(environment) == [other.parent]


def test_packages_beside_the_installed_grader_are_seen(environment, tmp_path, monkeypatch):
    shared = tmp_path / "grader" / "lib" / "python3.11" / "site-packages"
    package(shared, "grading/sandbox")
    monkeypatch.setattr("grading.environment.python.ROOT", shared)
    (site(environment) / "shared.pth").write_text(str(shared))
    assert linked_folders(environment) == [shared]


def test_a_finder_that_cannot_be_read_names_nothing(environment):
    (site(environment) / "__editable___a_finder.py").write_text("MAPPING = {")
    (site(environment) / "__editable___b_finder.py").write_text("MAPPING = dict(os.environ)")
    for number, table in enumerate(["-" * 9000 + "1", "(" * 3000, "[1]", "{'a': 1, 'b': [2]}", "{'a': '/\\0'}"]):
        (site(environment) / f"__editable___{number}.py").write_text(f"MAPPING = {table}")
    (site(environment) / "c.pth").write_bytes(b"\xff\xfe\na\0b\n" + b"a" * 5000)
    assert linked_folders(environment) == []


@BOTH
def test_an_environment_is_its_version_and_its_packages(environment, sandbox):
    sandbox = replace(sandbox, python=environment)
    empty = check_python(sandbox)
    assert (empty.version, empty.packages) == (sys.version.split()[0], ())
    info = site(environment) / "omegaconf-2.3.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: omegaconf\nVersion: 2.3.0\n")
    one = check_python(sandbox)
    assert one.packages == ("omegaconf==2.3.0",)
    assert one.packages_sha256 != empty.packages_sha256


def test_the_hash_depends_on_every_package():
    hashes = {PythonFacts("3", packages).packages_sha256 for packages in [(), ("a==1",), ("a==2",), ("a==1", "b==1")]}
    assert len(hashes) == 4


@BOTH
@pytest.mark.parametrize(
    ("python", "said"),
    [
        (None, r"env has no bin/python3; expected a Python environment; choose its folder"),
        ("#!/bin/sh\necho ImportError: no encodings; exit 3", r"works for scripts \(ImportError: no encodings\)"),
        ("#!/bin/sh\nexit 0", r"works for scripts \(exit status 0\); expected bin/python3"),
        ("#!/bin/sh\necho 1 > $5/facts.json", r"works for scripts"),
    ],
)
def test_an_environment_that_does_not_run_is_staffs_error(environment, sandbox, python, said):
    (environment / "bin" / "python3").unlink()
    if python:
        (environment / "bin" / "python3").write_text(python)
        (environment / "bin" / "python3").chmod(0o755)
    with pytest.raises(GradingError, match=said) as error:
        check_python(replace(sandbox, python=environment))
    assert error.value.option == "python"


@pytest.mark.parametrize("answer", ["print('warning'); raise RuntimeError('no driver')", "import sys; sys.exit(1)", ""])
def test_a_gpu_is_tried_before_the_class_starts(monkeypatch, answer):
    monkeypatch.setattr("grading.environment.python.CUDA", answer)
    check_gpu(TRUSTED)  # without a GPU nothing is tried
    gpu = replace(TRUSTED, gpu=True)
    if not answer:
        check_gpu(gpu)
        return
    with pytest.raises(
        GradingError, match=r"cannot use a GPU here \((RuntimeError: no driver|exit status 1)\); "
    ) as error:
        check_gpu(gpu)
    assert error.value.option == "gpu"


@needs_sandbox
@pytest.mark.skipif(Path("/dev/nvidia0").exists() or Path("/dev/dxg").exists(), reason="for machines without a GPU")
def test_a_machine_without_a_gpu_says_so():
    with pytest.raises(GradingError, match="/dev/nvidia0 is missing; install the NVIDIA driver") as error:
        check_gpu(Sandbox(gpu=True))
    assert error.value.option == "gpu"
