"""What a student does first, and what stands under a failed line."""

import re
from dataclasses import replace

import pytest

from grading.core.results import Cause, Part
from grading.homeworks.fall2024 import FALL2024
from grading.reports.first_step import first_step, shown_logs
from grading.reports.submission_page import student_page, submission_page
from grading.reports.todo import for_students
from tests.grading.reported import (
    WITHOUT_POINTS,
    concepts_result,
    digits_result,
    faces_result,
    regraded,
    submission_result,
    without_private,
)

RESULT = without_private(submission_result())
STOPPED = "hw2_3.sh ended with exit status 1; its last line is: no weights."


def with_stage(result, name, **changes):
    return replace(result, stages=[replace(s, **changes) if s.stage == name else s for s in result.stages])


def test_the_stage_that_costs_most_comes_first_with_its_sum():
    lost = sum(line.max_points for line in RESULT.lines if line.problem == 3 and line.status == "fail")
    missed = max(line.max_points for line in RESULT.lines if line.problem == 1 and line.status == "fail")
    assert lost == missed == 5  # as much as a baseline that was missed
    found = first_step(RESULT)
    assert (found.message, found.lost) == (STOPPED, f"This costs {lost:g} points.")


def test_a_stage_before_the_scripts_comes_before_what_follows_from_it():
    result = with_stage(RESULT, "fetch", status="fail", message="hw2_download_ckpt.sh failed.")
    assert first_step(result).message == "hw2_download_ckpt.sh failed."


def test_where_all_scripts_ran_the_line_that_costs_most_speaks_for_itself():
    found = first_step(with_stage(RESULT, "hw2_3.sh public", status="pass"))
    failed = [line for line in RESULT.lines if line.kind == "score" and line.status == "fail"]
    dearest = max(failed, key=lambda line: line.max_points)
    assert found.message == f"{dearest.title}: {dearest.message}"


@pytest.mark.parametrize("accuracy", [0.7, 0.0])
def test_two_lines_that_one_cause_fails_count_together(accuracy):
    """15 points of digits that are misread come before 10 of faces, although no line of them costs more than 10."""
    results = [FALL2024.problem(1).result(digits_result(accuracy, accuracy))]
    results.append(FALL2024.problem(2).result(faces_result(676.0), Part.PUBLIC))
    stages = [stage for stage in RESULT.stages if stage.problem != 3]
    result = regraded(replace(RESULT, stages=stages), results)
    assert [line.points for line in result.lines if line.problem in (1, 2) and line.kind == "score"] == [0, 0, 0]
    found = first_step(result)
    assert found.lost == "This costs 15 points."
    assert found.message.startswith("Problem 1, simple baseline: The mean accuracy is ")


def test_two_prompts_that_are_missed_do_not_count_together():
    results = [FALL2024.problem(3).result(concepts_result((60.0, 30.0), (61.0, 30.0)), Part.PUBLIC)]
    stages = [stage for stage in RESULT.stages if stage.status == "pass"]
    assert first_step(regraded(replace(RESULT, stages=stages), results)).lost == "This costs 5 points."


def test_without_points_there_is_a_first_step_too_and_it_costs_nothing():
    result = submission_result(homework=WITHOUT_POINTS)
    found = first_step(result)
    assert found.message in [stage.message for stage in result.stages if stage.status == "fail"]
    assert found.lost == ""


def test_nothing_failed_nothing_to_do():
    lines = [line for line in RESULT.lines if line.status != "fail"]
    assert first_step(replace(RESULT, lines=lines)) is None


def test_each_log_stands_under_the_first_failed_line_of_its_script():
    logs = {name: [stage.stage for stage in stages] for name, stages in shown_logs(RESULT).items()}
    third = [line.name for line in RESULT.lines if line.problem == 3 and line.status == "fail"]
    assert logs[third[0]] == ["hw2_3.sh public"]
    assert all(logs[name] == [] for name in third[1:])
    assert not any(line.name in logs for line in RESULT.lines if line.status == "pass")


def test_the_students_page_begins_with_it_and_shows_the_log_once_under_the_line():
    page = student_page(RESULT, {}, FALL2024)
    assert page.index("Do this first.") < page.index('id="score"') < page.index("MemoryError") < page.index('id="runs"')
    assert page.count("MemoryError") == 1
    assert "Do this first." not in submission_page(RESULT, {}, FALL2024)


def test_a_cause_is_told_to_the_student_whose_it_is_and_the_machines_is_not():
    cause = Cause("submission", "links", "weights.pt", "weights.pt could not be downloaded: status 404.", "STAFF DO IT")
    own = student_page(with_stage(RESULT, "hw2_3.sh public", cause=cause), {}, FALL2024)
    score = own[own.index('id="score"') : own.index('id="problem_1"')]
    assert cause.evidence in score
    assert cause.evidence in own[: own.index('id="score"')]
    assert "STAFF DO IT" not in own
    machine = replace(cause, whose="machine")
    result = for_students(with_stage(RESULT, "hw2_3.sh public", cause=machine))
    assert all(stage.cause is None for stage in result.stages)
    assert not re.search("404|STAFF", student_page(with_stage(RESULT, "hw2_3.sh public", cause=machine), {}, FALL2024))
