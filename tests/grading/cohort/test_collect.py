"""A class of submissions that were graded one by one."""

import csv
import json
import os
import subprocess
from dataclasses import replace

import pytest

from grading.cohort.collect import collect_class
from grading.core.errors import GradingError
from grading.reports.roster import Student
from grading.submission.written import write_grade
from tests.commands import ROOT
from tests.grading.reported import submission_result


@pytest.fixture
def one(tmp_path):
    """Write the result of one submission into a folder."""

    def write(path, **changes):
        folder = tmp_path / path
        folder.mkdir(parents=True)
        write_grade(folder, replace(submission_result("as it was called"), **{"stages": [], **changes}))
        return folder

    return write


def scores(tmp_path):
    return list(csv.DictReader((tmp_path / "graded" / "scores.csv").read_text().splitlines()))


def test_what_a_job_array_made_becomes_a_class(tmp_path, one):
    for name in ("b02", "b01"):
        one(f"graded/students/{name}")
    results, notes = collect_class(tmp_path / "graded", roster=[Student("b01", "7")])
    assert [result.submission for result in results] == ["b01", "b02"]
    assert [note.message for note in notes] == ["1 folder not in the roster: b02."]
    assert [(row["submission"], row["student_id"], row["points"]) for row in scores(tmp_path)] == [
        ("b01", "7", "25.9"), ("b02", "", "25.9"),
    ]  # fmt: skip
    assert "students/b02/report.html" in (tmp_path / "graded" / "index.html").read_text()
    assert (tmp_path / "graded" / "scores_canvas.csv").exists()


def test_folders_from_elsewhere_are_linked_where_they_are(tmp_path, one):
    one("else where/b01")
    collect_class(tmp_path / "graded", [tmp_path / "else where" / "b01"])
    assert 'href="../else%20where/b01/report.html"' in (tmp_path / "graded" / "index.html").read_text()


def test_a_changed_result_could_not_be_checked(tmp_path, one):
    one("graded/students/b01")
    path = one("graded/students/b02") / "grade.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"points": 70.0}))
    (tmp_path / "graded" / "students" / "b03").mkdir()
    collect_class(tmp_path / "graded")
    first, second, third = scores(tmp_path)
    assert [float(row["points"]) for row in (first, second, third)] == [25.9, 0, 0]
    assert (second["status"], third["status"]) == ("error", "error")
    page = (tmp_path / "graded" / "index.html").read_text()
    assert "b02: grade.json is not as it was written: its digest does not match. Grade this submission again." in page
    assert "b03: grade.json is missing." in page


def test_what_is_no_class_is_refused(tmp_path, one):
    first, second = one("a/b01"), one("b/b01", homework="fall2025")
    other = one("b/b02", homework="fall2025")
    with pytest.raises(GradingError, match="two folders are called b01"):
        collect_class(tmp_path / "graded", [first, second])
    with pytest.raises(GradingError, match=r"of different homeworks \(fall2024, fall2025\)"):
        collect_class(tmp_path / "graded", [first, other])
    with pytest.raises(GradingError, match=r"has no grade\.json"):
        collect_class(tmp_path / "nothing")


def test_the_command_makes_the_files_and_its_status_says_what_is_open(tmp_path, one, hw2_grade):
    one("graded/students/b01", status="fail", unchecked=0.0)
    (tmp_path / "roster.csv").write_text("folder,student_id\nb01,7\n")
    run = hw2_grade("class", tmp_path / "graded", "--roster", tmp_path / "roster.csv")
    assert run.returncode == 0, run.stderr
    assert "1 submission graded, 0 with full points." in run.stdout
    assert (tmp_path / "graded" / "scores_canvas.csv").read_text().splitlines()[1] == ",,7,,25.9"
    (tmp_path / "roster.csv").write_text("a,b\n")
    assert hw2_grade("class", tmp_path / "graded", "--roster", tmp_path / "roster.csv").returncode == 2


@pytest.mark.parametrize(("verdict", "status"), [(0, 0), (1, 0), (2, 1)])
def test_a_task_of_the_job_array_grades_its_submission(tmp_path, verdict, status):
    for name in ("b01", "b 02"):
        (tmp_path / "subs" / name).mkdir(parents=True)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    program = tmp_path / ".venv" / "bin" / "hw2-grade"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > called\nexit {verdict}\n')
    program.chmod(0o755)
    script = ROOT / "docs" / "slurm" / "class.sbatch"
    variables = os.environ | {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_ARRAY_TASK_ID": "1", "LC_ALL": "C"}
    ended = subprocess.run(["bash", script, "subs", "hw2.toml", "graded"], env=variables)
    assert ended.returncode == status
    assert (tmp_path / "called").read_text().splitlines() == [
        "submission", "subs/b 02", "--assignment", "hw2.toml", "--output", "graded/students/b 02",
    ]  # fmt: skip
    assert len(script.read_text().splitlines()) == 12
