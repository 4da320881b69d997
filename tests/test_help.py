"""Help of every command, as a narrow terminal shows it."""

import re
import subprocess
import sys

import pytest
from typer.main import get_command

import grading.cli.surroundings
import hw2.surroundings
from tests.commands import ROOT
from tests.programs import APPS, every_command

FIT = {"hw2": hw2.surroundings.fit_help, "hw2-grade": grading.cli.surroundings.fit_help}


@pytest.mark.parametrize("columns", [60, 80, 100])
@pytest.mark.parametrize(("program", "words", "names"), every_command(), ids=str)
def test_the_names_of_options_are_whole(program, words, names, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(APPS[program], "rich_markup_mode", "rich")
    FIT[program](APPS[program])
    get_command(APPS[program])([*words, "--help"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= columns
    found = re.findall(r"(?<!\S)--?[a-z][a-z-]*[a-z]", shown.replace(",", " ").replace("/", " "))
    assert {name for name in names if name.startswith("-")} <= set(found)


@pytest.mark.parametrize("words", ["hw2 faces sample", "hw2 concepts learn", "grading submission", "grading check"])
def test_help_does_not_wait_for_the_large_libraries(words):
    module, *command = words.split()
    program = f"import sys; sys.argv = ['x', *{command}, '--help']; from {module}.__main__ import main\n"
    program += "try: main()\nfinally: print({'torch', 'transformers', 'diffusers', 'scipy'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert shown.stdout.endswith("set()\n")
