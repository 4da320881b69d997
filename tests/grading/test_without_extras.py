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
    return run_code(code)


def run_code(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=ROOT)


SEVERAL = """
import json
from tests.grading.here import grade_here

print(json.dumps([vars(grade_here(*each)) for each in {commands!r}]))
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """What commands of `hw2-grade` did, by their first word, all in one process without the modules of extras."""
    folder, data = tmp_path_factory.mktemp("bare"), ROOT / "fixtures" / "hw2_data"
    names = [path.name for path in sorted((data / "clip_zeroshot" / "val").glob("*.png"))]
    rows = "".join(f"{name},{name.split('_')[0]}\n" for name in names)
    (folder / "predictions.csv").write_text("image_name,predicted_id\n" + rows)
    commands = [
        ["faces", data / "face" / "GT", data / "face" / "GT", "--json", folder / "faces.json"],
        ["zero-shot", folder / "predictions.csv", "--labels", data / "clip_zeroshot" / "id2label.json"],
        ["explain", "mse"],
        ["check", "fixtures/submissions/reference"],
        ["digits", "fixtures/hw2_data", "--judges", "embedded"],
        ["--version"],
    ]
    words = [[*map(str, command)] for command in commands]
    run = run_code(BARE.partition("sys.argv")[0].format(missing=MISSING) + SEVERAL.format(commands=words))
    assert run.returncode == 0, run.stderr
    found = [subprocess.CompletedProcess(**each) for each in json.loads(run.stdout)]
    return folder, {command[0]: each for command, each in zip(words, found, strict=True)}


def test_faces_are_scored_without_torch(ended):
    folder, runs = ended
    assert runs["faces"].returncode == 0, runs["faces"].stderr
    assert json.loads((folder / "faces.json").read_text())["mse"] == 0
    assert "PSNR" in runs["faces"].stdout
    assert "SSIM" not in runs["faces"].stdout, "scikit-image computes it"


def test_predictions_are_scored_without_torch(ended):
    assert ended[1]["zero-shot"].returncode == 0, ended[1]["zero-shot"].stderr
    assert "100" in ended[1]["zero-shot"].stdout


@pytest.mark.parametrize("command", ["explain", "check"])
def test_what_needs_no_network_needs_no_extra(ended, command):
    assert ended[1][command].returncode == 0, ended[1][command].stderr


def test_a_grading_without_its_extra_says_what_to_install(ended):
    must_say_what_to_install(ended[1]["digits"], "judges")


def test_a_drawing_without_its_extra_says_what_to_install():
    run = run_bare("hw2", "__main__", "digits", "sample", "--output", "unwritten", "--per-digit", "1")
    must_say_what_to_install(run, "draw")


def must_say_what_to_install(run, extra):
    assert run.returncode == 2
    assert f"run pip install '.[{extra}]' in a checkout, or pip install 'FILE.whl[{extra}]' with" in run.stderr
    assert run.stderr.count("\n") == 1


# PyTorch with a torchvision of another build, a package without what is asked of it, a library that is not there.
UNFIT_VISION = "raise RuntimeError('operator torchvision::nms does not exist')"
UNFIT_NAME = "raise ImportError(\"cannot import name 'nn' from 'torch'\", name='torch')"
UNFIT_TORCH = "raise OSError('libcudart.so.13: cannot open shared object file: No such file or directory')"
DATA = "fixtures/hw2_data/textual_inversion"
DIGITS = ["digits", "hw2/models", "--judges", "embedded"]
CONCEPTS = ["concepts", DATA, "--prompts", f"{DATA}/input.json", "--references", DATA, "--judges", "embedded"]


@pytest.mark.parametrize(
    ("module", "where", "arguments", "broken", "content", "extra"),
    [
        ("grading", "cli.app", DIGITS, "torch", UNFIT_VISION, "judges"),
        ("grading", "cli.app", CONCEPTS, "torch", UNFIT_NAME, "judges"),
        ("hw2", "__main__", ["digits", "sample", "--output", "unwritten"], "torch", UNFIT_TORCH, "draw"),
        # the same, once PyTorch itself is loaded
        pytest.param("grading", "cli.app", DIGITS, "torchvision", UNFIT_VISION, "judges", marks=pytest.mark.long),
        pytest.param("grading", "cli.app", CONCEPTS, "transformers", "", "judges", marks=pytest.mark.long),
    ],
)
def test_packages_that_do_not_fit_each_other_are_no_defect_of_ours(
    tmp_path, module, where, arguments, broken, content, extra
):
    (tmp_path / broken).mkdir()
    (tmp_path / broken / "__init__.py").write_text(content)
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


def test_the_versions_name_what_is_missing(ended):
    assert ", no torch, " in ended[1]["--version"].stdout, ended[1]["--version"].stderr
    run = run_bare("hw2", "__main__", "--version")
    assert ", no torch, " in run.stdout, run.stderr


def test_a_module_of_nobody_is_a_defect():
    assert "The grader itself failed" in record_failure(ModuleNotFoundError("no", name="gradng")).sentence
