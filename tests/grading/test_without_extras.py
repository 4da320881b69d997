"""What the core of the package does where no extra is installed: no torch, no scipy, no scikit-image."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from grading.core import extras as extras_of_grading
from grading.core.errors import record_failure
from hw2 import extras as extras_of_hw2
from tests.commands import ROOT

BARE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
sys.argv = ["hw2-grade", *{arguments!r}]
from {module}.{where} import main

main()
"""

MISSING = {
    "torch", "torchvision", "transformers", "tokenizers", "huggingface_hub", "diffusers", "accelerate", "open_clip",
    "matplotlib", "tensorboard", "ray", "scipy", "skimage", "pynvml",
}  # fmt: skip


def run_bare(module, where, *arguments):
    """Run a command where the modules of all extras cannot be imported."""
    code = BARE.format(missing=MISSING, arguments=list(map(str, arguments)), module=module, where=where)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=ROOT)


def test_faces_are_scored_without_torch(bundled_data, tmp_path):
    truth = bundled_data / "face" / "GT"
    run = run_bare("grading", "cli.app", "faces", truth, truth, "--json", tmp_path / "faces.json")
    assert run.returncode == 0, run.stderr
    assert json.loads((tmp_path / "faces.json").read_text())["mse"] == 0
    assert "PSNR" in run.stdout
    assert "SSIM" not in run.stdout, "scikit-image computes it"


def test_predictions_are_scored_without_torch(bundled_data, tmp_path):
    labels = bundled_data / "clip_zeroshot" / "id2label.json"
    names = [path.name for path in sorted((bundled_data / "clip_zeroshot" / "val").glob("*.png"))]
    rows = "".join(f"{name},{name.split('_')[0]}\n" for name in names)
    (tmp_path / "predictions.csv").write_text("image_name,predicted_id\n" + rows)
    run = run_bare("grading", "cli.app", "zero-shot", tmp_path / "predictions.csv", "--labels", labels)
    assert run.returncode == 0, run.stderr
    assert "100" in run.stdout


@pytest.mark.parametrize("arguments", [["explain", "mse"], ["check", "fixtures/submissions/reference"]])
def test_what_needs_no_network_needs_no_extra(arguments):
    run = run_bare("grading", "cli.app", *arguments)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("module", "where", "arguments", "extra"),
    [
        ("grading", "cli.app", ["digits", "fixtures/hw2_data", "--judges", "embedded"], "judges"),
        ("hw2", "__main__", ["digits", "sample", "--output", "unwritten", "--per-digit", "1"], "draw"),
    ],
)
def test_a_command_without_its_extra_says_what_to_install(module, where, arguments, extra):
    run = run_bare(module, where, *arguments)
    assert run.returncode == 2
    assert f"run pip install '.[{extra}]' in a checkout, or pip install 'FILE.whl[{extra}]' with" in run.stderr
    assert run.stderr.count("\n") == 1


# PyTorch with a torchvision of another build, a package without what is asked of it, a library that is not there.
UNFIT = {
    "torchvision": "raise RuntimeError('operator torchvision::nms does not exist')",
    "transformers": "",
    "torch": "raise OSError('libcudart.so.13: cannot open shared object file: No such file or directory')",
}
DATA = "fixtures/hw2_data/textual_inversion"
CONCEPTS = ["concepts", DATA, "--prompts", f"{DATA}/input.json", "--references", DATA, "--judges", "embedded"]


@pytest.mark.parametrize(
    ("module", "where", "arguments", "broken", "extra"),
    [
        ("grading", "cli.app", ["digits", "hw2/models", "--judges", "embedded"], "torchvision", "judges"),
        ("grading", "cli.app", CONCEPTS, "transformers", "judges"),
        ("hw2", "__main__", ["digits", "sample", "--output", "unwritten"], "torch", "draw"),
    ],
)
def test_packages_that_do_not_fit_each_other_are_no_defect_of_ours(tmp_path, module, where, arguments, broken, extra):
    (tmp_path / broken).mkdir()
    (tmp_path / broken / "__init__.py").write_text(UNFIT[broken])
    code = f"import sys; sys.argv = ['it', *{arguments!r}]; from {module}.{where} import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert run.returncode == 2
    assert f"{broken} cannot be imported (" in run.stderr
    assert f"in a new environment, run pip install '.[{extra}]'" in run.stderr
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize("package_problem", [extras_of_grading.package_problem, extras_of_hw2.package_problem])
def test_a_cause_is_a_problem_of_packages_but_neither_a_context_nor_a_full_memory(package_problem):
    unfit = ImportError("cannot import name 'CLIPModel'", name="transformers")
    wrapped, own = RuntimeError("Failed to import it"), KeyError("ours")
    wrapped.__cause__ = own.__context__ = unfit
    assert package_problem(wrapped).startswith("transformers cannot be imported (RuntimeError: Failed to import it); ")
    assert package_problem(own) == ""
    full = MemoryError()
    full.__cause__ = unfit
    assert package_problem(full) == ""


def test_nobody_is_told_to_install_a_name_that_anyone_may_register():
    """The distribution is not published. pyproject.toml names it for its own extras, which pip never looks up."""
    tracked = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    texts = [ROOT / name for name in tracked.split("\0") if name.endswith((".py", ".md", ".html", ".ipynb", ".yml"))]
    assert len(texts) > 100
    name = "dlcv-hw2" + "["
    assert [path for path in texts if name in path.read_text()] == []


@pytest.mark.parametrize(("module", "where"), [("grading", "cli.app"), ("hw2", "__main__")])
def test_the_versions_name_what_is_missing(module, where):
    run = run_bare(module, where, "--version")
    assert ", no torch, " in run.stdout, run.stderr


def test_a_module_of_nobody_is_a_defect():
    assert "The grader itself failed" in record_failure(ModuleNotFoundError("no", name="gradng")).sentence
