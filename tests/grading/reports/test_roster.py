"""Rosters as schools and sites write them, and the scores that go back to the course's site."""

import csv
import io
from dataclasses import replace

import pytest

from grading.core.errors import GradingError
from grading.homeworks.fall2024 import FALL2024
from grading.reports.canvas_csv import canvas_csv
from grading.reports.roster import Student, match_students, read_roster
from grading.reports.scores_csv import scores_csv
from tests.grading.reported import WITHOUT_POINTS, submission_result


@pytest.fixture
def roster(tmp_path):
    def read(text, encoding="utf-8"):
        (tmp_path / "roster.csv").write_text(text, encoding=encoding)
        return read_roster(tmp_path / "roster.csv")

    return read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("folder,student_id\na,b01\n", Student("a", "b01")),
        ("Submission;Student ID\r\na;b01\r\n", Student("a", "b01")),
        ("identifier,github_username,github_id,name\nb01,a,77,Ann\n", Student("a", "b01", "Ann")),
        (
            "Student,ID,SIS Login ID,Section,GitHub username\n    Points Possible,,,,\nAnn,1234,b01,1,a\n",
            Student("a", "b01", "Ann", "1234", "1"),
        ),
        ("id\tFolder\nb01\ta\n", Student("a", "b01")),
        ("\ufeff學號,姓名,repo\nb01,安,a\n\n", Student("a", "b01", "安")),
    ],
)
def test_headers_of_several_sites_are_understood(roster, text, expected):
    assert roster(text) == [expected]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "roster.csv is empty"),
        ("name,mail\nAnn,a@x\n", "has name, mail; expected a CSV with a column for the folder"),
        ("folder,student_id\na,\n", "line 2, names no student"),
        ("folder,student_id\nAnn,1\nann,2\n", "names the folder ann twice"),
        ("folder,student_id\na,1\nb,1\n", "names the student 1 twice"),
        ('folder,student_id\n"a,1\n', "is not a CSV file in UTF-8"),
    ],
)
def test_what_is_no_roster_is_refused_in_one_sentence(roster, text, said):
    with pytest.raises(GradingError, match=said) as error:
        roster(text)
    assert error.value.option == "roster"


def test_the_prefix_of_github_classroom_is_left_out():
    students = [Student("octocat", "b01"), Student("Mary-Ann", "b02"), Student("ann", "b03"), Student("", "b04")]
    found, notes = match_students(students, ["hw2-octocat", "hw2-mary-ann", "hw2-zoe"])
    assert {name: student.id for name, student in found.items()} == {"hw2-octocat": "b01", "hw2-mary-ann": "b02"}
    assert [note.message for note in notes] == [
        "1 folder not in the roster: hw2-zoe.", "2 students without a folder: b03, b04.",
    ]  # fmt: skip
    whole, notes = match_students(students[:2], ["octocat", "Mary-Ann"])
    assert (len(whole), notes) == (2, [])
    assert match_students([], ["octocat"]) == ({}, [])


def test_two_folders_of_one_student_are_refused():
    with pytest.raises(GradingError, match="two folders are those of b01"):
        match_students([Student("ann", "b01")], ["ann", "Ann"])


def test_canvas_gets_complete_scores_alone_and_no_formula():
    whole = replace(submission_result("hw2-ann"), status="fail", points=41.25, unchecked=0.0)
    students = {
        "hw2-ann": Student("ann", "b01", "=Ann", "1234", "@1"),
        "hw2-bob": Student("bob", "b02", "Bob"),
    }
    results = [whole, submission_result("hw2-bob"), submission_result("hw2-stranger")]
    assert list(csv.reader(io.StringIO(canvas_csv(results, students, FALL2024)))) == [
        ["Student", "ID", "SIS Login ID", "Section", "DLCV Fall 2024, homework 2"],
        ["'=Ann", "1234", "b01", "'@1", "41.25"],
        ["Bob", "", "b02", "", ""],
    ]
    unknown = replace(submission_result("hw2-ann", WITHOUT_POINTS), status="fail")
    assert canvas_csv([unknown], students, WITHOUT_POINTS).endswith("'@1,\n")


def test_the_table_of_scores_has_the_ids_of_the_roster():
    students = {"r1": Student("r1", "b01")}
    rows = list(csv.DictReader(io.StringIO(scores_csv([submission_result("r1"), submission_result("r2")], students))))
    assert [row["student_id"] for row in rows] == ["b01", ""]
    assert "student_id" not in scores_csv([submission_result("r1")])
