"""Points as on the slides: 15 + 20 + 20 for performance, 15 for each problem's report. Laws first, examples after."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading.core.results import Check, Outcome, Part, ProblemResult, ScoreLine
from grading.homeworks.fall2024 import CONCEPTS, DIGITS, FACES, FALL2024
from grading.points.lines import counted_points, score_lines, total, verdict
from grading.points.staff import StaffEntry
from grading.problems.digit_scores import DigitsResult
from grading.problems.faces import FacesResult
from grading.problems.prompt_scores import ConceptsResult, PromptScore

SIMPLE, STRONG = "simple baseline", "strong baseline"
PUBLIC, PRIVATE, WHOLE = Part.PUBLIC, Part.PRIVATE, Part.WHOLE

POINTS = {(1, WHOLE): 15.0, (2, PUBLIC): 10.0, (2, PRIVATE): 10.0, (3, PUBLIC): 10.0, (3, PRIVATE): 10.0}
"""The slides' points of each part; written out here, not taken from the code under test."""


def digits(simple="pass", strong="pass", *others, status=None):
    checks = [*others, Check(SIMPLE, simple, f"simple {simple}."), Check(STRONG, strong, f"strong {strong}.")]
    return DIGITS.result(DigitsResult(status or simple, checks=checks))


def faces(status, part=PUBLIC):
    checks = [Check("mse", status, f"faces {status}.")]
    return FACES.result(FacesResult(status, 20.0, mse=1.0, expected=[], checks=checks), part)


def concepts(part=PUBLIC, **passed):
    prompts = {key: PromptScore((70.0, 30.0), 71.0, 31.0, ok) for key, ok in passed.items()}
    checks = [Check(f"{key} score", "pass" if ok else "fail", f"{key} said.") for key, ok in passed.items()]
    status = "pass" if all(passed.values()) else "fail"
    return CONCEPTS.result(ConceptsResult(status, sum(passed.values()), len(passed), prompts, checks=checks), part)


def lines_of(*results, staff=None):
    return score_lines(FALL2024, results, staff or StaffEntry())


FOUR = {"0/0": True, "0/1": True, "1/0": True, "1/1": True}


# --- laws


statuses = st.sampled_from(["pass", "fail", "error"])


@st.composite
def part_results(draw, problem, part):
    """Any result that a part can have: passed, failed, or not checked, with 1 to 12 prompts."""
    status = draw(statuses)
    if status == "error":
        return FALL2024.problem(problem).unchecked(part, Check("run", "error", "The disk is full."))
    if problem == 1:
        return digits(*draw(st.sampled_from([("pass", "pass"), ("pass", "fail"), ("fail", "fail")])))
    if problem == 2:
        return faces(status, part)
    passed = draw(st.lists(st.booleans(), min_size=1, max_size=12))
    return concepts(part, **{f"0/{i}": ok for i, ok in enumerate(passed)})


some_parts = st.sets(st.sampled_from(sorted(POINTS)), min_size=1)


@st.composite
def submissions(draw, some=some_parts):
    """The results of some parts, in any order."""
    graded = draw(st.permutations(sorted(draw(some))))
    return [draw(part_results(*place)) for place in graded]


entries = st.builds(
    StaffEntry,
    st.dictionaries(st.sampled_from([1, 2, 3]), st.floats(0, 15)),
    st.integers(0, 6),
    st.booleans(),
)


@given(submissions())
def test_the_most_points_of_each_graded_part_are_the_slides(results):
    lines = lines_of(*results)
    for result in results:
        own = [line.max_points for line in lines if (line.problem, line.part) == (result.problem, result.part)]
        assert sum(own) == pytest.approx(POINTS[result.problem, result.part])
    assert total(lines)[1] == pytest.approx(sum(POINTS[result.problem, result.part] for result in results))


@given(submissions(st.just(set(POINTS))))
def test_whole_problems_have_15_20_and_20_points_whatever_happened(results):
    lines = lines_of(*results)
    for problem, most in ((1, 15), (2, 20), (3, 20)):
        assert sum(line.max_points for line in lines if line.problem == problem) == pytest.approx(most)


@given(submissions(), entries)
def test_a_parts_lines_depend_on_no_other_part_and_no_staff(results, staff):
    together = [line for line in lines_of(*results, staff=staff) if line.kind == "score"]
    alone = [line for result in results for line in lines_of(result)]
    key = lambda line: line.name  # noqa: E731
    assert sorted(together, key=key) == sorted(alone, key=key)


@given(submissions())
def test_a_line_that_could_not_be_checked_has_no_points_and_every_other_has_all_or_none(results):
    of_part = {(result.problem, result.part): result for result in results}
    for line in lines_of(*results):
        result = of_part[line.problem, line.part]
        assert (line.points is None) == (line.status == "error") == (result.status == "error")
        if line.points is not None:
            assert line.points == (line.max_points if line.status == "pass" else 0)


@given(submissions(), entries)
def test_totals_are_sums_and_never_below_zero(results, staff):
    lines = lines_of(*results, staff=staff)
    points, most, unchecked = total(lines)
    assert 0 <= points <= most - unchecked + 1e-9
    assert points == pytest.approx(max(sum(line.points or 0 for line in lines), 0))
    assert unchecked == pytest.approx(sum(line.max_points for line in lines if line.status == "error"))
    assert verdict(lines) == (
        "error"
        if any(result.status == "error" for result in results)
        else "fail"
        if any(line.status == "fail" for line in lines)
        else "pass"
    )


@given(submissions(), entries)
def test_deductions_take_exactly_their_shares(results, staff):
    lines = lines_of(*results, staff=staff)
    performance = sum(line.points or 0 for line in lines if line.kind == "score")
    fixed = 0.3 * performance if staff.staff_fixed else 0
    kept = (performance - fixed + sum(staff.report.values())) * max(1 - 0.3 * staff.late_days, 0)
    assert total(lines)[0] == pytest.approx(kept, abs=1e-6)
    assert {line.max_points for line in lines if line.kind == "deduction"} <= {0}


@given(submissions(), entries)
def test_lines_have_names_of_their_own_in_the_homeworks_order(results, staff):
    lines = lines_of(*results, staff=staff)
    names = [line.name for line in lines]
    assert len(set(names)) == len(names)
    order = list(POINTS)
    places = [order.index((line.problem, line.part)) for line in lines if line.kind == "score"]
    assert places == sorted(places)
    kinds = [("score", "report", "deduction").index(line.kind) for line in lines]
    assert kinds == sorted(kinds)


@given(submissions())
def test_lines_know_their_stage_and_whether_they_are_private(results):
    for line in lines_of(*results):
        assert line.private == (line.part is PRIVATE)
        assert line.stages == (f"hw2_{line.problem}.sh" + ("" if line.part is WHOLE else f" {line.part}"),)


@given(submissions())
def test_without_points_every_line_keeps_its_status(results):
    without = replace(FALL2024, problems=tuple(replace(problem, points={}) for problem in FALL2024.problems))
    lines = score_lines(without, results, StaffEntry())
    assert [line.status for line in lines] == [line.status for line in lines_of(*results)]
    assert {line.max_points for line in lines} == {0}
    assert total(lines)[:2] == (0, 0)


@given(st.floats(0, 100))
def test_points_agree_with_their_noun(points):
    shown, noun = counted_points(points).split()
    assert (noun == "point") == (shown == "1")
    assert float(shown) == pytest.approx(points, abs=0.00501)


# --- examples


@pytest.mark.parametrize(
    ("points", "shown"), [(34.5, "34.5 points"), (10 / 3, "3.33 points"), (1.0, "1 point"), (-0.001, "0 points")]
)
def test_points_have_at_most_two_decimals_and_no_negative_zero(points, shown):
    assert counted_points(points) == shown


def test_everything_right_is_55_points():
    lines = lines_of(
        digits(),
        faces("pass"),
        faces("pass", PRIVATE),
        concepts(**FOUR),
        concepts(PRIVATE, **{"0/0": True, "1/0": True}),
    )
    assert {line.name: line.points for line in lines} == {
        "1 simple": 10, "1 strong": 5, "2 public": 10, "2 private": 10, "3 public 0/0": 2.5, "3 public 0/1": 2.5,
        "3 public 1/0": 2.5, "3 public 1/1": 2.5, "3 private 0/0": 5, "3 private 1/0": 5,
    }  # fmt: skip
    assert total(lines) == (55, 55, 0)
    assert verdict(lines) == "pass"
    assert {line.name for line in lines if line.private} == {"2 private", "3 private 0/0", "3 private 1/0"}


def test_two_public_prompts_share_the_ten_points_of_four():
    assert [line.points for line in lines_of(concepts(**{"0/0": True, "0/1": True}))] == [5, 5]


def test_public_points_alone_are_35():
    assert total(lines_of(digits(), faces("pass"), concepts(**FOUR))) == (35, 35, 0)


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
    assert {line.name: line.points for line in lines_of(result)} == points


def test_what_could_not_be_checked_does_not_count_as_zero():
    full = Check("call", "error", "The disk is full.")
    lines = lines_of(digits(), FACES.unchecked(PUBLIC, full), CONCEPTS.unchecked(PUBLIC, full))
    assert [(line.name, line.points, line.status) for line in lines[2:]] == [
        ("2 public", None, "error"),
        ("3 public", None, "error"),
    ]
    assert "The disk is full." in lines[2].message
    assert total(lines) == (15, 35, 20)
    assert verdict(lines) == "error"


def test_a_failed_run_explains_every_line_that_failed_and_none_that_passed():
    stopped = "hw2_3.sh was stopped: it ran longer than 15 minutes."
    passed, failed = lines_of(replace(concepts(**{"0/0": True, "0/1": False}), ended=stopped))
    assert failed.message == f"{stopped} 0/1 said."
    assert passed.message == "0/0 said."


def test_a_line_says_what_was_met_whole_if_it_passes_and_its_first_if_it_fails():
    for passed, message in ((True, "a. b."), (False, "a. c.")):
        outcome = Outcome("", "", passed, met=("a.", "b."), unmet=("c.",))
        (line,) = lines_of(ProblemResult(2, PUBLIC, "faces", "title", "pass", outcomes=[outcome]))
        assert line.message == message


def test_titles_name_the_problem_the_part_and_what_was_asked():
    lines = lines_of(digits(), faces("pass"), concepts(**{"0/1": True}))
    assert [line.title for line in lines] == [
        "Problem 1, simple baseline",
        "Problem 1, strong baseline",
        "Problem 2, public noises",
        "Problem 3, public prompt “”",
    ]


def test_a_check_of_prompt_1_is_not_said_of_prompt_10():
    first, tenth = lines_of(concepts(**{"0/1": False, "0/10": False}))
    assert (first.message, tenth.message) == ("0/1 said.", "0/10 said.")


@pytest.mark.parametrize(
    ("reasons", "end"), [(3, "c."), (4, "c. (And 1 more reason.)"), (5, "c. (And 2 more reasons.)")]
)
def test_a_line_gives_three_reasons_and_counts_the_others(reasons, end):
    outcome = Outcome("", "", passed=False, unmet=tuple(f"{letter}." for letter in "abcde"[:reasons]))
    (line,) = lines_of(ProblemResult(2, PUBLIC, "faces", "title", "fail", outcomes=[outcome]))
    assert line.message == f"a. b. {end}"


def test_deductions_are_lines_of_their_own_and_never_go_below_zero():
    staff = StaffEntry({1: 12.0, 2: 15.0, 3: 0.0}, late_days=2, staff_fixed=True, fixes=("Line ends.", "A path."))
    lines = lines_of(digits(), faces("fail"), staff=staff)
    # 15 performance points, 4.5 of them deducted; with 27 of the report 37.5, of which two days take 60 %
    fixed = "Staff fixed the code: 30 % of 15 points for performance deducted. Line ends. A path."
    late = "2 days late after the free days: 60 % of 37.5 points deducted."
    assert [line for line in lines if line.kind != "score"] == [
        ScoreLine(1, WHOLE, "", "report", "Report, problem 1", 12, 15, "pass", "Staff gave 12 of 15 points."),
        ScoreLine(2, WHOLE, "", "report", "Report, problem 2", 15, 15, "pass", "Staff gave 15 of 15 points."),
        ScoreLine(3, WHOLE, "", "report", "Report, problem 3", 0, 15, "pass", "Staff gave 0 of 15 points."),
        ScoreLine(None, WHOLE, "staff fixed", "deduction", "Code fixed by staff", -4.5, 0, "pass", fixed),
        ScoreLine(None, WHOLE, "late", "deduction", "Late", -22.5, 0, "pass", late),
    ]
    points, max_points, unchecked = total(lines)
    assert (points, max_points, unchecked) == (pytest.approx(15), 70, 0)


def test_no_more_than_everything_is_deducted():
    lines = lines_of(digits(), staff=StaffEntry(late_days=9))
    assert (lines[-1].points, lines[-1].message) == (
        -15,
        "9 days late after the free days: 100 % of 15 points deducted.",
    )
    assert total(lines)[0] == 0


@pytest.mark.parametrize(("days", "said"), [(1, "1 day late"), (2, "2 days late")])
def test_days_agree(days, said):
    (*_, late) = lines_of(digits(), staff=StaffEntry(late_days=days))
    assert late.message == f"{said} after the free days: {30 * days} % of 15 points deducted."
