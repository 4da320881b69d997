"""Points that staff give for what the grader could not check. Laws first, examples after."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading.core.results import Check, Part
from grading.homeworks.fall2024 import CONCEPTS, DIGITS, FACES, FALL2024
from grading.points.lines import SETTLED, score_lines, settled_warnings, total, verdict
from grading.points.staff import StaffEntry
from tests.grading.points.test_lines import POINTS, digits, faces, submissions

BROKEN = Check("run", "error", "The disk is full.")
MOST = {1: 15.0, 2: 20.0, 3: 20.0}


def settled(results, points, **more):
    return score_lines(FALL2024, results, StaffEntry(settled=points, **more))


def warnings(results, points):
    checks = list(settled_warnings(FALL2024, results, StaffEntry(settled=points)))
    assert {(check.name, check.status) for check in checks} <= {(SETTLED, "warning")}
    return [check.message for check in checks]


gifts = st.dictionaries(st.sampled_from([1, 2, 3]), st.floats(0, 20))


# --- laws


@given(submissions(), gifts)
def test_settling_changes_no_maximum_and_no_line_that_was_checked(results, points):
    before, after = settled(results, {}), settled(results, points)
    assert [line.max_points for line in after] == [line.max_points for line in before]
    for old, new in zip(before, after, strict=True):
        assert new == old or old.points is None


@given(submissions(), gifts)
def test_the_points_that_staff_gave_are_the_points_that_are_added_or_a_warning_says_why_not(results, points):
    before, after = settled(results, {}), settled(results, points)
    said = " ".join(warnings(results, points))
    for problem, given_points in points.items():
        own = [line for line in before if line.problem == problem]
        gained = sum(line.points or 0 for line in after if line.problem == problem)
        gained -= sum(line.points or 0 for line in own)
        if own and f"settled Problem {problem} " not in said:
            assert gained == pytest.approx(given_points)
        else:
            assert gained == 0


@given(submissions(), gifts)
def test_settled_lines_have_equal_shares_and_pass_only_with_all_points(results, points):
    before, after = settled(results, {}), settled(results, points)
    for problem in points:
        new = [b for a, b in zip(before, after, strict=True) if a.problem == problem and a.points != b.points]
        assert len({round(line.points / line.max_points, 9) for line in new}) <= 1
        for line in new:
            assert 0 <= line.points <= line.max_points
            assert line.status == ("pass" if line.points == line.max_points else "fail")


@given(submissions(st.just(set(POINTS))), st.floats(0, 1))
def test_a_submission_settled_as_a_whole_has_nothing_unchecked(results, share):
    lines = settled(results, {})
    open_points = {n: sum(line.max_points for line in lines if line.problem == n and line.points is None) for n in MOST}
    after = settled(results, {n: share * most for n, most in open_points.items() if most})
    assert total(after)[2] == 0
    assert verdict(after) != "error"


# --- examples


def test_both_baselines_share_what_staff_gave_by_their_maxima():
    lines = settled([DIGITS.unchecked(Part.WHOLE, BROKEN)], {1: 7.5})
    assert {line.name: (line.points, line.max_points, line.status) for line in lines} == {
        "1 simple": (5.0, 10.0, "fail"),
        "1 strong": (2.5, 5.0, "fail"),
    }
    assert lines[0].message == "Staff settled this: 5 of 10 points; the grader could not check it: The disk is full."


@pytest.mark.parametrize(("points", "status"), [(10.0, "pass"), (0.0, "fail"), (9.99, "fail")])
def test_only_full_points_pass(points, status):
    (public, private) = settled([faces("pass"), FACES.unchecked(Part.PRIVATE, BROKEN)], {2: points})
    assert (public.points, public.status) == (10.0, "pass")
    assert (private.points, private.status) == (points, status)


@pytest.mark.parametrize("off", [-1e-10, 0.0, 1e-10])
def test_points_that_differ_from_all_only_by_rounding_are_all(off):
    lines = settled([DIGITS.unchecked(Part.WHOLE, BROKEN)], {1: 15.0 + off})
    assert [(line.points, line.status) for line in lines] == [(10.0, "pass"), (5.0, "pass")]
    assert warnings([DIGITS.unchecked(Part.WHOLE, BROKEN)], {1: 15.0 + off}) == []


def test_points_beyond_what_could_not_be_checked_are_never_given():
    results = [faces("fail"), CONCEPTS.unchecked(Part.PUBLIC, BROKEN), FACES.unchecked(Part.PRIVATE, BROKEN)]
    assert settled(results, {2: 12.0}) == settled(results, {})
    assert warnings(results, {2: 12.0}) == [
        "Staff settled Problem 2 with 12 points, without effect: the lines that could not be checked have 10 points "
        "together; correct the staff file."
    ]
    results = [FACES.unchecked(Part.PUBLIC, BROKEN), FACES.unchecked(Part.PRIVATE, BROKEN)]
    assert warnings(results, {2: 20.5}) == [
        "Staff settled Problem 2 with 20.5 points, without effect: the lines that could not be checked have 20 points "
        "together; correct the staff file."
    ]


def test_where_everything_was_checked_staff_are_warned_and_nothing_changes():
    assert settled([digits("fail", "fail")], {1: 15.0}) == settled([digits("fail", "fail")], {})
    assert warnings([digits()], {1: 1.0}) == [
        "Staff settled Problem 1 with 1 point, without effect: all of it was checked."
    ]


def test_a_problem_that_is_not_graded_now_is_no_warning():
    assert warnings([digits()], {2: 20.0}) == []


def test_settled_points_are_performance_points_for_deductions():
    lines = settled([CONCEPTS.unchecked(Part.PUBLIC, BROKEN)], {3: 10.0}, late_days=1, staff_fixed=True)
    assert total(lines) == (pytest.approx(10 * 0.7 * 0.7), 10, 0)


def test_reasons_survive_without_a_sentence():
    silent = replace(FACES.unchecked(Part.PUBLIC, BROKEN), checks=[])
    (line,) = settled([silent], {2: 4.0})
    assert line.message.endswith("the grader could not check it: no reason is known.")
