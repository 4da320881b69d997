import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

import pytest

from grading.core.errors import GradingError
from grading.environment.python import linked_folders
from grading.sandbox import own_code
from grading.sandbox.own_code import Shown, look, outer_first
from grading.sandbox.run import Limits, Sandbox, run_sandboxed
from tests.grading.sandboxed import ATTACKS, ROOT, needs_sandbox, run

ATTACK = ATTACKS / "reference_solution"
FACES = ROOT / "fixtures" / "hw2_data" / "face"
CHECKPOINT = ROOT / "hw2" / "models" / "face_unet.safetensors"
ROOMY = Limits(seconds=300.0)

SHARED = Path(sysconfig.get_path("purelib"))
"""The packages that the environments of these tests link to."""


@pytest.fixture(scope="module")
def place():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def checkout(folder: Path) -> Path:
    """A copy of this project's code."""
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("hw2", "grading"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr


def environment(folder: Path) -> Path:
    """A new environment with the packages of this one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    (site / "shared.pth").write_text(f"{SHARED}\n")
    return site


@pytest.fixture(scope="module", params=["copied", pytest.param("by pip", marks=pytest.mark.long)])
def wheel(place, request):
    """A wheel that pip built, or one that has only the files by which `installed` is made: pip takes seconds."""
    built = place / f"wheels {request.param}"
    source = checkout(place / f"source {request.param}")
    if request.param == "by pip":
        pip("wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", built, source)
    else:
        built.mkdir()
        with zipfile.ZipFile(built / "dlcv_hw2-0.1.0-py3-none-any.whl", "w") as archive:
            for path in sorted(source.rglob("*/*")):
                archive.write(path, path.relative_to(source))
    return next(built.glob("*.whl"))


PROGRAM = """#!{python}
import sys
from {package}.__main__ import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def installed(place, wheel):
    """An environment with the wheel, as pip leaves one."""
    folder = place / "installed" / wheel.parent.name.replace(" ", "_")
    site = environment(folder)
    if wheel.parent.name.endswith("by pip"):
        pip("--python", folder / "bin" / "python", "install", "--no-deps", "--no-index", "-I", wheel)
    else:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
        facts = site / "dlcv_hw2-0.1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: dlcv-hw2\nVersion: 0.1.0\n")
        for name, package in {"hw2": "hw2", "hw2-grade": "grading"}.items():
            program = folder / "bin" / name
            program.write_text(PROGRAM.format(python=folder / "bin" / "python", package=package))
            program.chmod(0o755)
        files = [str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()]
        lines = [f"{name},," for name in ["../../../bin/hw2", "../../../bin/hw2-grade", *files]]
        (facts / "RECORD").write_text("\n".join(lines) + "\n")
    assert (site / "hw2" / "models" / "face_unet.safetensors").exists()
    assert (folder / "bin" / "hw2").exists()
    return folder


@pytest.fixture(params=[True, False], ids=["protected", "unprotected"])
def protected(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr("grading.sandbox.bubblewrap.look", lambda path, inside, *, searched: Shown(path, inside))
    return request.param


def found(sandbox: Sandbox, folder: Path = ATTACK) -> str:
    with run_sandboxed(["bash", "hw2_1.sh", "/output"], submission=folder, limits=ROOMY, sandbox=sandbox) as ended:
        descriptor = os.open("found", os.O_RDONLY, dir_fd=ended.output)
        with os.fdopen(descriptor) as file:
            return file.read()


def seen_from(python: Path) -> Sandbox:
    return Sandbox(python=python, visible=tuple(linked_folders(python)))


@needs_sandbox
@pytest.mark.slow
def test_the_reference_solution_of_a_wheel_cannot_be_found(installed, protected):
    said = found(seen_from(installed))
    if protected:
        assert said == ""
    else:
        ways = ("import hw2:", "import grading:", "the program hw2", "python3 -m hw2", "face_unet.safetensors")
        assert [way for way in ways if way not in said] == []


@needs_sandbox
@pytest.mark.slow
def test_the_reference_solution_of_a_wheel_does_not_begin_to_solve_the_homework(installed, folder, protected):
    inputs = {"/data/noise": folder, "/data/UNet.pt": CHECKPOINT}  # no noise, because drawing takes minutes
    solve = "bash hw2_2.sh /data/noise /output /data/UNet.pt"
    log = run(solve, ATTACK, ROOMY, inputs=inputs, sandbox=seen_from(installed)).log
    assert ("No module named 'hw2'" in log) == protected
    assert ("/data/noise" in log) == (not protected)


@needs_sandbox
@pytest.mark.slow
def test_neither_a_linked_checkout_nor_copies_elsewhere_are_seen(place, wheel, installed, protected):
    new = Path(tempfile.mkdtemp(dir=place))
    new.chmod(0o755)
    python, visible = new / "other", new / "visible"
    site = environment(python)
    visible.mkdir()
    linked = checkout(visible / "checkout")
    (linked / "tests").mkdir()
    (linked / "tests" / "answers.py").touch()
    subprocess.run(["git", "init", "--quiet", linked], check=True)
    shutil.copy(wheel, visible / wheel.name)
    shutil.copytree(installed / "lib", visible / "env" / "lib", symlinks=True)
    (site / "own.pth").write_text(f"{linked}\n")
    sandbox = Sandbox(python=python, visible=(SHARED, visible), environment={"PYTHONPATH": str(linked)})
    searched = f"find {visible} -path '*models*' -o -name answers.py -o -name HEAD -o -name '*.whl' -size +0"
    seen = run(searched, ATTACK, ROOMY, sandbox=sandbox).log
    assert (seen == "") == protected
    assert ("import hw2:" in found(sandbox)) == (not protected)


@needs_sandbox
def test_a_package_of_the_same_name_that_is_not_ours_stays(place):
    python = place / "course"
    site = environment(python)
    for name in ("hw2", "fixtures"):
        (site / name).mkdir()
        (site / name / "__init__.py").write_text("ORIGIN = 'the course'")
    sandbox = Sandbox(python=python)
    assert run("python3 -c 'import hw2, fixtures; print(hw2.ORIGIN)'", ATTACK, sandbox=sandbox).log == "the course"


@needs_sandbox
def test_a_submissions_own_package_is_imported_as_if_ours_were_absent(folder, installed):
    sandbox = seen_from(installed)
    (folder / "hw2").mkdir()
    (folder / "hw2" / "network.py").write_text("ORIGIN = 'the student'")
    for script in ("import hw2.network; print(hw2.network.ORIGIN)", "from hw2 import network; print(network.ORIGIN)"):
        (folder / "main.py").write_text(script)
        assert run("python3 main.py", folder, sandbox=sandbox).log == "the student"
    (folder / "hw2" / "__init__.py").write_text("ORIGIN = 'a regular package'")
    (folder / "main.py").write_text("import sys, hw2; sys.path.reverse(); import hw2.network; print(hw2.ORIGIN)")
    assert run("python3 main.py", folder, sandbox=sandbox).log == "a regular package"
    late = f"cd /; PYTHONPATH={SHARED}:/submission python3 -c 'import hw2; print(hw2.ORIGIN)'"
    assert run(late, folder, sandbox=sandbox).log == "a regular package"
    alone = run("python3 -c 'import grading.core'; python3 -m grading", folder, sandbox=sandbox).log
    assert alone.count("No module named 'grading'") == 2


@pytest.mark.parametrize("last", ["", "ORIGIN = 'the student'"])
def test_several_covered_packages_are_all_as_if_absent(tmp_path, last):
    contents = [own_code.ABSENT, own_code.ABSENT, own_code.ABSENT, *([last] if last else [])]
    for number, content in enumerate(contents):
        (tmp_path / str(number) / "hw2").mkdir(parents=True)
        (tmp_path / str(number) / "hw2" / "__init__.py").write_text(content)
    path = os.pathsep.join(str(tmp_path / str(number)) for number in range(len(contents)))
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import hw2; print(hw2.ORIGIN)"],
        env={"PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if last:
        assert done.stdout == "the student\n", done.stderr
    else:
        assert done.stderr.endswith("ModuleNotFoundError: No module named 'hw2'\n")


@needs_sandbox
def test_programs_that_list_all_installations_find_a_name_for_each(folder, installed):
    code = "import importlib.metadata as m; print({d.name.lower(): d.version for d in m.distributions()}['dlcv-hw2'])"
    assert run(f'python3 -c "{code}"', folder, ROOMY, sandbox=seen_from(installed)).log == "0"


@needs_sandbox
def test_covers_cannot_be_written_to_or_taken_off(folder, installed):
    site = next(installed.glob("lib/python3*/site-packages"))
    script = f"touch {site}/hw2/x {installed}/bin/hw2; umount {site}/hw2; ls {site}/hw2; wc -c < {installed}/bin/hw2"
    assert run(script, folder, sandbox=seen_from(installed)).log.splitlines()[-2:] == ["__init__.py", "0"]


@needs_sandbox
def test_what_is_hidden_may_lie_in_what_is_covered(folder, installed):
    truth = next(installed.glob("lib/python3*/site-packages")) / "grading" / "judges" / "models"
    assert run("true", folder, sandbox=Sandbox(python=installed, hidden=(truth,))).exit_status == 0
    with pytest.raises(GradingError, match=r"must stay hidden, but it is in .*/judges, which runs can see"):
        run("true", truth.parent, sandbox=Sandbox(python=installed, hidden=(truth,)))


def test_the_running_graders_code_is_covered_in_an_input_too_but_not_when_it_is_the_input():
    covered = {str(place.path): place.kind for place in look(ROOT.parent, "/data", searched=False).own}
    assert covered.items() >= {f"{ROOT.name}/{name}": "package" for name in ("hw2", "grading", "fixtures")}.items()
    assert f"{ROOT.name}/tests" in covered
    assert look(ROOT / "grading", "/grader/grading", searched=False).own == ()
    assert look(FACES, "/data", searched=False).own == ()
    assert [place.path for place in look(ROOT / "hw2", "/x", searched=True).own] == [Path()]
    assert look(CHECKPOINT, "/data/UNet.pt", searched=True).own == ()


def test_a_folder_within_another_is_mounted_after_it_at_its_real_path(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "link").symlink_to(tmp_path / "real")
    wanted = [tmp_path / "outer" / "link", tmp_path / "outer", Path("/usr/x")]
    assert set(outer_first(wanted)) == {tmp_path / "real", tmp_path / "outer", Path("/usr/x")}
    ordered = outer_first([tmp_path / "outer" / "a" / "b", tmp_path / "outer"])
    assert ordered == [tmp_path / "outer", tmp_path / "outer" / "a" / "b"]


@needs_sandbox
def test_an_environment_within_a_covered_folder_runs(place, folder):
    linked = checkout(place / "with_environment")
    python = linked / "build" / "env"
    environment(python)
    sandbox = Sandbox(python=python, visible=(linked,))
    assert run("python3 -c 'import sys; print(sys.prefix)'", folder, sandbox=sandbox).log == str(python)
    assert run(f"ls {linked}/build {linked}/hw2", folder, sandbox=sandbox).log.split() == [
        f"{linked}/build:", "env", f"{linked}/hw2:", "__init__.py",
    ]  # fmt: skip


def test_a_list_of_files_that_is_damaged_or_hostile_covers_nothing_outside(tmp_path):
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    info = site / "dlcv_hw2-0.1.0.dist-info"
    info.mkdir(parents=True)
    (tmp_path.parent / "precious").touch()
    (tmp_path / "tool").touch()
    (site / "extra").mkdir()
    lines = [
        "../../../../precious,,",
        "../../../tool,,",
        "/etc/passwd,,",
        "extra/a.py,sha256=x,1",
        "",
        ",,",
        "gone/b,,",
        "\udcff",
    ]
    (info / "RECORD").write_text("\n".join(lines), errors="surrogateescape")
    own_code._search.cache_clear()
    covered = {str(place.path): place.kind for place in look(tmp_path, str(tmp_path), searched=True).own}
    site_name = "lib/python3.11/site-packages"
    assert covered == {f"{site_name}/extra": "package", f"{site_name}/{info.name}": "info", "tool": "file"}
