from dataclasses import replace

import pytest

from grading.core.results import ScoreLine
from grading.reports.visibility import (
    log_tail,
    shown_points,
    shown_seconds,
    stages_of,
    tells_private,
    unchecked_sentence,
)
from tests.grading.reported import HOSTILE, submission_result


def line(name, max_points=1.0):
    return ScoreLine(name, name, 0.0, max_points, "fail", "", "private" in name)


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
        ("3 public", ["hw2_3.sh public"]),
        ("3 public 0/1", ["hw2_3.sh public"]),
        ("3 public private/0", ["hw2_3.sh public"]),
        ("report 1", []),
        ("late", []),
    ],
)
def test_points_come_from_their_own_scripts_stage(name, stages):
    assert [stage.stage for stage in stages_of(line(name), submission_result())] == stages


def test_a_fetch_that_failed_is_told_with_every_script():
    result = submission_result()
    result = replace(result, stages=[replace(s, status="fail") if s.stage == "fetch" else s for s in result.stages])
    assert [stage.stage for stage in stages_of(line("1 simple"), result)] == ["fetch", "hw2_1.sh"]


def test_a_deduction_is_private_only_beside_private_lines():
    result = submission_result()
    assert tells_private(line("late", 0.0), result)
    assert not tells_private(line("report 1"), result)
    assert not tells_private(line("late", 0.0), replace(result, lines=[line("1 simple")]))


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
