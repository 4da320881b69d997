from dataclasses import replace
from xml.etree import ElementTree

import pytest

from grading.reports.junit import junit_xml
from grading.reports.visibility import NO_POINTS, public_part
from tests.grading.reported import WITHOUT_POINTS, hostile_result, submission_result


def parsed(result):
    return ElementTree.fromstring(junit_xml(result).encode())  # expat: refuses what XML 1.0 does not have


def outcomes(root):
    found = {}
    for case in root.iter("testcase"):
        kinds = [child.tag for child in case if child.tag != "system-out"]
        assert len(kinds) <= 1
        found[case.get("name")] = kinds[0] if kinds else "passed"
    return found


def test_each_line_is_a_test_case_with_its_outcome():
    assert outcomes(parsed(submission_result())) == {
        "1 simple": "passed", "1 strong": "failure", "2 public": "passed", "2 private": "failure",
        "3 public 0/0": "passed", "3 public 0/1": "failure", "3 private": "error", "report 1": "passed",
        "late": "skipped", "hw2_1.sh mnistm repeated": "skipped",
    }  # fmt: skip


def test_each_problem_is_a_suite_and_counts_its_own():
    root = parsed(submission_result())
    assert [suite.get("name") for suite in root] == [
        "Problem 1", "Problem 2", "Problem 3", "Staff", "Warnings for staff",
    ]  # fmt: skip
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.get("tests")) == len(cases)
        for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(key)) == sum(case.find(tag) is not None for case in cases)
    assert [root.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["10", "3", "1", "2"]


def test_suites_take_the_time_of_their_scripts_and_the_whole_of_all():
    root = parsed(submission_result())
    assert [suite.get("time") for suite in root] == ["412.250", "396.000", "12.000", "0.000", "0.000"]
    assert root.get("time") == f"{61.5 + 412.25 + 96 + 300 + 12:.3f}"


def test_a_failure_says_points_sentence_and_last_words():
    (line,) = [line for line in submission_result().lines if line.name == "3 public 0/1"]
    failure = parsed(submission_result()).find(".//testcase[@name='3 public 0/1']/failure")
    assert failure.get("message") == f"0 of 5 points. {line.message}"
    assert failure.text.endswith("MemoryError")


def test_what_could_not_be_checked_is_an_error_and_no_zero():
    error = parsed(submission_result()).find(".//testcase[@name='3 private']/error")
    assert error.get("message").startswith("? of 10 points")


def test_hostile_text_stays_text():
    written = junit_xml(hostile_result())
    root = ElementTree.fromstring(written.encode())
    known = {"testsuites", "testsuite", "testcase", "failure", "error", "skipped", "system-out"}
    assert {element.tag for element in root.iter()} == known
    assert "<script>document.title" in root.find(".//failure").get("message")
    logs = [element.text for element in root.iter("failure") if element.text]
    assert logs
    assert all("]]>" in log and "\\x1b[31m" in log for log in logs)
    assert "\\udcff" in root.get("name")


@pytest.mark.parametrize("code", [0, 1, 8, 0xB, 0x1B, 0x1F, 0x7F, 0xD800, 0xDFFF, 0xFFFE, 0xFFFF, 0x202E])
def test_characters_that_xml_does_not_have_are_spelled_out(code):
    lines = [replace(submission_result().lines[1], message=f"a{chr(code)}b")]
    message = parsed(replace(submission_result(), lines=lines)).find(".//failure").get("message")
    assert message.startswith("0 of 5 points. a\\")
    assert message.endswith("b")


def test_the_public_part_tells_nothing_private():
    assert "PRIVATE" in junit_xml(submission_result())
    assert "PRIVATE" not in junit_xml(public_part(submission_result()))


def test_a_result_without_lines_is_a_document_too():
    root = parsed(replace(submission_result(), lines=[], stages=[], warnings=[]))
    assert root.get("tests") == "0"


def test_without_points_every_case_keeps_its_outcome_and_says_none():
    root = parsed(submission_result(homework=WITHOUT_POINTS))
    found, usual = outcomes(root), outcomes(parsed(submission_result()))
    assert found == {name: kind for name, kind in usual.items() if name not in ("report 1", "late")}
    assert root.find("properties/property").get("value") == NO_POINTS
    assert parsed(submission_result()).find("properties") is None
    said = [reason.get("message") for kind in ("failure", "error") for reason in root.iter(kind)]
    assert len(said) == 4
    assert not any("points" in sentence for sentence in said)
