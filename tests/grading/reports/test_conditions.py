"""Every report says who judged and whether time limits were changed."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from grading.core.results import Judge
from grading.homeworks.fall2024 import FALL2024
from grading.reports.class_page import class_page
from grading.reports.conditions import EMBEDDED as BANNER
from grading.reports.conditions import conditions, judged_by, line_judges
from grading.reports.gradescope import gradescope_results
from grading.reports.submission_page import student_page, submission_page
from grading.reports.terminal import submission_table
from tests.grading.reported import submission_result

EMBEDDED = "judged by the embedded judges: scores are not the official ones"


def judge(name, kind):
    return Judge(name, kind, "file", "ab" * 32)


@pytest.mark.parametrize(
    ("judges", "said"),
    [
        ([], ""),
        ([judge("mnistm", "official"), judge("clip", "official")], "judged by the official judges"),
        ([judge("mnistm", "embedded"), judge("svhn", "embedded")], EMBEDDED),
        (
            [judge("mnistm", "official"), judge("clip", "embedded"), judge("clip", "embedded")],
            "judged by mnistm (official), clip (embedded): scores are not the official ones",
        ),
        ([judge("clip", "custom")], "judged by clip (custom): scores are not the official ones"),
    ],
)
def test_who_judged_is_said_and_a_mixture_is_named(judges, said):
    assert judged_by(judges) == said


def scaled(scale):
    result = submission_result()
    return replace(result, record={**result.record, "time_scale": scale})


@pytest.mark.parametrize(("scale", "said"), [(1.0, EMBEDDED), (2.0, f"{EMBEDDED}; time limits x 2")])
def test_every_page_and_results_json_say_the_conditions(scale, said):
    result = scaled(scale)
    shown = f"J{said[1:]}."
    assert conditions(result) == said
    for page in (submission_page, student_page):
        assert shown in page(result, {}, FALL2024)
    assert shown in class_page([submission_result(), result], FALL2024)
    found = gradescope_results(result)
    assert found["extra_data"]["conditions"] == said
    assert shown in found["output"]


def test_a_class_under_two_time_scales_names_both():
    assert conditions(scaled(0.5), scaled(3.0), scaled(1.0)) == f"{EMBEDDED}; time limits x 0.5; time limits x 3"
    assert "time limits" not in json.dumps(gradescope_results(submission_result()))


def test_the_embedded_homework_is_announced_on_every_page_and_in_the_table():
    usual = replace(submission_result(), record={"embedded": False})
    embedded = replace(usual, record={"embedded": True})
    for said, other in (
        (student_page(embedded, {}, FALL2024), student_page(usual, {}, FALL2024)),
        (submission_page(embedded, {}, FALL2024), submission_page(usual, {}, FALL2024)),
        (class_page([usual, embedded], FALL2024), class_page([usual, submission_result()], FALL2024)),
        (printed(embedded), printed(usual)),
    ):
        assert BANNER in said
        assert BANNER not in other


def printed(result):
    text = io.StringIO()
    Console(file=text, width=200).print(submission_table(result))
    return text.getvalue()


def test_a_judge_that_is_not_official_stands_beside_each_score_that_it_gave():
    result = submission_result()
    judges = {line.name: line_judges(result, line) for line in result.lines}
    assert judges["1 simple"] == judges["1 strong"] == "embedded judge"
    assert judges["2 public"] == judges["report 1"] == judges["late"] == ""
    official = replace(result.results[0], judges=[replace(each, kind="official") for each in result.results[0].judges])
    mixed = replace(official, judges=[official.judges[0], *result.results[0].judges[1:]])
    assert line_judges(replace(result, results=[official]), result.lines[0]) == ""
    assert line_judges(replace(result, results=[mixed]), result.lines[0]) == "embedded judge"
    badges = submission_page(result, {}, FALL2024).count('<span class="badge warning">embedded judge</span>')
    assert badges == sum(map(bool, judges.values())) > 2
