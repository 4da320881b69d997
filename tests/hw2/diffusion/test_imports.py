"""What the heart of hw2 may import: an allow-list, so that a new import fails whatever it is."""

import ast
import sys

import pytest

from tests.commands import ROOT

FOLDER = ROOT / "hw2" / "diffusion"
ROOM = {f"hw2.diffusion.{path.stem}" for path in FOLDER.glob("*.py")}


def imported(source):
    """Full names of all modules that a source imports, at any depth of its functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write imports in full"
            yield from (
                name if (name := f"{node.module}.{alias.name}") in ROOM else str(node.module) for alias in node.names
            )


def forbidden(source, allowed):
    return sorted(
        name
        for name in set(imported(source))
        if name not in allowed and name.split(".")[0] not in {*sys.stdlib_module_names, "torch"}
    )


def test_samplers_import_the_schedule_and_torch_alone():
    source = (FOLDER / "samplers.py").read_text()
    assert forbidden(source, {"hw2.diffusion.schedule"}) == []
    assert {"torch", "hw2.diffusion.schedule"} <= set(imported(source))


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.py")))
def test_the_room_imports_itself_and_torch_alone(name):
    assert forbidden((FOLDER / name).read_text(), ROOM) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import numpy as np", ["numpy"]),
        ("from hw2.errors import InputError", ["hw2.errors"]),
        ("import hw2", ["hw2"]),
        ("from hw2 import errors", ["hw2"]),
        ("def f():\n    import diffusers.models", ["diffusers.models"]),
        ("from hw2.diffusion import seeding", []),
        ("import math, torch.nn", []),
    ],
)
def test_an_import_that_is_not_listed_is_found(line, found):
    assert forbidden(line, ROOM) == found


def test_the_samplers_may_not_even_import_the_rest_of_the_room():
    assert forbidden("from hw2.diffusion import seeding, schedule", {"hw2.diffusion.schedule"}) == [
        "hw2.diffusion.seeding"
    ]
