"""An installed wheel does what a checkout does (see `tests/wheel.py`)."""

from __future__ import annotations

import tomllib
import zipfile
from importlib.metadata import EntryPoint

import pytest
from setuptools import Distribution

from tests.markdown import not_printed
from tests.wheel import COMMANDS, ROOT, SHOWN, build, install, lay_out, use, use_all


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    if not (ROOT / ".git").exists():
        pytest.skip("needs git's list of the files")
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folders of an environment with the wheel, and of a person."""
    environment, person = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("person")
    install(wheel, environment, clean=False)
    lay_out(person)
    return environment, person


def packaged():
    """Every module and every file of data, as a path in the wheel."""
    files = [path for package in ("hw2", "grading") for path in (ROOT / package).rglob("*") if path.is_file()]
    return {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}


def test_the_packages_that_are_declared_have_every_module_and_every_file_of_data(monkeypatch):
    monkeypatch.chdir(ROOT)
    declared = Distribution({"script_name": "setup.py"})
    declared.parse_config_files(["pyproject.toml"])
    declared.set_defaults()
    declared.include_package_data = False  # what an earlier build had listed is no declaration
    command = declared.get_command_obj("build_py")
    command.ensure_finalized()
    found = command.get_outputs(include_bytecode=False)
    assert {name.removeprefix(f"{command.build_lib}/") for name in found} == packaged()


def test_the_programs_that_are_declared_are_there():
    """tests/test_help.py calls them as the installed programs do."""
    programs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(programs) == {"hw2", "hw2-grade"}
    assert all(callable(EntryPoint(name, place, "console_scripts").load()) for name, place in programs.items())


@pytest.mark.slow
@pytest.mark.long
def test_a_wheel_built_from_the_sdist_has_every_module_and_every_file_of_data(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in inside if ".dist-info/" not in name} == packaged()


@pytest.fixture(scope="module")
def used(installed):
    """What all commands said, one after the other."""
    return use_all(*installed)


@pytest.mark.slow
@pytest.mark.long
def test_what_is_drawn_with_the_wheel_is_scored_with_the_wheel(used):
    statuses = used.stdout.splitlines()[-1]
    assert statuses == str([*COMMANDS.values()]), used.stdout + used.stderr


@pytest.mark.slow
@pytest.mark.long
def test_the_wheel_prints_what_the_index_shows(used):
    assert len(SHOWN) >= 2
    assert not_printed([line for each in SHOWN for line in each.lines], used.stdout) == ""


@pytest.mark.slow
@pytest.mark.long
def test_a_wheel_says_that_it_has_no_homework(used):
    refused = [line for line in used.stderr.splitlines() if line.startswith(("hw2: ", "hw2-grade: "))][-2:]
    assert [("hw2_data" in line, "--data)" in line) for line in refused] == [(True, True)] * 2, used.stderr


@pytest.mark.slow
@pytest.mark.long
def test_a_wheel_installs_both_commands(installed):
    environment, person = installed
    for command in ("hw2 --help", "hw2-grade --help"):
        assert use(environment, person, command).returncode == 0
