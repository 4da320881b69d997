"""An oracle that shares code with what it checks would share its mistakes."""

from __future__ import annotations

import ast

from tests.commands import ROOT

OURS = {"hw2", "grading", "fixtures", "tests"}
"""Everything that is, or imports, the code under test."""


def packages_imported(source: str) -> set[str]:
    """The top-level packages that Python source imports, at its top or inside a function; "" for relative imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("" if node.level else node.module or "")
    return {name.split(".")[0] for name in names}


def test_imports_are_seen_wherever_they_stand() -> None:
    hidden = "import numpy, hw2.faces\ndef f():\n    from grading.core import spec\nfrom . import conftest\n"
    assert packages_imported(hidden) == {"numpy", "hw2", "grading", ""}


def test_the_oracles_import_no_code_under_test() -> None:
    imported = packages_imported((ROOT / "tests" / "oracles.py").read_text())
    assert {"math", "numpy", "torch", "diffusers"} <= imported
    assert not imported & {*OURS, ""}
