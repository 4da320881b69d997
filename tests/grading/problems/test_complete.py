"""Whether outputs are missing, which the machine may have caused, or only bad, which it cannot."""

from dataclasses import replace

import pytest

from grading.core.results import Part
from grading.homeworks.fall2024 import CONCEPTS, DIGITS, FACES
from grading.homeworks.fall2025 import CONTROL
from grading.problems.control import ControlResult, Line
from grading.problems.digit_scores import grade_digits
from grading.problems.faces import grade_faces
from grading.problems.prompt_scores import ConceptsResult, PromptScore
from tests.grading.plain_digits import JUDGES, save


def digits(folder):
    return DIGITS.result(grade_digits(folder, JUDGES, DIGITS.rules)).complete


def test_digits_are_complete_whatever_they_show(complete):
    for image in (complete / "svhn").glob("[0-6]_*.png"):
        save(image, 3)
    result = DIGITS.result(grade_digits(complete, JUDGES, DIGITS.rules))
    assert (result.status, result.complete) == ("fail", True)


def test_one_digit_more_leaves_them_complete_and_one_less_does_not(complete):
    save(complete / "svhn" / "7_051.png", 7)
    assert digits(complete)
    (complete / "svhn" / "7_001.png").unlink()
    assert not digits(complete)


def test_a_digit_that_cannot_be_read_is_missing(complete):
    (complete / "svhn" / "7_001.png").write_bytes(b"no image")
    assert not digits(complete)


def test_faces_are_complete_whatever_they_show_and_not_with_one_less(tmp_path):
    for name in ("00.png", "01.png"):
        save(tmp_path / "GT" / name, 100)
        save(tmp_path / "out" / name, 200)
    result = FACES.result(grade_faces(tmp_path / "out", tmp_path / "GT", 20.0), Part.PUBLIC)
    assert (result.status, result.complete) == ("fail", True)
    (tmp_path / "out" / "01.png").write_bytes(b"no image")
    assert not FACES.result(grade_faces(tmp_path / "out", tmp_path / "GT", 20.0), Part.PUBLIC).complete


@pytest.mark.parametrize(
    ("counts", "complete"), [((25, 25), True), ((25, 26), True), ((25, 24), False), ((0, 25), False)]
)
def test_prompts_are_complete_where_each_has_its_images(counts, complete):
    scores = {
        f"0/{index}": PromptScore((70.0, 30.0), images={f"{i}.png": (1.0, 1.0) for i in range(count)})
        for index, count in enumerate(counts)
    }
    assert CONCEPTS.result(ConceptsResult("fail", 0, 2, scores), Part.PUBLIC).complete is complete


@pytest.mark.parametrize(("failure", "complete"), [("", True), ("0.png is missing.", False)])
def test_lines_of_control_are_complete_where_each_could_be_scored(failure, complete):
    line = Line(1, "0.png", "0.png", "a circle", 0.8, 0.6, 0.48)
    graded = ControlResult("fail", 0.4, [line, replace(line, number=2, failure=failure)], [1])
    assert CONTROL.result(graded, Part.PUBLIC).complete is complete
