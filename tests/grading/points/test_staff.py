from dataclasses import replace

import pytest

from grading.core.errors import GradingError
from grading.homeworks.fall2024 import FALL2024
from grading.points.staff import StaffEntry, read_staff_file
from tests.grading.reported import WITHOUT_POINTS


def test_staff_files_are_read(tmp_path):
    path = tmp_path / "staff.csv"
    path.write_text("submission,report_1,late_days,staff_fixed\nb01,12.5,1,yes\nb02,,,\n", encoding="utf-8-sig")
    assert read_staff_file(path, FALL2024) == {"b01": StaffEntry({1: 12.5}, 1, True), "b02": StaffEntry()}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("submission,report_1\nb01,15.5\n", "line 2, has report_1 15.5; expected a number from 0 to 15"),
        ("submission,report_1\nb01,nan\n", "expected a number from 0 to 15"),
        ("submission,late_days\nb01,1.5\n", "late_days 1.5; expected whole days"),
        ("submission,late_days\nb01,-1\n", "expected a number from 0 to 1000"),
        ("submission,staff_fixed\nb01,maybe\n", "expected yes or no"),
        ("submission,grade\nb01,1\n", "has a column grade; expected some of submission"),
        ("report_1\n1\n", "line 2, names no submission"),
        ("submission\nb01\nb01\n", "line 3, names b01 a second time"),
        ("submission\nb01,2\n", "has a column None"),
        ("submission\nJos\u00e9\nJose\u0301 \n", "line 3, names Jos\u00e9 a second time"),
        ("submission\n  \n", "line 2, names no submission"),
        ("submission,settled_1\nb01,15.5\n", "line 2, has settled_1 15.5; expected a number from 0 to 15"),
        ("submission,settled_2\nb01,-1\n", "expected a number from 0 to 20"),
        ("submission,settled_4\nb01,1\n", "has a column settled_4"),
    ],
)
def test_staff_files_with_mistakes_are_refused(tmp_path, content, said):
    (tmp_path / "staff.csv").write_text(content)
    with pytest.raises(GradingError, match=said):
        read_staff_file(tmp_path / "staff.csv", FALL2024)


def test_points_that_settle_a_problem_are_read(tmp_path):
    (tmp_path / "staff.csv").write_text("submission,settled_1,settled_3\nb01,7.5,\n")
    assert read_staff_file(tmp_path / "staff.csv", FALL2024)["b01"].settled == {1: 7.5}


def test_a_problem_that_is_not_graded_now_may_be_settled(tmp_path):
    (tmp_path / "staff.csv").write_text("submission,settled_1,settled_2\nb01,7.5,20\n")
    faces = replace(FALL2024, problems=FALL2024.problems[1:2])
    assert read_staff_file(tmp_path / "staff.csv", faces)["b01"].settled == {1: 7.5, 2: 20.0}


def test_a_homework_without_points_has_no_report_to_enter(tmp_path):
    (tmp_path / "staff.csv").write_text("submission,report_1\nb01,1\n")
    with pytest.raises(GradingError, match="has a column report_1; expected some of submission, late_days"):
        read_staff_file(tmp_path / "staff.csv", WITHOUT_POINTS)
