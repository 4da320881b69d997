"""A second edition: the same classes with other numbers, and none where they are not known."""

import numpy as np
import pytest
from PIL import Image

from grading.core.results import Check, Judge, Part, ScoreLine
from grading.homeworks import HOMEWORKS, chosen_homework
from grading.homeworks.fall2024 import FALL2024
from grading.homeworks.fall2025 import FALL2025
from grading.judges.protocols import Predictions
from grading.points.explain import explain, explanations
from grading.points.lines import score_lines, total, verdict
from grading.points.staff import StaffEntry
from grading.problems.control import ControlResult, Line
from grading.problems.digit_scores import grade_digits
from grading.problems.faces import grade_faces

DIGITS_2024 = FALL2024.problem(1)
DIGITS, FACES, CONTROL = (FALL2025.problem(number) for number in (1, 2, 3))

UNCHECKED = Check("data", "error", "The ground truth is missing.")


class RedJudge:
    """Reads the digit from the red channel, where the tests wrote it."""

    identity = Judge("mnistm", "custom", "red", "0" * 64)

    def predict(self, images):
        digits = np.array([image[0, 0, 0] for image in images], np.int64)
        return Predictions(
            digits, np.array([[image[0, 0, 1], image[0, 0, 2]] for image in images], float).reshape(-1, 2)
        )


JUDGES = {"mnistm": RedJudge(), "svhn": RedJudge()}


def save(path, shows):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((28, 28, 3), shows, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """What a script of 2025 leaves: even digits in mnistm/, odd ones in svhn/, all right."""
    for dataset, first in (("mnistm", 0), ("svhn", 1)):
        for digit in range(first, 10, 2):
            for i in range(1, 51):
                save(tmp_path / dataset / f"{digit}_{i:03d}.png", digit)
    return tmp_path


def add_the_others(folder):
    """What a script of 2024 leaves besides: odd digits in mnistm/, even ones in svhn/."""
    for dataset, first in (("mnistm", 1), ("svhn", 0)):
        for digit in range(first, 10, 2):
            for i in range(1, 51):
                save(folder / dataset / f"{digit}_{i:03d}.png", digit)


def messages(result):
    return [check.message for check in result.checks if check.status == "fail"]


def test_it_is_known_by_its_name():
    assert chosen_homework("fall2025") is FALL2025
    assert list(HOMEWORKS) == ["fall2024", "fall2025"]


def test_five_hundred_digits_are_asked_for_even_ones_and_odd_ones_apart():
    assert DIGITS.rules.total == 500
    assert {name[0] for name in DIGITS.rules.names("mnistm")} == set("02468")
    assert {name[0] for name in DIGITS.rules.names("svhn")} == set("13579")


def test_a_folder_with_the_digits_apart_is_complete_and_passes(folder):
    result = grade_digits(folder, JUDGES, DIGITS.rules)
    assert (result.status, result.missing, result.accuracy) == ("pass", [], 1.0)
    assert result.total == {"mnistm": 250, "svhn": 250}


def test_no_baseline_is_held_against_it(folder):
    for path in folder.glob("*/*.png"):
        save(path, 9 - int(path.name[0]))
    result = grade_digits(folder, JUDGES, DIGITS.rules)
    assert (result.status, result.accuracy) == ("pass", 0.0)


def test_one_digit_less_fails(folder):
    (folder / "svhn" / "7_050.png").unlink()
    result = grade_digits(folder, JUDGES, DIGITS.rules)
    assert result.status == "fail"
    assert messages(result) == ["svhn: 1 of 250 images is missing: 7_050.png."]


def test_a_folder_of_2024_has_too_many(folder):
    add_the_others(folder)
    assert grade_digits(folder, JUDGES, DIGITS_2024.rules).status == "pass"
    result = grade_digits(folder, JUDGES, DIGITS.rules)
    assert (result.status, result.missing) == ("fail", [])
    mnistm, svhn = messages(result)
    assert mnistm.startswith("mnistm: the score includes 250 unexpected images: 1_001.png, 1_002.png,")
    assert svhn.startswith("svhn: the score includes 250 unexpected images: 0_001.png, 0_002.png,")


def test_a_folder_of_2025_has_too_few_for_2024(folder):
    result = grade_digits(folder, JUDGES, DIGITS_2024.rules)
    assert result.status == "fail"
    assert messages(result)[0].startswith("mnistm: 250 of 500 images are missing: 1_001.png, 1_002.png,")
    assert len(result.missing) == 500


def test_a_folder_with_the_data_sets_swapped_misses_everything(folder):
    (folder / "mnistm").rename(folder / "x")
    (folder / "svhn").rename(folder / "mnistm")
    (folder / "x").rename(folder / "svhn")
    result = grade_digits(folder, JUDGES, DIGITS.rules)
    assert len(result.missing) == 500
    assert result.missing[0] == "mnistm/0_001.png"


def faces(tmp_path, name, value):
    save(tmp_path / "GT" / "00.png", 100)
    save(tmp_path / name / "00.png", value)
    return FACES.result(grade_faces(tmp_path / name, tmp_path / "GT", FACES.threshold), Part.PUBLIC)


def test_faces_have_no_threshold(tmp_path):
    far = faces(tmp_path, "far", 200)
    assert (far.status, far.figure("mse").value, far.figure("mse").baseline) == ("pass", 10000.0, None)


@pytest.fixture
def results(folder, tmp_path):
    """One result of each problem and part."""
    control = ControlResult("pass", 0.5, [Line(1, "0.png", "0.png", "a circle", 0.8, 0.625, 0.5)], [1])
    return [
        DIGITS.result(grade_digits(folder, JUDGES, DIGITS.rules)),
        faces(tmp_path / "faces", "out", 101),
        FACES.unchecked(Part.PRIVATE, UNCHECKED),
        CONTROL.result(control, Part.PUBLIC),
        CONTROL.unchecked(Part.PRIVATE, UNCHECKED),
    ]


def test_every_line_has_a_status_and_no_points(results):
    lines = score_lines(FALL2025, results, StaffEntry())
    assert {line.name: (line.points, line.max_points, line.status) for line in lines} == {
        "1 accuracy": (0, 0, "pass"),
        "2 public": (0, 0, "pass"),
        "2 private": (None, 0, "error"),
        "3 public": (0, 0, "pass"),
        "3 private": (None, 0, "error"),
    }
    assert total(lines) == (0, 0, 0)
    assert verdict(lines) == "error"
    assert not FALL2025.has_points
    assert "points" in FALL2025.note


def test_late_days_and_fixed_code_take_nothing_from_nothing(results):
    lines = score_lines(FALL2025, results, StaffEntry(late_days=2, staff_fixed=True))
    assert total(lines) == (0, 0, 0)
    assert [line.points for line in lines[-2:]] == [0, 0]


def named(results) -> list[str]:
    """All that a report of the results names."""
    lines: list[ScoreLine] = score_lines(FALL2025, results, StaffEntry())
    stages = ["copy", "fetch", "freeze"]
    for problem in FALL2025.problems:
        stages += [part.of(problem.script) for part in problem.parts]
    figures = [figure.key for result in results for figure in result.figures]
    return [*(line.name for line in lines), *stages, *(f"{stage} twice" for stage in stages[3:]), *sorted({*figures})]


def test_every_line_stage_and_figure_is_explained(results):
    for name in named(results):
        text, source = explain(name, FALL2025).split("\nSource: ")
        assert 60 < len(text) < 700
        assert source.endswith((".", ")"))


def test_no_explanation_of_a_problem_cites_what_only_fall_2024_has():
    own = {each.name for problem in FALL2025.problems for each in problem.explanations()}
    own |= {problem.script for problem in FALL2025.problems}
    for each in explanations(FALL2025):
        if each.name in own:
            assert "slides" not in each.source
            assert " points if " not in each.text


def test_explanations_say_which_digits_are_asked_for():
    assert "mnistm/ must have 250 images" in explain("accuracy_mnistm", FALL2025)
    assert "for the digits 1, 3, 5, 7, 9." in explain("accuracy_svhn", FALL2025)
    assert "All 500 images" in explain("1 accuracy", FALL2025)
    assert "the time limit is ours" in explain("hw2_1.sh", FALL2025)
