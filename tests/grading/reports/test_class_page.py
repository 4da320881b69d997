import csv
import io
import re
from dataclasses import replace
from urllib.parse import unquote_to_bytes

import pytest

from grading.reports.class_page import (
    _bins,
    class_page,
    digit_rates,
    far_values,
    line_rates,
    outliers,
    prompt_rates,
    report_link,
    scores_csv,
)
from tests.grading.reported import HOSTILE_NAME, digits_result, hostile_result, submission_result


def rows(results):
    return list(csv.DictReader(io.StringIO(scores_csv(results)), strict=True))


def rescored(name, **points):
    result = submission_result(name)
    lines = [
        replace(line, points=points[line.name], status="pass" if points[line.name] else "fail")
        if line.name in points
        else line
        for line in result.lines
    ]
    return replace(result, lines=lines)


def test_the_table_has_a_row_per_submission_and_a_column_per_line():
    (row,) = rows([submission_result()])
    assert row["submission"] == "r12345678"
    assert row["status"] == "error"
    assert [float(row[c]) for c in ("points", "max_points", "unchecked")] == [24.15, 68.33, 3.3333]
    assert float(row["1 simple"]) == 10
    assert float(row["1 strong"]) == 0
    assert row["3 private 0/0"] == "not checked"
    assert float(row["late"]) == -10.35
    assert float(row["seconds hw2_1.sh"]) == 412.25
    assert row["warnings"] == "1"


def test_a_line_that_a_submission_lacks_is_empty_and_columns_stay_in_order():
    short = replace(submission_result("r2"), lines=submission_result().lines[:2], stages=[])
    first, second = rows([short, submission_result("r1")])
    assert first["2 public"] == first["seconds hw2_1.sh"] == ""
    assert float(second["2 public"]) == 10
    assert list(first)[5:8] == ["1 simple", "1 strong", "2 public"]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\t=1", "\r=1", "＝1", "=cmd|' /C calc'!A0"])
def test_no_name_becomes_a_formula(name):
    cell = rows([submission_result(name)])[0]["submission"]
    assert cell[0] in "'\\"
    assert "\t" not in cell
    assert "\r" not in cell


def test_names_stay_in_their_cells():
    name = 'a",=1,"\nb;=2'
    assert rows([submission_result(name)])[0]["submission"] == 'a",=1,"\\nb;=2'
    assert '"a"",=1,""\\nb;=2"' in scores_csv([submission_result(name)])  # in quotes, where ; separates, too


def test_ordinary_names_and_negative_numbers_stay_as_they_are():
    row = rows([submission_result("r1-a_b@c")])[0]
    assert row["submission"] == "r1-a_b@c"
    assert row["late"] == "-10.35"


def test_hostile_lines_make_no_formula_either():
    text = scores_csv([hostile_result()])
    text.encode()
    for row in csv.reader(io.StringIO(text)):
        for cell in row:
            assert not re.match(r"\s*[=+@]", cell)
            assert not re.match(r"\s*-(?![\d.]+$)", cell)


def test_an_empty_class_is_a_header():
    assert scores_csv([]) == '"submission","status","points","max_points","unchecked","warnings"\n'


def test_pass_rates_leave_out_what_could_not_be_checked():
    results = [rescored("a"), rescored("b", **{"1 strong": 5.0, "3 private 0/0": 10 / 3}), rescored("c")]
    rates = {rate.name: rate for rate in line_rates(results)}
    assert rates["1 strong"].share == pytest.approx(1 / 3)
    assert rates["1 strong"].points == pytest.approx(5 / 3)
    assert rates["3 private 0/0"].share == 1.0
    assert rates["3 private 0/0"].unchecked == 2
    assert rates["3 private 0/0"].points == pytest.approx(10 / 3)
    assert rates["report 1"].share is None
    assert "late" not in rates


def test_a_line_that_nobody_could_check_has_no_rate():
    (rate,) = [rate for rate in line_rates([submission_result()]) if rate.name == "3 private 0/0"]
    assert (rate.share, rate.points, rate.unchecked) == (None, None, 1)


def test_digit_rates_are_means_over_those_who_have_the_digit():
    without = replace(digits_result(), per_digit={"mnistm": {"0": 0.5}, "svhn": {}})
    results = [
        submission_result(),
        replace(submission_result(), digits=without),
        replace(submission_result(), digits=None),
    ]
    rates = digit_rates(results)
    assert rates["mnistm"][0] == pytest.approx((0.97 + 0.5) / 2)
    assert rates["mnistm"][1] == pytest.approx(0.97)
    assert rates["svhn"][8] == pytest.approx(0.7)
    assert digit_rates([replace(submission_result(), digits=None)]) == {}


def test_prompt_rates_are_by_part_and_prompt():
    first, second = prompt_rates([submission_result(), replace(submission_result(), concepts={})])
    assert (first.name, first.share, second.name, second.share) == ("public 0/0", 1.0, "public 0/1", 0.0)
    assert (second.image_score, second.text_score) == (76.0, 34.5)


def test_every_submission_is_in_one_bar_of_the_histogram():
    points = [0.0, 2.99, 3.0, 50.0, 60.0]
    bins = _bins([replace(submission_result(), points=p, max_points=60.0) for p in points])
    assert [b.count for b in bins] == [2, 1] + [0] * 14 + [1, 0, 0, 1]
    assert (bins[0].low, bins[0].high, bins[-1].high) == (0, 3, 60)
    assert sum(b.count for b in _bins([submission_result()])) == 1
    assert _bins([]) == []


def test_outliers_by_hand():
    # Median 5.5, deviations 2.5 1.5 0.5 0.5 1.5 and more: their median is 1.5, the limit 3.5 * 1.5 / 0.6745 = 7.783.
    assert far_values(dict(enumerate([3.0, 4, 5, 6, 7, 100]))) == [5]
    assert far_values(dict(enumerate([3.0, 4, 5, 6, 7, 13.29]))) == [5]
    assert far_values(dict(enumerate([3.0, 4, 5, 6, 7, 13.28]))) == []


def test_where_most_are_equal_the_odd_one_is_still_found():
    assert far_values(dict(enumerate([10.0] * 9 + [0.0]))) == [9]
    assert far_values(dict(enumerate([10.0] * 10))) == []


def test_few_values_have_no_outliers():
    assert far_values({0: 1.0, 1: 1.0, 2: 1.0, 3: 99.0}) == []


def test_outliers_name_submission_figure_value_and_median():
    slow = submission_result("slow")
    slow = replace(slow, stages=[replace(s, seconds=890.0) if s.stage == "hw2_1.sh" else s for s in slow.stages])
    found = outliers([*(submission_result(f"r{i}") for i in range(8)), slow])
    assert [(o.submission, o.figure, o.value, o.median) for o in found] == [
        ("slow", "seconds of hw2_1.sh", 890.0, 412.25)
    ]


def test_unchecked_points_make_no_outlier():
    whole = [replace(submission_result(f"r{i}"), unchecked=0.0) for i in range(8)]
    low = replace(submission_result("low"), points=1.0)
    assert [o.submission for o in outliers([*whole, low])] == []
    assert [o.submission for o in outliers([*whole, replace(low, unchecked=0.0)])] == ["low"]


@pytest.mark.parametrize("name", [HOSTILE_NAME, "a b", "..", "../x", "a?b#c", "%41", "日本"])
def test_links_lead_to_the_folder_of_the_name_and_to_no_other(name):
    link = report_link(submission_result(name))
    head, middle, tail = link.split("/")
    assert (head, tail) == ("students", "report.html")
    assert unquote_to_bytes(middle) == name.encode(errors="surrogateescape")


def test_the_page_shows_failed_slowest_warned_and_unchecked():
    page = class_page([submission_result("r1"), submission_result("r2")])
    assert "2 not fully checked." in page
    assert "hw2_2.sh was stopped: it ran longer than 5 minutes." in page
    assert "MemoryError" in page
    assert "6:52 min" in page
    assert "12 of 500 images" in page
    assert "2 could not be checked" in page
    assert "modified z-score" not in page  # no outliers among two


def test_the_histogram_is_told_in_words():
    results = [replace(submission_result(f"r{i}"), points=p, max_points=20.0) for i, p in enumerate([0.5, 0.7, 19.0])]
    assert 'aria-label="Histogram of points: 2 from 0 to 1; 1 from 19 to 20"' in class_page(results)
