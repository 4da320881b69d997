"""Every report says who judged and whether time limits were changed."""

import json
from dataclasses import replace

import pytest

from grading.core.results import Judge
from grading.homeworks.fall2024 import FALL2024
from grading.reports.class_page import class_page
from grading.reports.conditions import conditions, judged_by
from grading.reports.gradescope import gradescope_results
from grading.reports.submission_page import student_page, submission_page
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
