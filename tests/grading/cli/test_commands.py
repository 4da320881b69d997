"""`hw2-grade` as a person types it: what is not there is answered in one sentence."""

import json

import pytest

from tests.grading.here import grade_here

EMPTY = {
    "faces": ("out", "truth"),
    "digits": ("out",),
    "concepts": ("out", "--prompts", "input.json", "--references", "textual_inversion"),
}


@pytest.mark.parametrize("command", EMPTY)
def test_a_folder_with_nothing_to_score_is_one_sentence_and_no_verdict(tmp_path, command):
    (tmp_path / "out" / "mnistm").mkdir(parents=True)
    for name, said in {
        "out": "has no files in it; expected the folder",
        "gone": "does not exist; expected the",
    }.items():
        run = grade_here(command, tmp_path / name, *EMPTY[command][1:], "--json", tmp_path / "result.json")
        assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1)
        assert f"hw2-grade: {tmp_path / name} {said}" in run.stderr
        assert json.loads((tmp_path / "result.json").read_text())["status"] == "error"


def test_a_folder_of_other_files_is_still_scored(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "00.jpg").touch()
    run = grade_here("digits", tmp_path / "out", "--judges", "embedded")
    assert run.returncode == 1
    assert "mnistm: 500 of 500 images are missing" in run.stdout


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("degits", "there is no command degits; there is: hw2-grade digits."),
        ("score", "there is no command score; there are: hw2-grade faces, "),
        ("\x1b[31mred", "there is no command \\x1b[31mred; there are: "),
    ],
)
def test_an_unknown_command_is_answered_with_those_that_may_be_meant(typed, said):
    run = grade_here(typed, "--output", "x")
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1)
    assert said.replace("hw2-grade ", "grading ") in run.stderr
