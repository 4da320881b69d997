import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from grading.core.errors import GradingError
from grading.homeworks.fall2024 import FALL2024
from grading.points.staff import StaffEntry, read_staff_file
from tests.grading.reported import WITHOUT_POINTS


def test_staff_files_are_read(tmp_path):
    path = tmp_path / "staff.csv"
    path.write_text("submission,report_1,late_days,staff_fixed\nb01,12.5,1,yes\nb02,,,\n", encoding="utf-8-sig")
    assert read_staff_file(path, FALL2024) == {"b01": StaffEntry({1: 12.5}, 1, True), "b02": StaffEntry()}


COLUMNS = "submission, report_1, report_2, report_3, settled_1, settled_2, settled_3, late_days, staff_fixed"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("submission,report_1\nb01,15.5\n", "staff.csv, line 2, has report_1 15.5; expected a number from 0 to 15"),
        ("submission,report_1\nb01,nan\n", "staff.csv, line 2, has report_1 nan; expected a number from 0 to 15"),
        ("submission,late_days\nb01,1.5\n", "staff.csv, line 2, has late_days 1.5; expected whole days"),
        ("submission,late_days\nb01,-1\n", "staff.csv, line 2, has late_days -1; expected a number from 0 to 1000"),
        ("submission,late_days\nb01,1001\n", "staff.csv, line 2, has late_days 1001; expected a number from 0 to 1000"),
        ("submission,late_days\nb01,two\n", "staff.csv, line 2, has late_days two; expected a number from 0 to 1000"),
        ("submission,staff_fixed\nb01,maybe\n", "staff.csv, line 2, has staff_fixed maybe; expected yes or no"),
        ("submission,grade\nb01,1\n", f"staff.csv has a column grade; expected some of {COLUMNS}"),
        ("report_1\n1\n", "staff.csv, line 2, names no submission"),
        ("submission\nb01\nb01\n", "staff.csv, line 3, names b01 a second time"),
        ("submission\nb01,2\n", f"staff.csv has a column None; expected some of {COLUMNS}"),
        ("submission\nJos\u00e9\nJose\u0301 \n", "staff.csv, line 3, names Jos\u00e9 a second time"),
        ("submission\n  \n", "staff.csv, line 2, names no submission"),
        ("submission,settled_1\nb01,15.5\n", "staff.csv, line 2, has settled_1 15.5; expected a number from 0 to 15"),
        ("submission,settled_2\nb01,-1\n", "staff.csv, line 2, has settled_2 -1; expected a number from 0 to 20"),
        ("submission,settled_4\nb01,1\n", f"staff.csv has a column settled_4; expected some of {COLUMNS}"),
        (
            'submission,report_1\n"b01,1\n',
            f"staff.csv is not a CSV file (unexpected end of data); expected the columns {COLUMNS}",
        ),
        ("", f"staff.csv is empty; download it again; expected a CSV with the columns {COLUMNS}"),
    ],
)
def test_staff_files_with_mistakes_are_refused(tmp_path, monkeypatch, content, said):
    monkeypatch.chdir(tmp_path)
    Path("staff.csv").write_text(content)
    with pytest.raises(GradingError) as refusal:
        read_staff_file(Path("staff.csv"), FALL2024)
    assert str(refusal.value) == said


def test_the_sentence_on_a_staff_file_that_cannot_be_read_names_its_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GradingError) as refusal:
        read_staff_file(Path("staff.csv"), FALL2024)
    assert str(refusal.value) == f"staff.csv is not a file; expected a CSV with the columns {COLUMNS}"


@pytest.mark.parametrize(("cell", "fixed"), [("yes", True), (" YES ", True), ("no", False), ("", False)])
def test_whether_staff_fixed_the_code_is_read_in_any_case(tmp_path, cell, fixed):
    (tmp_path / "staff.csv").write_text(f"submission,staff_fixed\nb01,{cell}\n")
    assert read_staff_file(tmp_path / "staff.csv", FALL2024)["b01"].staff_fixed is fixed


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


def test_a_compressed_file_is_known_by_its_name_or_by_its_content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, said in (("staff.csv", "staff.csv is compressed with gzip; unpack it"), ("staff.csv.gz", "is not a CSV")):
        Path(name).write_bytes(gzip.compress(b"submission\nb01\n"))
        with pytest.raises(GradingError, match=said):
            read_staff_file(Path(name), FALL2024)
