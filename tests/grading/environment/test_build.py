import subprocess
import sys
from pathlib import Path

import pytest

from grading.core.errors import GradingError
from grading.environment.build import PARTIAL, _run, build_environment, is_finished, lacking, missing_modules
from tests.commands import run_command

NOTHING = "# nothing\n"


@pytest.fixture
def requirements(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text(NOTHING)
    return path


@pytest.fixture
def steps(monkeypatch):
    """The programs that are started, without starting them; the last one can be made to fail."""
    started = []

    def run(command, failure):
        started.append(command)
        if "venv" in command:
            python = Path(command[-1]) / "bin" / "python3"
            python.parent.mkdir(parents=True, exist_ok=True)
            python.touch()
        elif "broken" in command[-1]:
            raise GradingError(failure)

    monkeypatch.setattr("grading.environment.build._run", run)
    return started


@pytest.fixture
def package(tmp_path):
    """A package to install without a network."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "omegaconf.py").write_text("")
    return folder


@pytest.fixture(scope="module")
def venv(tmp_path_factory):
    """A real environment, made by the command. Making one takes seconds."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "requirements.txt").write_text(NOTHING)
    options = ["--output", folder / "venv", "--requirements", folder / "requirements.txt"]
    made = run_command("grading", "environment", *options)
    assert made.returncode == 0, made.stderr
    return folder / "venv"


def test_a_real_environment_is_built_and_then_has_what_was_installed(venv):
    assert subprocess.run([venv / "bin" / "python3", "-c", "import pip"], check=False).returncode == 0
    assert is_finished(venv)
    assert missing_modules(venv, ["pip", "torch", "os", "no.parent", ""]) == {"torch", "no.parent", ""}


def test_an_interrupted_installation_is_resumed_and_does_not_count_as_finished(tmp_path, requirements, steps):
    venv, broken = tmp_path / "venv", tmp_path / "broken"
    broken.write_text(NOTHING)
    with pytest.raises(GradingError, match="pip could not install all of"):
        build_environment(venv, broken, requirements)
    assert not is_finished(venv)
    assert build_environment(venv, None, requirements)
    assert is_finished(venv)
    assert ["venv" in step for step in steps] == [True, False, True, False]


def test_a_finished_environment_is_kept_unless_requirements_are_named(tmp_path, requirements, steps):
    venv = tmp_path / "venv"
    assert build_environment(venv, None, requirements)
    assert not build_environment(venv, None, requirements)
    assert len(steps) == 2
    assert build_environment(venv, requirements, requirements)
    assert len(steps) == 3
    broken = tmp_path / "broken"
    broken.write_text(NOTHING)
    with pytest.raises(GradingError):
        build_environment(venv, broken, requirements)
    assert is_finished(venv)


def test_a_folder_of_something_else_is_never_built_into(tmp_path, requirements, steps):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(GradingError, match="holds something else"):
        build_environment(tmp_path, None, requirements)
    assert not steps
    assert not (tmp_path / PARTIAL).exists()


@pytest.mark.parametrize("options", [["--requirements", "missing.txt"], ["--interpreter", "no-python"]])
def test_what_cannot_be_built_is_one_sentence(tmp_path, options):
    ended = run_command("grading", "environment", "--output", tmp_path / "venv", *options)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert options[1] in ended.stderr


def test_pips_own_words_are_on_stderr_and_its_failure_is_said_last(venv, requirements):
    requirements.write_text("not a requirement !!\n")
    ended = run_command("grading", "environment", "--output", venv, "--requirements", requirements)
    assert ended.returncode == 2
    assert "Invalid requirement" in ended.stderr
    assert "run this again to resume" in ended.stderr.splitlines()[-1]
    assert ended.stdout == ""


def test_what_a_step_prints_is_on_stderr(capfd):
    _run([sys.executable, "-S", "-c", "print('its own words')"], "not this")
    assert capfd.readouterr() == ("", "its own words\n")


@pytest.fixture
def submissions(tmp_path):
    folder = tmp_path / "class"
    sources = {
        "b12": "import torch, absent_helper, json",
        "b13": "import yaml, cv2, diffusers",
        "b14": "import cv2\nfrom google.colab import drive\nimport model",
        "b14/model": "",
    }
    for name, source in sources.items():
        path = folder / (name if "/" in name else f"{name}/main")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".py").write_text(source)
    (folder / "link").symlink_to(folder / "b12")
    return folder


def test_what_a_class_lacks_is_named_with_its_package_and_its_submissions(submissions, monkeypatch):
    asked = []

    def missing(_folder, modules):
        asked.extend(modules)
        return set(modules) - {"torch", "json"}

    monkeypatch.setattr("grading.environment.build.missing_modules", missing)
    found = {each.module: each for each in lacking(Path("venv"), submissions)}
    assert set(asked) == {"torch", "json", "yaml", "cv2", "diffusers", "google.colab", "absent_helper"}
    assert list(found) == ["cv2", "google.colab", "yaml", "absent_helper", "diffusers"]
    assert found["cv2"].submissions == ("b13", "b14")
    assert found["cv2"].remedy == "pip install opencv-python"
    assert found["diffusers"].remedy == "none: the homework forbids it"
    assert not found["absent_helper"].distribution


def test_a_module_that_python_dropped_is_not_called_a_lost_file(submissions, monkeypatch):
    (submissions / "b12" / "old.py").write_text("import imp")
    monkeypatch.setattr("grading.environment.build.missing_modules", lambda _folder, _modules: {"imp"})
    (found,) = lacking(Path("venv"), submissions)
    assert found.fixable
    assert "Python before 3.12" in found.remedy


def test_the_exit_status_says_whether_staff_should_add_something(submissions):
    prefix = Path(sys.prefix)
    lacks = run_command("grading", "environment", "--output", prefix, "--submissions", submissions)
    assert lacks.returncode == 1, lacks.stderr
    assert "opencv-python" in lacks.stdout
    assert not list(submissions.rglob("__pycache__"))
    (submissions / "b13" / "main.py").write_text("import diffusers, lost_file")
    (submissions / "b14" / "main.py").write_text("import torch")
    nothing = run_command("grading", "environment", "--output", prefix, "--submissions", submissions)
    assert nothing.returncode == 0, nothing.stdout
    assert "lost_file" in nothing.stdout


def test_names_of_submissions_cannot_control_the_terminal(submissions):
    (submissions / "b13").rename(submissions / "\x1b[2J[red]b13")
    ended = run_command("grading", "environment", "--output", sys.prefix, "--submissions", submissions)
    assert "\x1b[2J" not in ended.stdout + ended.stderr
    assert "[red]b13" in ended.stdout
