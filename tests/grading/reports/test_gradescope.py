import json
from copy import deepcopy
from dataclasses import replace
from importlib.resources import files

import jsonschema
import pytest

from grading.core.results import Figure, Part, ScoreLine
from grading.reports.gradescope import gradescope_results
from grading.reports.visibility import NO_POINTS
from tests.grading.reported import WITHOUT_POINTS, hostile_result, submission_result, summed, without_private

SCHEMA = json.loads((files("grading.reports") / "schemas" / "gradescope.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def by_line(result):
    tests = gradescope_results(result)["tests"]
    return {test["extra_data"]["line"]: test for test in tests if "line" in test["extra_data"]}


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "result",
    [submission_result(), hostile_result(), submission_result(homework=WITHOUT_POINTS)],
    ids=["usual", "hostile", "without points"],
)
def test_results_fit_the_schema_as_the_json_that_is_written(result):
    written = json.dumps(gradescope_results(result), allow_nan=False)
    VALIDATOR.validate(json.loads(written))
    json.loads(written).__repr__().encode()  # no half surrogate pair, which other parsers refuse


def test_a_result_without_lines_fits_too():
    empty = replace(submission_result(), lines=[], stages=[], results=[], warnings=[])
    VALIDATOR.validate(gradescope_results(empty))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d["tests"][0].update(status="error"),
        lambda d: d["tests"][0].update(visibility="private"),
        lambda d: d["tests"][0].update(score="10"),
        lambda d: d["tests"][0].update(max_score=-1),
        lambda d: d["tests"][0].update(points=1),
        lambda d: d["tests"][0].update(number=1),
        lambda d: d["tests"][0].update(output=None),
        lambda d: d["tests"][0].update(output_format="markdown"),
        lambda d: d["tests"][0].pop("score"),
        lambda d: d["tests"][0].update(name=""),
        lambda d: d["leaderboard"][0].update(order="up"),
        lambda d: d["leaderboard"][0].pop("value"),
        lambda d: d.update(tests={}),
        lambda d: d.update(stdout_visibility="never"),
        lambda d: d.update(max_score=100),
        lambda d: d.update(execution_time=-1),
        lambda d: d.update(score=None),
        lambda d: d.pop("score"),
    ],
)
def test_the_schema_refuses_a_wrong_document(spoil):
    document = deepcopy(gradescope_results(submission_result()))
    VALIDATOR.validate(document)
    spoil(document)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(document)


def test_without_a_total_every_test_that_students_see_must_have_a_score():
    scored = {"tests": [{"score": 1.0}, {"visibility": "hidden"}]}
    VALIDATOR.validate(scored)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate({"tests": [{"score": 1.0}, {"visibility": "visible"}]})
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate({})


def test_what_could_not_be_checked_has_no_score_and_the_top_says_so():
    found = gradescope_results(submission_result())
    test = by_line(submission_result())["3 private"]
    assert not {"score", "max_score", "status"} & test.keys()
    assert test["extra_data"]["points"] is None
    assert "could not be checked, 10 points" in test["name"]
    assert "10 of 70 points could not be checked" in found["output"]
    assert "grade this submission again" in found["output"]
    assert found["extra_data"]["unchecked_points"] == 10
    assert found["score"] == 25.9


def test_the_total_is_that_of_the_tests_where_points_do_not_go_below_zero():
    found = gradescope_results(submission_result())
    assert sum(test.get("score", 0) for test in found["tests"]) == pytest.approx(found["score"])


def test_where_all_was_checked_the_top_says_that():
    lines = [line for line in submission_result().lines if line.points is not None]
    found = gradescope_results(summed(submission_result(), lines))
    who = "Judged by the embedded judges: scores are not the official ones."
    assert found["output"] == f"Everything was checked. The maximum is 60 points. {who}"


def test_students_see_private_lines_and_shares_of_them_only_once_grades_are_published():
    tests = by_line(submission_result())
    shown = {name: test["visibility"] for name, test in tests.items()}
    assert {name for name, seen in shown.items() if seen != "visible"} == {"2 private", "3 private", "late"}
    assert set(shown.values()) == {"visible", "after_published"}


def test_nothing_that_students_see_at_once_speaks_of_private_things():
    found = gradescope_results(submission_result())
    early = [test for test in found["tests"] if test["visibility"] == "visible"]
    for text in ("PRIVATE", "676", "2 pictures"):
        assert text not in json.dumps([early, found["output"], found["leaderboard"]])
        assert text in json.dumps(found)


def test_a_deduction_without_private_lines_is_shown():
    assert by_line(without_private(submission_result()))["late"]["visibility"] == "visible"


def test_warnings_are_for_staff_and_count_nothing():
    warnings = [test for test in gradescope_results(submission_result())["tests"] if test["tags"] == ["warning"]]
    assert len(warnings) == 1
    assert warnings[0]["visibility"] == "hidden"
    assert not {"score", "max_score", "status"} & warnings[0].keys()
    assert "12 of 500" in warnings[0]["output"]


def test_passed_failed_and_deducted():
    tests = by_line(submission_result())
    assert {name: test.get("status") for name, test in tests.items()} == {
        "1 simple": "passed", "1 strong": "failed", "2 public": "passed", "2 private": "failed",
        "3 public 0/0": "passed", "3 public 0/1": "failed", "3 private": None, "report 1": "passed",
        "late": "failed",
    }  # fmt: skip
    assert tests["late"]["score"] == -11.1
    assert tests["late"]["max_score"] == 0


def test_numbers_are_by_problem_and_unique():
    numbers = [test["number"] for test in by_line(submission_result()).values()]
    assert numbers == ["1.1", "1.2", "2.1", "2.2", "3.1", "3.2", "3.3", "4.1", "4.2"]


def test_what_failed_ends_with_the_last_lines_of_its_own_script():
    tests = by_line(submission_result())
    assert tests["3 public 0/1"]["output"].endswith("    MemoryError")
    assert "exit status 1" in tests["3 public 0/1"]["output"]
    assert "line 10" not in tests["3 public 0/1"]["output"]  # the tail is short
    assert "MemoryError" not in tests["3 public 0/0"]["output"]
    assert "PRIVATE-LOG" in tests["2 private"]["output"]


def test_the_leaderboard_is_about_public_inputs():
    board = {place["name"]: place for place in gradescope_results(submission_result())["leaderboard"]}
    assert board["Digits accuracy %"]["value"] == 94.0
    assert board["Faces MSE"] == {"name": "Faces MSE", "value": 0.26, "order": "asc"}
    assert board["Prompts passed"]["value"] == 1


def test_the_leaderboard_leaves_out_what_could_not_be_checked():
    result = submission_result()
    assert gradescope_results(replace(result, results=[result.results[-1]]))["leaderboard"] == []
    unknown = replace(result.results[0], figures=[replace(result.results[0].figures[0], value=None)])
    assert gradescope_results(replace(result, results=[unknown]))["leaderboard"] == []


def test_any_figure_with_a_title_is_on_the_leaderboard_in_its_own_order():
    figures = [
        Figure("iou", "IoU", 0.12345, "%", 1, leaderboard="IoU %"),
        Figure("seconds", "seconds", 3.14159, decimals=2, higher_is_better=False, leaderboard="Seconds"),
        Figure("other", "other", 1.0),
    ]
    result = replace(submission_result().results[0], figures=figures)
    board = gradescope_results(replace(submission_result(), results=[result]))["leaderboard"]
    assert board == [
        {"name": "IoU %", "value": 12.3, "order": "desc"},
        {"name": "Seconds", "value": 3.14, "order": "asc"},
    ]
    private = replace(result, part=Part.PRIVATE)
    assert gradescope_results(replace(submission_result(), results=[private]))["leaderboard"] == []


def test_without_points_no_line_has_a_score_and_the_top_says_so():
    result = submission_result(homework=WITHOUT_POINTS)
    found = gradescope_results(result)
    assert found["output"].startswith(NO_POINTS)
    assert "1 score could not be checked" in found["output"]
    tests = by_line(result)
    for test in tests.values():
        assert not {"score", "max_score", "status"} & test.keys()
    assert tests["1 simple"]["name"] == "Problem 1, simple baseline (passed)"
    assert tests["1 strong"]["name"] == "Problem 1, strong baseline (failed)"
    assert tests["3 private"]["name"] == "Problem 3, private prompts (could not be checked)"


def test_without_points_the_top_counts_passed_scores_only_where_none_is_private():
    result = submission_result(homework=WITHOUT_POINTS)
    lines = [line for line in result.lines if not line.private]
    assert "Passed: 3 of 5." in gradescope_results(summed(result, lines))["output"]
    assert "Passed" not in gradescope_results(result)["output"]


def test_no_score_is_minus_zero():
    line = ScoreLine(None, Part.WHOLE, "staff fixed", "deduction", "Code fixed by staff", -0.0, 0.0, "pass", "Nothing.")
    test = by_line(replace(submission_result(), lines=[line]))["staff fixed"]
    assert str(test["score"]) == "0.0"
