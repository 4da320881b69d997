"""Help of every command, as a narrow terminal shows it."""

import functools
import os
import platform
import re
import subprocess
import sys

import pytest
import torch
from typer.main import get_command

import grading.cli.surroundings
import hw2.surroundings
from tests.commands import ROOT
from tests.programs import APPS, every_command

FIT = {"hw2": hw2.surroundings.fit_help, "hw2-grade": grading.cli.surroundings.fit_help}


@functools.cache
def parser(program, rich):
    """The parser of a program, whose help has Typer's columns or not."""
    APPS[program].rich_markup_mode = "rich" if rich else None
    return get_command(APPS[program])


@pytest.mark.parametrize("columns", [60, 80, 100])
@pytest.mark.parametrize(("program", "words", "names"), every_command(), ids=str)
def test_names_of_options_are_whole_and_explanations_have_room(program, words, names, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(APPS[program], "rich_markup_mode", "rich")
    FIT[program](APPS[program])
    rich = APPS[program].rich_markup_mode is not None
    assert rich == (columns == 100)
    parser(program, rich)([*words, "--help"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= columns
    found = re.findall(r"(?<!\S)--?[a-z][a-z-]*[a-z]", shown.replace(",", " ").replace("/", " "))
    assert {name for name in names if name.startswith("-")} <= set(found)
    if columns < 100:
        options = shown.partition("\nOptions:\n")[2].splitlines()
        begins = {len(line) - len(line.lstrip()) for line in options if line.startswith("     ")}
        assert options
        assert all(begin < columns / 2 for begin in begins)


@pytest.mark.parametrize("words", ["hw2 faces sample", "hw2 concepts learn", "grading submission", "grading check"])
def test_help_does_not_wait_for_the_large_libraries(words):
    module, *command = words.split()
    program = f"import sys; sys.argv = ['x', *{command}, '--help']; from {module}.__main__ import main\n"
    program += "try: main()\nfinally: print({'torch', 'transformers', 'diffusers', 'scipy'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert shown.stdout.endswith("set()\n")


@pytest.mark.parametrize("module", ["hw2", "grading"])
def test_the_versions_are_those_that_a_bug_report_needs_and_do_not_wait_for_torch(module, tmp_path):
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho bubblewrap 9.8.7 $1\n")
    (tmp_path / "bwrap").chmod(0o700)
    program = f"import sys; sys.argv = ['x', '--version']; from {module}.__main__ import main\n"
    program += "try: main()\nfinally: print('torch' in sys.modules)"
    variables = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=variables, check=True
    )
    line, imported = shown.stdout.splitlines()
    assert imported == "False"
    found = line.split(", ")
    assert found[1] == f"Python {platform.python_version()}"
    assert found[2] == f"torch {torch.__version__} (CUDA {torch.version.cuda or 'none'})"
    assert found[3] == "bubblewrap 9.8.7 --version"


@pytest.mark.parametrize(
    ("module", "program", "typed", "names"),
    [
        ("hw2", "hw2", "hw2 digits sa", {"sample"}),
        ("grading", "hw2-grade", "hw2-grade c", {"cohort", "class", "check", "concepts"}),
    ],
)
def test_the_shell_completes_the_name_of_a_command(module, program, typed, names):
    asked = {f"_{program.replace('-', '_').upper()}_COMPLETE": "complete_bash", "COMP_WORDS": typed}
    asked["COMP_CWORD"] = str(typed.count(" "))
    code = (
        f"import sys; sys.argv = [{program!r}]; from {module}.__main__ import main; main()"  # as the installed command
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **asked}
    )
    assert set(shown.stdout.split()) == names, shown.stderr
