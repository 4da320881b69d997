"""Gradescope's autograder: its zip file, unpacked and run in a folder laid out as theirs."""

import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import types
import zipfile
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from grading.core.errors import GradingError
from grading.homeworks import HOMEWORKS
from grading.submission.autograder import COMMAND, autograder_zip
from tests.commands import ROOT, run_command
from tests.grading.files.hostile import transparent_png
from tests.wheel import build

DATA = ROOT / "fixtures" / "hw2_data"
SCHEMA = json.loads((files("grading.reports") / "schemas" / "gradescope.schema.json").read_text())
MEMORY, SECONDS = 768e6, 40 * 60
"""Gradescope's usual limits. They also give half a CPU."""


@pytest.fixture
def wheel(tmp_path):
    """A file that passes for a wheel of this project."""
    with zipfile.ZipFile(tmp_path / "dlcv_hw2-0.1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(COMMAND, "")
    return tmp_path / "dlcv_hw2-0.1.0-py3-none-any.whl"


def test_the_zip_file_has_what_is_scored_with_and_nothing_else(wheel):
    content = autograder_zip(DATA, wheel, HOMEWORKS["fall2024"])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
        assert archive.read("data/face/GT/00.png") == (DATA / "face" / "GT" / "00.png").read_bytes()
        assert archive.read(wheel.name) == wheel.read_bytes()
    faces = {f"data/face/GT/{number:02d}.png" for number in range(10)}
    others = {"could_not_check.json", "data/EMBEDDED.txt", "data/clip_zeroshot/id2label.json", wheel.name}
    assert {name for name, mode in modes.items() if mode == 0o755} == {"setup.sh", "run_autograder"}
    assert {name for name, mode in modes.items() if mode == 0o644} == faces | others
    assert autograder_zip(DATA, wheel, HOMEWORKS["fall2024"]) == content


@pytest.mark.parametrize("name", ["dlcv_hw2-0.1.0.tar.gz", "other-1.0-py3-none-any.whl", "dlcv_hw2-1-py3-none-any.whl"])
def test_what_is_no_wheel_of_this_project_is_refused(wheel, name):
    other = wheel.with_name(name)
    shutil.copy(wheel, other)
    if name.startswith("dlcv_hw2-1-"):  # of an older version, without the command
        with zipfile.ZipFile(other, "w") as archive:
            archive.writestr("grading/__init__.py", "")
    with pytest.raises(GradingError, match=r"is not a wheel of this version of the project; make one with python -m b"):
        autograder_zip(DATA, other, HOMEWORKS["fall2024"])


def test_data_without_ground_truth_are_refused(wheel, tmp_path):
    with pytest.raises(GradingError, match="the ground truth folder"):
        autograder_zip(tmp_path, wheel, HOMEWORKS["fall2024"])


def unpack(zip_file, folder):
    with zipfile.ZipFile(zip_file) as archive:
        archive.extractall(folder)
        for entry in archive.infolist():
            (folder / entry.filename).chmod(entry.external_attr >> 16)


@pytest.fixture
def unpacked(wheel, tmp_path):
    """A folder like Gradescope's, before its setup.sh ran. The zip file was made by the command."""
    ended = run_command("grading", "gradescope", "--data", DATA, "--wheel", wheel, "--output", tmp_path / "a.zip")
    assert ended.returncode == 0, ended.stderr
    unpack(tmp_path / "a.zip", tmp_path / "autograder" / "source")
    return tmp_path / "autograder"


def test_setup_makes_an_environment_and_installs_the_wheel(unpacked, wheel, tmp_path):
    programs, environment = tmp_path / "programs", unpacked / "source" / "environment"
    programs.mkdir()
    said = f'echo "$(basename $0) $@" >> {tmp_path}/asked\n'
    (programs / "apt-get").write_text(f"#!/bin/sh\n{said}")
    made = "mkdir -p environment/bin; cp $0 environment/bin/python\n"
    (programs / "python3.11").write_text(f'#!/bin/sh\n{said}[ "$2" != venv ] || {{ {made}}}\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    variables = elsewhere(PATH=f"{programs}:{os.environ['PATH']}")
    subprocess.run([unpacked / "source" / "setup.sh"], env=variables, check=True, capture_output=True, cwd="/")
    assert environment.is_dir()
    assert (tmp_path / "asked").read_text().splitlines() == [
        "apt-get update",
        "apt-get install -y python3.11 python3.11-venv",
        "python3.11 -m venv environment",
        f"python -m pip install --no-cache-dir ./{wheel.name}",
    ]


def test_the_unpacked_autograder_scores_a_submission(unpacked):
    program = unpacked / "source" / "environment" / "bin" / "hw2-grade"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m grading "$@"\n')
    program.chmod(0o755)
    tests, usage = run_in(unpacked, complete)
    assert tests["Problem 2, public noises"]["score"] == 10
    assert tests["Problem 3, zero-shot predictions"]["output"].startswith("1 of 1 predictions are right")
    assert usage.memory < MEMORY


def test_an_autograder_that_cannot_start_gives_nobody_zero(unpacked):
    tests, _ = run_in(unpacked, complete)
    assert len(tests) == 2
    for name, test in tests.items():
        assert "could not be checked" in name
        assert test["output"].startswith("This could not be checked. The autograder stopped before it had a result")
        assert "score" not in test


@pytest.fixture(scope="module")
def autograder(tmp_path_factory):
    """A folder like Gradescope's, after its setup.sh ran. Only apt-get is another one, and pip has no network."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs git's list of the files")
    root, programs = tmp_path_factory.mktemp("autograder"), tmp_path_factory.mktemp("programs")
    made = run_command(
        "grading", "gradescope", "--data", DATA, "--wheel", build(tmp_path_factory.mktemp("wheel")),
        "--output", root / "autograder.zip",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    unpack(root / "autograder.zip", root / "source")
    (programs / "apt-get").write_text(f'#!/bin/sh\necho "$@" >> {programs}/asked\n')
    (programs / "python3.11").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')  # whichever runs the tests
    for program in programs.iterdir():
        program.chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = elsewhere(PATH=path, PIP_NO_INDEX="1", PIP_NO_DEPS="1")
    subprocess.run([root / "source" / "setup.sh"], env=variables, check=True, capture_output=True, cwd="/")
    assert (programs / "asked").read_text().splitlines() == ["update", "install -y python3.11 python3.11-venv"]
    environment = root / "source" / "environment"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")  # the packages that pip would have fetched
    return root


def elsewhere(**variables):
    """The environment of the tests without the checkout, and with other variables."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables


MEASURED = """
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"memory": used.ru_maxrss * 1024, "seconds": used.ru_utime + used.ru_stime}))
"""
"""Runs a command and prints what it took. A process counts the memory of the one that started it: this one is small."""


def run_in(autograder, fill):
    """Run the autograder on a submission: the tests of its results.json by name, and what it took."""
    for name in ("submission", "results"):
        shutil.rmtree(autograder / name, ignore_errors=True)
    (autograder / "submission").mkdir()
    fill(autograder / "submission")
    command = [sys.executable, "-S", "-c", MEASURED, autograder / "source" / "run_autograder"]
    variables = elsewhere(AUTOGRADER=str(autograder))
    done = subprocess.run(command, env=variables, cwd="/", check=True, stdout=subprocess.PIPE, text=True)
    usage = types.SimpleNamespace(**json.loads(done.stdout.splitlines()[-1]))
    found = json.loads((autograder / "results" / "results.json").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    return {test["name"]: test for test in found["tests"]}, usage


def complete(folder):
    shutil.copytree(DATA / "face" / "GT", folder / "faces")
    (folder / "zero-shot").mkdir()
    (folder / "zero-shot" / "predictions.csv").write_text("image_name,predicted_id\n0_500.png,0\n")


@pytest.mark.slow
@pytest.mark.long
def test_the_installed_autograder_scores_a_submission_within_gradescopes_limits(autograder):
    tests, usage = run_in(autograder, complete)
    assert tests["Problem 2, public noises"]["score"] == 10
    assert tests["Problem 3, zero-shot predictions"]["output"].startswith("1 of 1 predictions are right")
    assert usage.memory < MEMORY
    assert usage.seconds < SECONDS / 2


@pytest.mark.slow
@pytest.mark.long
def test_a_hostile_submission_stays_within_the_memory(autograder):
    def hostile(folder):
        complete(folder)
        for number in range(10):
            (folder / "faces" / f"{number:02d}.png").write_bytes(transparent_png())
        (folder / "zero-shot" / "predictions.csv").write_text("image_name,predicted_id\n" + "0,\n" * 349_000)
        with zipfile.ZipFile(folder / "more.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("faces/00.png", bytes(2**26))

    tests, usage = run_in(autograder, hostile)
    assert tests["Problem 2, public noises"]["score"] == 0
    assert tests["Problem 3, zero-shot predictions"]["output"].startswith("0 of 349000 predictions are right")
    assert usage.memory < MEMORY
