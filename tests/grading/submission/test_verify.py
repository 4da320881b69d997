"""Staff can check what a grading wrote, without grading again."""

import shutil
from dataclasses import replace

import pytest

from grading.core.errors import GradingError
from grading.submission.grader import Grader
from grading.submission.verify import changes_of, graded_folders
from tests.grading.submission.test_submission import assignment, course, student

__all__ = ["assignment", "course", "student"]  # fixtures


def test_the_command_says_what_was_changed_in_a_class(tmp_path, assignment, student, hw2_grade):
    students = tmp_path / "class" / "students"
    Grader(replace(assignment, problems="2")).grade(student, students / "b01")
    for name in ("b02", "b03", "b04"):
        shutil.copytree(students / "b01", students / name)
    run = hw2_grade("verify", students / "b01")
    assert (run.returncode, run.stdout) == (0, "All is as it was written: 1 submission.\n")
    (students / "b02" / "outputs" / "problem_2_public" / "01.png").write_bytes(b"better")
    grade = students / "b03" / "grade.json"
    grade.write_bytes(grade.read_bytes().replace(b'"points": 10', b'"points": 35'))
    (students / "b04" / "grade.json").unlink()
    assert [list(changes_of(students / f"b0{number}")) for number in range(1, 5)] == [
        [],
        ["b02: the outputs of hw2_2.sh public have been changed since they were made (1 file changed: 01.png)."],
        ["b03: grade.json is not as it was written: its digest does not match."],
        ["b04: grade.json is missing."],
    ]
    run = hw2_grade("verify", tmp_path / "class")
    assert run.returncode == 1
    assert [line.split(":")[0] for line in run.stdout.splitlines()[:3]] == ["b02", "b03", "b04"]
    with pytest.raises(GradingError, match=r"has no grade\.json; expected the output of a grading"):
        graded_folders(tmp_path)


def test_a_result_of_another_version_cannot_be_checked(tmp_path):
    (tmp_path / "grade.json").write_text("{}")
    with pytest.raises(GradingError, match="was not written by this version"):
        list(changes_of(graded_folders(tmp_path)[0]))
