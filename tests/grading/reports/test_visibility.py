from dataclasses import replace

import pytest

from grading.core.results import Part, ScoreLine
from grading.reports.visibility import (
    has_points,
    has_private,
    log_tail,
    passed_lines,
    public_part,
    shown_points,
    shown_seconds,
    tells_private,
    tracebacks,
    unchecked_sentence,
)
from tests.grading.reported import HOSTILE, WITHOUT_POINTS, submission_result, summed, without_private


def line(name):
    (found,) = [line for line in submission_result().lines if line.name == name]
    return found


@pytest.mark.parametrize(
    ("log", "tail"),
    [
        ("", []),
        ("\n \n", []),
        ("a", ["a"]),
        ("a\n\nb\n\n\n", ["a", "", "b"]),
        ("\n".join(map(str, range(30))), [str(i) for i in range(10, 30)]),
        ("\x1b[31ma\u2028b\n\x00", ["\\x1b[31ma\\u2028b", "\\x00"]),
    ],
)
def test_the_tail_of_a_log_is_its_last_lines_safe_to_print(log, tail):
    assert log_tail(log) == tail


def test_a_tail_is_as_long_as_was_asked_for():
    assert log_tail("a\nb\nc", 2) == ["b", "c"]
    assert all(each.isprintable() for each in log_tail(HOSTILE))


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("1 strong", ["hw2_1.sh"]),
        ("2 private", ["hw2_2.sh private"]),
        ("3 public 0/1", ["hw2_3.sh public"]),
        ("3 private", ["hw2_3.sh private"]),
        ("report 1", []),
        ("late", []),
    ],
)
def test_points_come_from_their_own_scripts_stage(name, stages):
    assert [stage.stage for stage in submission_result().stages_of(line(name))] == stages


def test_no_name_decides_what_is_private():
    named = ScoreLine(3, Part.PUBLIC, "private/0", "score", "private", 0.0, 1.0, "fail", "private")
    assert not tells_private(named, summed(submission_result(), [named]))


def test_a_fetch_that_failed_is_told_with_every_script():
    result = submission_result()
    result = replace(result, stages=[replace(s, status="fail") if s.stage == "fetch" else s for s in result.stages])
    assert [stage.stage for stage in result.stages_of(line("1 simple"))] == ["fetch", "hw2_1.sh"]


def test_a_deduction_is_private_only_beside_private_lines():
    result = submission_result()
    assert tells_private(line("late"), result)
    assert not tells_private(line("report 1"), result)
    assert not tells_private(line("late"), without_private(result))


def test_the_public_part_has_nothing_private_and_no_traceback():
    result, public = submission_result(), public_part(submission_result())
    assert has_private(result)
    assert not has_private(public)
    assert len(list(tracebacks(result))) == 2
    failed = replace(result.results[0], traceback="Traceback: /home/staff")
    stage = replace(result.stages[0], traceback="Traceback: /home/staff")
    told = public_part(replace(result, results=[failed], stages=[stage]))
    assert list(tracebacks(told)) == []
    assert "/home/staff" not in repr(told)
    assert [each.details for each in public.results] == [{}] * 3
    assert [(each.problem, each.part) for each in public.results] == [
        (1, Part.WHOLE), (2, Part.PUBLIC), (3, Part.PUBLIC),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["lines", "stages", "results"])
def test_one_private_thing_makes_a_page_private(name):
    result = submission_result()
    only = {each: [] for each in ("lines", "stages", "results")}
    only[name] = getattr(result, name)
    assert has_private(replace(result, **only))


def test_points_are_known_unless_no_line_has_any():
    without = submission_result(homework=WITHOUT_POINTS)
    assert has_points(submission_result())
    assert not has_points(without)
    assert has_points(replace(without, lines=[]))
    assert passed_lines(without) == passed_lines(submission_result()) == (3, 7)
    assert "points" not in unchecked_sentence(without)
    assert unchecked_sentence(without).startswith("1 score could not be checked (Problem 3, private prompts)")


@pytest.mark.parametrize(
    ("points", "shown"), [(None, "?"), (10.0, "10"), (10 / 3, "3.33"), (-0.0, "0"), (-1e-9, "0"), (-4.5, "-4.5")]
)
def test_points_are_short(points, shown):
    assert shown_points(points) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1:00 min"), (119.6, "2:00 min"), (905, "15:05 min")],
)
def test_times_are_short(seconds, shown):
    assert shown_seconds(seconds) == shown


def test_nothing_is_said_where_everything_was_checked():
    assert unchecked_sentence(replace(submission_result(), lines=[line("1 simple")])) == ""
