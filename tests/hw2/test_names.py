"""The names that `from hw2 import ..` gives."""

import ast
import subprocess
import sys

import pytest

import hw2
from tests.commands import ROOT

SOURCE = (ROOT / "hw2" / "__init__.py").read_text()


def run(code):
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_importing_the_package_loads_nothing_else():
    code = "import sys; before = set(sys.modules); import hw2; print(sorted(set(sys.modules) - before - {'importlib'}))"
    loaded = ast.literal_eval(run(code))
    assert {name.split(".")[0] for name in loaded} <= {"hw2", *sys.stdlib_module_names}
    assert [name for name in loaded if name.startswith("hw2")] == ["hw2"]


def test_a_name_loads_what_it_needs_and_no_model_library_and_loading_a_network_no_compiler():
    """PyTorch's compiler took two of the three seconds that a command needed to start."""
    code = (
        "import sys; from hw2 import NoiseSchedule, ddim, slerp, face_to_u8, load_face_folder, load_words; "
        "print(*sys.modules); from hw2 import load_digit_model, load_face_unet; from hw2.files.bundled import *; "
        "load_digit_model(DIGIT_STUDENT); load_face_unet(FACE_UNET); print(*sys.modules)"
    )
    by_names, by_networks = (set(line.split()) for line in run(code).splitlines())
    assert "torch" in by_names
    assert not {"diffusers", "transformers", "open_clip", "accelerate", "matplotlib"} & by_names
    assert "hw2.faces.network" in by_networks
    assert "torch._dynamo" not in by_networks


def test_every_name_is_there_and_is_the_one_that_type_checkers_see():
    seen = {}
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hw2."):
            seen |= {alias.name: node.module for alias in node.names}
    assert sorted(seen) == sorted(hw2.__all__)
    for name, module in seen.items():
        assert getattr(hw2, name) is getattr(sys.modules[module], name)
    assert set(hw2.__all__) <= set(dir(hw2))


def test_a_star_gives_every_name():
    names = {}
    exec("from hw2 import *", names)
    assert set(hw2.__all__) <= set(names)


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'hw2' has no attribute 'ddmi'"):
        hw2.ddmi  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'ddmi'"):
        exec("from hw2 import ddmi")
