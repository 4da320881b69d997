"""What staff can do about a class, and what students are told of it."""

import csv
import io
import json
from dataclasses import replace

import pytest

from grading.core.results import Cause, Check, Part, StageResult, SubmissionResult
from grading.homeworks.fall2024 import DIGITS, FACES, FALL2024
from grading.points.staff import StaffEntry
from grading.reports.class_page import class_page
from grading.reports.gradescope import gradescope_json
from grading.reports.scores_csv import scores_csv
from grading.reports.submission_page import student_page, submission_page
from grading.reports.todo import FOR_STUDENTS, staff_tasks
from tests.grading.reported import HOSTILE, regraded, stage_results, submission_result

PACKAGE = Cause(
    "machine", "package", "omegaconf", "STAFF-EVIDENCE: /staff/env has no omegaconf.", "add it to STAFF-ENVIRONMENT"
)
GPU = Cause("machine", "gpu", "a GPU", "STAFF-EVIDENCE: there is no device.", "")


def blocked(name, cause, message="STAFF-MESSAGE", staff=None) -> SubmissionResult:
    """Problem 1 could not be run because of the machine; the rest was graded."""
    stages = [
        replace(stage, status="error", message=message, cause=cause) if stage.problem == 1 else stage
        for stage in stage_results()
        if stage.status != "error"
    ]
    results = [
        DIGITS.unchecked(Part.WHOLE, Check("run", "error", message)),
        *submission_result().results[1:3],
    ]
    return regraded(replace(submission_result(name), stages=stages), results, staff=staff or StaffEntry())


def sentences(*results):
    return [task.sentence for task in staff_tasks(results)]


def test_submissions_with_one_remedy_are_one_task_whatever_their_messages_and_the_largest_is_first():
    results = [blocked("g1", GPU), *(blocked(f"p{i}", PACKAGE, f"message {i}") for i in range(3))]
    tasks = staff_tasks(results)
    assert [task.sentence for task in tasks] == [
        "3 submissions need omegaconf: add it to STAFF-ENVIRONMENT; nothing else is graded anew.",
        "1 submission needs a GPU: run the same command again; nothing else is graded anew.",
    ]
    assert tasks[0].submissions == ("p0", "p1", "p2")


@pytest.mark.parametrize("other", [{"rule": "x"}, {"subject": "x"}, {"remedy": "x"}])
def test_another_rule_subject_or_remedy_is_another_task(other):
    assert len(sentences(blocked("a", PACKAGE), blocked("b", replace(PACKAGE, **other)))) == 2


def test_a_submission_waits_once_for_each_remedy():
    result = blocked("a", PACKAGE)
    again = replace(result.stages[3], stage="hw2_2.sh public", problem=2, message="another message")
    (task,) = staff_tasks([replace(result, stages=[*result.stages, again])])
    assert task.submissions == ("a",)


def test_stages_that_did_not_run_because_of_another_make_no_task_of_their_own():
    message = "The host cannot be reached."
    cause = Cause("machine", "network", "drive.google.com", "", "connect this machine")
    stages = [
        StageResult("fetch", "error", message, cause=cause),
        StageResult("hw2_2.sh public", "error", message, kind="script", problem=2, part=Part.PUBLIC),
    ]
    results = [FACES.unchecked(Part.PUBLIC, Check("run", "error", message))]
    result = regraded(replace(submission_result(), stages=stages), results)
    assert sentences(result) == [
        "1 submission needs drive.google.com: connect this machine; nothing else is graded anew."
    ]


def test_failures_of_the_grader_are_tasks_with_their_message():
    dead = SubmissionResult("dead", "error", 0, 0, 0, warnings=[Check("grading", "error", "3 workers died.")])
    unscored = regraded(
        replace(submission_result(), stages=stage_results()[:-1]),
        [FACES.unchecked(Part.PUBLIC, Check("score", "error", "The grader could not check this: a judge is missing."))],
    )
    assert sentences(dead, unscored) == [
        "1 submission could not be checked: 3 workers died.",
        "1 submission could not be checked: a judge is missing.",
    ]


def test_whose_failure_is_the_submissions_own_is_no_remedy():
    own = replace(PACKAGE, whose="submission")
    assert sentences(blocked("a", own, "Odd.")) == ["1 submission could not be checked: Odd."]


def test_what_staff_settled_is_no_task_any_more():
    assert sentences(blocked("a", PACKAGE, staff=StaffEntry(settled={1: 7.5}))) == []
    assert sentences(blocked("a", PACKAGE, staff=StaffEntry(settled={2: 7.5}))) != []


def test_what_staff_settled_is_no_task_though_another_part_is_open():
    result = blocked("a", PACKAGE)
    results = [*result.results[:1], FACES.unchecked(Part.PUBLIC, Check("score", "error", "A judge is missing."))]
    assert sentences(regraded(result, results, staff=StaffEntry(settled={1: 7.5}))) == [
        "1 submission could not be checked: A judge is missing."
    ]


def test_a_failed_stage_that_costs_no_line_its_check_is_no_task():
    result = regraded(replace(submission_result(), stages=[]), submission_result().results[:3])
    again = StageResult("hw2_1.sh twice", "error", "The runs could not be compared.", kind="repeat", problem=1)
    assert sentences(replace(result, stages=[again])) == []


def test_a_class_without_errors_has_no_tasks():
    assert sentences(regraded(replace(submission_result(), stages=[]), submission_result().results[:3])) == []
    assert "not fully checked" not in class_page([], FALL2024)


def test_the_class_page_begins_with_what_to_do_and_names_the_submissions():
    page = class_page([blocked("p1", PACKAGE), blocked("p2", PACKAGE)], FALL2024)
    top = page.split("</header>")[0]
    assert "2 submissions need omegaconf: add it to STAFF-ENVIRONMENT; nothing else is graded anew." in top
    details = top.split("<details>")[1]
    assert 'href="students/p1/report.html"' in details
    assert 'href="students/p2/report.html"' in details


def test_the_table_says_why_in_a_column_that_is_no_formula():
    (checked, blocked_row) = csv.DictReader(
        io.StringIO(
            scores_csv(
                [
                    regraded(replace(submission_result(), stages=[]), submission_result().results[:2]),
                    blocked("b", replace(PACKAGE, evidence="=1+1")),
                ]
            )
        )
    )
    assert checked["could_not_check"] == ""
    assert blocked_row["could_not_check"] == "'=1+1"


def test_staff_see_evidence_and_remedy_at_the_stage_and_students_neither():
    result = blocked("a", PACKAGE)
    page = submission_page(result, {}, FALL2024)
    for said in (PACKAGE.evidence, PACKAGE.remedy, "STAFF-MESSAGE"):
        assert said in page
    for text in (student_page(result, {}, FALL2024), gradescope_json(result)):
        assert "STAFF" not in text
        assert FOR_STUDENTS in text


def test_students_are_told_of_settled_points_without_staffs_reasons():
    result = blocked("a", PACKAGE, staff=StaffEntry(settled={1: 7.5}))
    page = student_page(result, {}, FALL2024)
    assert "Staff settled this: 5 of 10 points; the grader could not check it: it could not be run." in page
    assert "STAFF" not in page


def test_a_cause_without_a_message_garbles_nothing():
    page = student_page(blocked("a", PACKAGE, message=""), {}, FALL2024)
    assert page.count(FOR_STUDENTS) == 0


def test_hostile_causes_cannot_break_the_pages():
    cause = Cause("machine", HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    result = blocked("a", cause, HOSTILE)
    for page in (class_page([result], FALL2024), submission_page(result, {}, FALL2024)):
        page.encode()
        assert "<script>" not in page
        assert "\x1b" not in page
    assert json.loads(gradescope_json(result))
