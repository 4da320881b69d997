"""The official numbers of Fall 2024, as the slides state them; nothing here is read from the code under test."""

from pathlib import Path

import pytest

from grading.core.errors import GradingError
from grading.core.results import Part
from grading.homeworks import chosen_homework
from grading.homeworks.fall2024 import FALL2024
from grading.submission.assignment import Assignment

SLIDES = {  # p35-38: what staff type, and how long they wait
    1: ("bash hw2_1.sh /output", 15 * 60),
    2: ("bash hw2_2.sh /data/noise /output /data/UNet.pt", 5 * 60),
    3: ("bash hw2_3.sh /data/input.json /output /data/model.ckpt", 15 * 60),
}


@pytest.mark.parametrize("number", SLIDES)
def test_scripts_get_the_official_arguments_and_time(number):
    problem = FALL2024.problem(number)
    assert (f"bash {problem.script} {' '.join(problem.arguments)}", problem.seconds) == SLIDES[number]


def test_points_and_baselines_are_those_of_the_slides():
    digits, faces, concepts = FALL2024.problems
    assert (digits.points, digits.rules.baselines) == ({"simple": 10, "strong": 5}, {"simple": 0.90, "strong": 0.95})
    assert (faces.points, faces.threshold) == ({"public": 10, "private": 10}, 20)
    assert concepts.shares(Part.PUBLIC, ["0/0", "0/1", "1/0", "1/1"]) == [2.5] * 4
    assert sum(concepts.points.values()) == 20
    assert (concepts.rules.images, concepts.rules.selected, concepts.rules.text_weight) == (25, 5, 2.5)
    assert FALL2024.report == {1: 15, 2: 15, 3: 15}
    assert (FALL2024.late_share_per_day, FALL2024.staff_fixed_share) == (0.3, 0.3)


def test_inputs_lie_where_the_homeworks_data_has_them():
    runs = list(Assignment(Path("pub"), Path("priv")).runs())
    assert [(run.name, {name: str(path) for name, path in run.inputs.items()}) for run in runs] == [
        ("hw2_1.sh", {}),
        ("hw2_2.sh public", {"noise": "pub/face/noise", "UNet.pt": "pub/face/UNet.pt"}),
        ("hw2_2.sh private", {"noise": "priv/face/noise", "UNet.pt": "pub/face/UNet.pt"}),
        ("hw2_3.sh public", {"input.json": "pub/textual_inversion/input.json", "model.ckpt": "pub/model.ckpt"}),
        ("hw2_3.sh private", {"input.json": "priv/textual_inversion/input.json", "model.ckpt": "pub/model.ckpt"}),
    ]


def test_an_unknown_homework_is_told_the_known_ones():
    with pytest.raises(GradingError, match="there is no homework fall1999; expected one of fall2024"):
        chosen_homework("fall1999")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"problem_1": {"strongest": 5}}, "points.problem_1 has strongest; expected simple or strong"),
        ({"problem_2": {"whole": 5}}, "points.problem_2 has whole; expected private or public"),
        ({"problem_9": {}}, "points has problem_9"),
    ],
)
def test_points_for_what_is_not_there_are_refused(changes, said):
    with pytest.raises(GradingError, match=said):
        FALL2024.with_points(changes)


def test_changed_points_are_the_only_change():
    changed = FALL2024.with_points({"problem_3": {"private": 30.0}, "report": 5.0, "late_share_per_day": 0.5})
    assert changed.problem(3).points == {"public": 10, "private": 30}
    assert changed.problem(3).shares(Part.PRIVATE, ["a", "b", "c"]) == [10, 10, 10]
    assert changed.report == {1: 5, 2: 5, 3: 5}
    assert changed.late_share_per_day == 0.5
    assert changed.problem(1) == FALL2024.problem(1)
    assert changed.staff_fixed_share == FALL2024.staff_fixed_share
