"""Points as on the slides: 15 + 20 + 20 for performance, 15 a problem for the report."""

import pytest

from grading.core.errors import GradingError
from grading.core.results import Check, ConceptsResult, DigitsResult, FacesResult, PromptScore
from grading.points.lines import StaffEntry, read_staff_file, score_lines, total, verdict

SIMPLE, STRONG = "simple baseline", "strong baseline"


def digits(simple="pass", strong="pass", *others, status=None):
    checks = [*others, Check(SIMPLE, simple, f"simple {simple}."), Check(STRONG, strong, f"strong {strong}.")]
    return DigitsResult(status or simple, checks=checks)


def faces(status):
    return FacesResult(status, 20.0, mse=1.0, checks=[Check("mse", status, f"faces {status}.")])


def concepts(**passed):
    prompts = {key: PromptScore((70.0, 30.0), 71.0, 31.0, ok) for key, ok in passed.items()}
    checks = [Check(f"{key} score", "pass" if ok else "fail", f"{key} said.") for key, ok in passed.items()]
    return ConceptsResult(
        "pass" if all(passed.values()) else "fail", sum(passed.values()), len(passed), prompts, checks=checks
    )


PUBLIC = {"0/0": True, "0/1": True, "1/0": True, "1/1": True}


def test_everything_right_is_55_points():
    both = {"public": concepts(**PUBLIC), "private": concepts(**{"0/0": True, "1/0": True})}
    lines = score_lines(digits(), {"public": faces("pass"), "private": faces("pass")}, both, StaffEntry())
    assert {line.name: line.points for line in lines} == {
        "1 simple": 10, "1 strong": 5, "2 public": 10, "2 private": 10, "3 public 0/0": 2.5, "3 public 0/1": 2.5,
        "3 public 1/0": 2.5, "3 public 1/1": 2.5, "3 private 0/0": 5, "3 private 1/0": 5,
    }  # fmt: skip
    assert total(lines) == (55, 55, 0)
    assert verdict(lines) == "pass"
    assert {line.name for line in lines if line.private} == {"2 private", "3 private 0/0", "3 private 1/0"}


def test_public_points_alone_are_35():
    lines = score_lines(digits(), {"public": faces("pass")}, {"public": concepts(**PUBLIC)}, StaffEntry())
    assert total(lines) == (35, 35, 0)


@pytest.mark.parametrize(
    ("result", "points"),
    [
        (digits("pass", "fail"), {"1 simple": 10, "1 strong": 0}),
        (digits("fail", "fail"), {"1 simple": 0, "1 strong": 0}),
        (
            digits("pass", "pass", Check("svhn complete", "fail", "3 are missing."), status="fail"),
            {"1 simple": 0, "1 strong": 0},
        ),
        (digits("pass", "pass", Check("svhn files", "warning", "stray.")), {"1 simple": 10, "1 strong": 5}),
    ],
)
def test_baselines_have_points_of_their_own_and_incomplete_folders_none(result, points):
    lines = score_lines(result, {}, {}, StaffEntry())
    assert {line.name: line.points for line in lines} == points


def test_what_could_not_be_checked_is_nobodys_zero():
    error = FacesResult("error", 20.0, checks=[Check("call", "error", "The disk is full.")])
    lines = score_lines(digits(), {"public": error}, {"public": ConceptsResult("error")}, StaffEntry())
    assert [(line.name, line.points, line.status) for line in lines[2:]] == [
        ("2 public", None, "error"),
        ("3 public", None, "error"),
    ]
    assert "The disk is full." in lines[2].message
    assert total(lines) == (15, 35, 20)
    assert verdict(lines) == "error"


def test_a_failed_run_explains_every_line_that_failed_and_none_that_passed():
    run = Check("run", "warning", "hw2_3.sh was stopped: it ran longer than 15 minutes.")
    result = concepts(**{"0/0": True, "0/1": False})
    result = ConceptsResult(result.status, 1, 2, result.prompts, checks=[run, *result.checks])
    passed, failed = score_lines(None, {}, {"public": result}, StaffEntry())
    assert failed.message == "hw2_3.sh was stopped: it ran longer than 15 minutes. 0/1 said."
    assert passed.message == "0/0 said."


def test_a_check_of_prompt_1_is_not_said_of_prompt_10():
    result = concepts(**{"0/1": False, "0/10": False})
    first, tenth = score_lines(None, {}, {"public": result}, StaffEntry())
    assert (first.message, tenth.message) == ("0/1 said.", "0/10 said.")


def test_deductions_are_lines_of_their_own_and_never_go_below_zero():
    staff = StaffEntry({1: 12.0, 2: 15.0, 3: 0.0}, late_days=2, staff_fixed=True)
    lines = score_lines(digits(), {"public": faces("fail")}, {}, staff)
    found = {line.name: line.points for line in lines}
    # 15 performance points, 4.5 of them lost; with 27 of the report 37.5, of which two days take 60 %
    assert found["staff fixed"] == pytest.approx(-4.5)
    assert found["late"] == pytest.approx(-22.5)
    assert [found[f"report {n}"] for n in (1, 2, 3)] == [12, 15, 0]
    points, max_points, unchecked = total(lines)
    assert (points, max_points, unchecked) == (pytest.approx(15), 70, 0)
    assert total(score_lines(digits(), {}, {}, StaffEntry(late_days=9)))[0] == 0


def test_staff_files_are_read(tmp_path):
    path = tmp_path / "staff.csv"
    path.write_text("submission,report_1,late_days,staff_fixed\nb01,12.5,1,yes\nb02,,,\n", encoding="utf-8-sig")
    assert read_staff_file(path) == {"b01": StaffEntry({1: 12.5}, 1, True), "b02": StaffEntry()}


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
    ],
)
def test_staff_files_with_mistakes_are_refused(tmp_path, content, said):
    (tmp_path / "staff.csv").write_text(content)
    with pytest.raises(GradingError, match=said):
        read_staff_file(tmp_path / "staff.csv")
