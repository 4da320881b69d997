"""Whatever the reports print: numbers agree with their nouns, and totals with their lines."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import grading.reports
from grading.core.results import Check, Part
from grading.homeworks.fall2024 import FALL2024
from grading.points.lines import total, verdict
from grading.points.staff import StaffEntry
from grading.reports.class_page import class_page
from grading.reports.scores_csv import scores_csv
from grading.reports.write import REPORTS, write_reports
from tests.grading.reported import (
    WITHOUT_POINTS,
    concepts_result,
    faces_result,
    hostile_result,
    pictures_of,
    regraded,
    submission_result,
    without_private,
)
from tests.grading.reports.test_terminal import printed

NOUNS = "day|file|image|picture|prompt|point|submission|warning|check|score|reason|class|line|problem"
ONE_OF_MANY = re.compile(rf"(?<![\d.,/:-])1 (more )?({NOUNS}|classe)s\b")
MANY_OF_ONE = re.compile(rf"(?<![\d.,/:-])(0|[2-9]|\d\d+) (more )?({NOUNS})\b(?! \d)")


def texts(results, homework):
    """Everything that reports print of a class."""
    yield re.sub(r"<[^>]+>", "", class_page(results, homework))
    yield scores_csv(results)
    for result in results:
        for name, text_of in REPORTS.items():
            page = text_of(result, {}, homework)
            yield page
            yield re.sub(r"<[^>]+>", "", page) if name.endswith("html") else ""
        yield printed(result)
        yield from map(printed, result.results)


def disagreements(text):
    return [match[0] for pattern in (ONE_OF_MANY, MANY_OF_ONE) for match in pattern.finditer(text)]


def test_the_scan_finds_what_it_looks_for():
    assert disagreements("1 days and 1 more files") == ["1 days", "1 more files"]
    assert disagreements("2 day, 0 image") == ["2 day", "0 image"]
    assert disagreements("1 day, 2 days, 0.1 points, 11 points, Problem 1 lines, 3 prompt 0/1") == ["1 lines"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    images=st.integers(1, 2),
    prompts=st.integers(1, 2),
    warnings=st.integers(0, 2),
    checks=st.integers(5, 8),
    refused=st.integers(4, 7),
    students=st.integers(0, 2),
    late=st.integers(0, 2),
    report=st.sampled_from([0.0, 1.0, 2.0]),
    homework=st.sampled_from([FALL2024, WITHOUT_POINTS]),
)
def test_numbers_agree_with_their_nouns(images, prompts, warnings, checks, refused, students, late, report, homework):
    _, faces, concepts = homework.problems
    digits = submission_result(homework=homework).results[0]
    results = [
        replace(digits, checks=[Check("a", "fail", "A check.")] * checks),
        faces.result(faces_result(*[400.0] * images), Part.PUBLIC),
        concepts.result(concepts_result(*[(70.0, 30.0)] * prompts), Part.PUBLIC),
    ]
    staff = StaffEntry({1: report}, late, staff_fixed=True) if homework is FALL2024 else StaffEntry()
    result = regraded(submission_result(homework=homework), results, homework, staff)
    result = replace(
        result,
        warnings=[Check("w", "warning", "A warning.")] * warnings,
        stages=[replace(result.stages[0], refused=["A pipe was left out."] * refused), *result.stages[1:]],
    )
    found = [each for text in texts([result] * students, homework) for each in disagreements(text)]
    assert found == []


@pytest.mark.parametrize("result", [submission_result(), without_private(submission_result()), hostile_result()])
def test_the_totals_of_a_reported_result_are_those_of_its_lines(result):
    assert (result.points, result.max_points, result.unchecked) == total(result.lines)
    assert result.status == verdict(result.lines)
    most = sum(line.max_points for line in result.lines)
    known = sum(line.points for line in result.lines if line.points is not None)
    assert (result.points, result.max_points) == (pytest.approx(known), pytest.approx(most))


def test_the_reported_result_is_what_the_rules_give():
    # 10 + 10 + 5 + 12 points, less 30 %, of 15 + 20 + 20 + 15
    result = submission_result()
    assert (result.points, result.max_points, result.unchecked) == (pytest.approx(0.7 * 37), 70, 10)


def test_every_report_of_the_table_is_written(tmp_path):
    result = submission_result()
    write_reports(result, tmp_path, pictures_of(result), FALL2024)
    assert {path.name for path in tmp_path.iterdir()} == set(REPORTS)
    assert set(REPORTS) == {"report.html", "student.html", "results.json", "junit.xml"}
    assert "PRIVATE" in (tmp_path / "report.html").read_text()
    assert "PRIVATE" not in (tmp_path / "student.html").read_text()


def test_a_report_can_be_added_by_a_row(tmp_path, monkeypatch):
    monkeypatch.setitem(REPORTS, "lines.txt", lambda result, pictures, homework: f"{homework.title} {len(pictures)}")
    result = submission_result()
    write_reports(result, tmp_path, pictures_of(result), FALL2024)
    assert (tmp_path / "lines.txt").read_text() == "DLCV Fall 2024, homework 2 24"


def test_reports_name_no_problem_and_take_no_name_apart():
    (root,) = grading.reports.__path__
    for path in [*Path(root).glob("*.py"), *Path(root).glob("templates/*.html")]:
        text = path.read_text()
        assert not re.search(r"\b(digits?|faces?|concepts?|mnist\w*|svhn|zero_shot|prompts?)\b", text, re.I), path.name
        assert not re.search(r"name\[|name\.(split|partition|startswith|endswith)|\.stage\.", text), path.name
