import subprocess
import sys

import pytest

from grading.core.errors import GradingError
from grading.points.explain import EXPLANATIONS, explain
from tests.grading.reported import HOSTILE, submission_result

ASKED = [
    "1 simple", "1 strong", "2 public", "2 private", "3 public 0/0", "3 public 0/1", "3 private 1/12", "3 public",
    "report 1", "report 2", "report 3", "staff fixed", "late", "accuracy", "accuracy_mnistm", "accuracy_svhn", "mse",
    "psnr", "ssim", "clip_image_score", "clip_text_score", "selected", "twice", "hw2_2.sh private twice", "copy",
    "fetch", "freeze", "hw2_1.sh", "hw2_2.sh public", "hw2_3.sh private", "limits", "zero-shot", "confusion",
    "per_digit", "wilson_95", "realism", "diversity", "frechet_distance", "nearest_rms_real", "warnings",
    "near-duplicates", "unchecked",
]  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_every_check_is_explained_in_a_few_sentences_with_its_source(name):
    text, source = explain(name).split("\nSource: ")
    assert 60 < len(text) < 700
    assert len(source) > 3
    assert source.endswith((".", ")"))


@pytest.mark.parametrize("line", [line.name for line in submission_result().lines])
def test_every_line_of_a_result_is_explained(line):
    explain(line)


@pytest.mark.parametrize("stage", [stage.stage for stage in submission_result().stages])
def test_every_stage_of_a_result_is_explained(stage):
    explain(stage)


@pytest.mark.parametrize("name", [each.name for each in EXPLANATIONS])
def test_each_name_leads_to_its_own_explanation_alone(name):
    assert explain(name).startswith(f"{name}: ")


def test_letters_and_spaces_may_be_any():
    assert explain("  MSE ") == explain("mse")
    assert explain("Staff  Fixed") == explain("staff fixed")


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("1 simple", ["90.00%", "10 points", "p8"]),
        ("1 strong", ["95.00%", "5 more points", "p8"]),
        ("2 public", ["below 20", "10 points", "p12"]),
        ("3 public 0/1", ["2.5 points", "exactly 25", "image + 2.5 * text", "grade_hw2_3.py"]),
        ("3 private 0/1", ["20 points"]),
        ("late", ["30%", "three free days", "p44-45"]),
        ("staff fixed", ["30%", "p44-45"]),
        ("mse", ["0-255", "float64", "no official script"]),
        ("hw2_2.sh public", ["5 minutes", "p35-38"]),
        ("zero-shot", ["56.48 %"]),
    ],
)
def test_explanations_state_the_rule(name, facts):
    for fact in facts:
        assert fact in explain(name)


@pytest.mark.parametrize("name", ["", "4 public", "1 simplest", "report 4", ".*", HOSTILE, "digit 10"])
def test_an_unknown_name_is_told_the_known_ones(name):
    with pytest.raises(GradingError, match="nothing is called") as error:
        explain(name)
    assert "clip_image_score" in str(error.value)
    assert str(error.value).isprintable()


def test_a_slip_is_told_what_was_perhaps_meant():
    with pytest.raises(GradingError, match="perhaps 2 public"):
        explain("2 pubic")


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "grading", *arguments], capture_output=True, text=True, check=False)


def test_the_command_explains_one_or_all_and_says_what_it_does_not_know():
    one = command("explain", "mse")
    assert (one.returncode, one.stdout) == (0, explain("mse") + "\n")
    everything = command("explain").stdout
    assert all(explain(each.name) in everything for each in EXPLANATIONS)
    unknown = command("explain", "[red]x")
    assert unknown.returncode == 2
    assert "nothing is called [red]x" in unknown.stderr
    assert unknown.stdout == ""
