"""Points that staff give to a homework of their own."""

import pytest

from grading.core.results import Part
from grading.homeworks.fall2024 import FALL2024
from grading.homeworks.fall2025 import FALL2025
from grading.points.explain import explanations


@pytest.mark.parametrize("homework", [FALL2024, FALL2025])
def test_points_of_one_part_leave_those_of_the_other(homework):
    before = homework.problem(2)
    after = homework.with_points({"problem_2": {"public": 7.0}}).problem(2)
    assert after.shares(Part.PUBLIC, [""]) == [7.0]
    assert after.shares(Part.PRIVATE, [""]) == before.shares(Part.PRIVATE, [""])


def test_a_homework_with_points_in_some_places_can_be_explained():
    some = FALL2025.with_points({"problem_1": {"accuracy": 15.0}, "problem_2": {"public": 7.0}})
    assert some.has_points
    assert any(each.text.startswith("Gives 7 points") for each in explanations(some))
