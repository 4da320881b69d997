"""A fingerprint changes with everything that a result depends on, and with nothing else."""

import shutil
from dataclasses import replace

import pytest

from grading.environment.python import PythonFacts
from grading.submission import fingerprint as module
from grading.submission import grader as grader_module
from grading.submission.fingerprint import code_sha256, fingerprint, hub_models, scripts_use
from grading.submission.grader import Grader
from tests.grading.submission.test_submission import assignment, course

__all__ = ["assignment", "course"]  # fixtures

PYTHON = PythonFacts("3.11.2", ("numpy==1", "torch==2"))


@pytest.fixture
def own(tmp_path, course, assignment, monkeypatch):
    """An assignment with data of its own, in an environment that is only named."""
    monkeypatch.setattr(grader_module, "check_python", lambda _sandbox: PYTHON)
    for part in ("public", "private", "clip"):
        shutil.copytree(course / part, tmp_path / part)
    (tmp_path / "b01").mkdir()
    (tmp_path / "b01" / "hw2_1.sh").write_text("true")
    return replace(
        assignment, data=tmp_path / "public", private=tmp_path / "private", clip=str(tmp_path / "clip"), python=tmp_path
    )


def of(asked, tmp_path):
    return fingerprint(Grader(asked).record(), tmp_path / "b01")


FILES = {
    "ground truth": "public/face/GT/00.png",
    "private ground truth": "private/face/GT/01.png",
    "noise": "public/face/noise/00.pt",
    "UNet": "public/face/UNet.pt",
    "Stable Diffusion": "public/model.ckpt",
    "prompts": "public/textual_inversion/input.json",
    "reference picture": "public/textual_inversion/0/1.png",
    "private reference picture": "private/textual_inversion/0/0.png",
    "judge": "clip/model.safetensors",
    "a judge's settings": "clip/config.json",
    "submission": "b01/hw2_1.sh",
}


@pytest.mark.parametrize("name", FILES)
def test_one_byte_of_each_file_that_a_result_depends_on_changes_it(tmp_path, own, name):
    first = of(own, tmp_path)
    assert of(own, tmp_path) == first
    path = tmp_path / FILES[name]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert of(own, tmp_path) != first


OPTIONS = {
    "problems": "1,2",
    "private": None,
    "twice": True,
    "fix": True,
    "time_scale": 2.0,
    "trust": False,
    "limits": {"memory_bytes": 2**30},
    "points": {"late_share_per_day": 0.5},
    "environment": {"HF_TOKEN": "secret"},
    "device": "cpu",
}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_changes_it(tmp_path, own, name):
    assert of(replace(own, **{name: OPTIONS[name]}), tmp_path) != of(own, tmp_path)


def test_the_values_of_variables_change_it_and_are_written_nowhere(tmp_path, own):
    first, second = (replace(own, environment={"HF_TOKEN": token}) for token in ("hidden", "other"))
    assert of(first, tmp_path) != of(second, tmp_path)
    assert "hidden" not in repr(Grader(first).record())


def test_a_judge_of_the_same_name_from_elsewhere_with_the_same_weights_is_the_same_but_for_its_path(tmp_path, own):
    first = Grader(own).record()["judges"]["clip"]
    shutil.copytree(tmp_path / "clip", tmp_path / "other" / "clip")
    second = Grader(replace(own, clip=str(tmp_path / "other" / "clip"))).record()["judges"]["clip"]
    assert first["sha256"] == second["sha256"]


@pytest.mark.parametrize("python", [("3.12.0", PYTHON.packages), ("3.11.2", ("numpy==1",)), ("3.11.2", ("numpy==2",))])
def test_another_python_or_a_package_that_is_gone_makes_a_new_result(tmp_path, own, monkeypatch, python):
    first = Grader(own).record()
    monkeypatch.setattr(grader_module, "check_python", lambda _sandbox: PythonFacts(*python))
    second = Grader(own).record()
    same = fingerprint(first, tmp_path / "b01") == fingerprint(second, tmp_path / "b01")
    assert not (same and set(scripts_use(first)) <= set(scripts_use(second)))


def test_a_model_that_is_replaced_in_the_cache_is_not_what_scripts_used_and_one_more_changes_nothing(tmp_path):
    refs = tmp_path / "hub" / "models--openai--clip" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("a" * 40)
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "ViT-B-32.pt").write_bytes(b"weights")
    first = hub_models(tmp_path)
    assert first == ["ViT-B-32.pt 7", f"models--openai--clip main {'a' * 40}"]
    (tmp_path / "clip" / "more.pt").write_bytes(b"more")
    assert set(first) < set(hub_models(tmp_path))
    (refs / "main").write_text("b" * 40)
    assert not set(first) <= set(hub_models(tmp_path))
    assert hub_models(None) == []


def test_the_code_that_scores_changes_it_and_the_code_of_reports_does_not(tmp_path):
    package = tmp_path / "grading"
    shutil.copytree(module.GRADER, package, ignore=shutil.ignore_patterns("models", "__pycache__"))
    seen = {code_sha256(), code_sha256(package)}
    assert len(seen) == 1
    for name in ("reports/terminal.py", "points/lines.py", "cli/app.py"):
        (package / name).write_text("changed")
    code_sha256.cache_clear()
    assert code_sha256(package) in seen
    for name in ("problems/digits.py", "sandbox/run.py", "environment/distributions.csv"):
        (package / name).write_text("changed")
        code_sha256.cache_clear()
        seen.add(code_sha256(package))
    assert len(seen) == 4


def test_the_machine_and_the_place_of_options_do_not_change_it(tmp_path, own, monkeypatch):
    first = of(own, tmp_path)
    monkeypatch.setattr(grader_module, "hardware", lambda: {"cores": 1000})
    assert of(replace(own, source={"flags": {"twice": False}}), tmp_path) == first
