import csv
import io
import re
from dataclasses import replace
from urllib.parse import unquote_to_bytes

import pytest

from grading.core.results import Figure, Part
from grading.homeworks.fall2024 import DIGITS, FALL2024
from grading.reports.class_page import class_page, report_link
from grading.reports.class_statistics import bins, far_values, line_rates, mean_tables, outliers
from grading.reports.scores_csv import scores_csv
from grading.reports.visibility import NO_POINTS
from tests.grading.reported import (
    HOSTILE_NAME,
    WITHOUT_POINTS,
    digits_result,
    hostile_result,
    regraded,
    submission_result,
    summed,
)


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
    return summed(result, lines)


def test_the_table_has_a_row_per_submission_and_a_column_per_line():
    (row,) = rows([submission_result()])
    assert row["submission"] == "r12345678"
    assert row["status"] == "error"
    assert [float(row[c]) for c in ("points", "max_points", "unchecked")] == [25.9, 70, 10]
    assert float(row["1 simple"]) == 10
    assert float(row["1 strong"]) == 0
    assert row["3 private"] == "not checked"
    assert float(row["late"]) == -11.1
    assert float(row["seconds hw2_1.sh"]) == 412.25
    assert row["warnings"] == "1"


def test_the_table_says_why_points_were_lost_in_the_words_of_the_pages():
    result = submission_result()
    (row,) = rows([result])
    failed = [line for line in result.lines if line.status == "fail"]
    assert failed
    assert row["lost_points"] == " | ".join(f"{line.name}: {line.message}" for line in failed)


def test_the_table_names_each_judge_with_its_kind_once():
    result = submission_result()
    assert rows([result])[0]["judges"] == "mnistm (embedded), svhn (embedded), clip (embedded)"
    official = [replace(judge, kind="official") for judge in result.results[0].judges]
    results = [replace(result.results[0], judges=official), *result.results[1:]]
    (mixed, without) = rows([replace(result, results=results), regraded(result, [])])
    assert mixed["judges"] == "mnistm (official), svhn (official), clip (embedded)"
    assert without["judges"] == ""


def test_a_line_that_a_submission_lacks_is_empty_and_columns_stay_in_order():
    short = replace(submission_result("r2"), lines=submission_result().lines[:2], stages=[], results=[])
    first, second = rows([short, submission_result("r1")])
    assert first["2 public"] == first["2 public MSE"] == first["seconds hw2_1.sh"] == ""
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
    assert row["late"] == "-11.1"


def test_hostile_lines_make_no_formula_either():
    text = scores_csv([hostile_result()])
    text.encode()
    for row in csv.reader(io.StringIO(text)):
        for cell in row:
            assert not re.match(r"\s*[=+@]", cell)
            assert not re.match(r"\s*-(?![\d.]+$)", cell)


def test_an_empty_class_is_a_header():
    first, last = (
        '"submission","status","points","max_points","unchecked"',
        '"warnings","could_not_check","lost_points","judges"',
    )
    assert scores_csv([]) == f"{first},{last}\n"


def test_pass_rates_leave_out_what_could_not_be_checked():
    results = [rescored("a"), rescored("b", **{"1 strong": 5.0, "3 private": 10.0}), rescored("c")]
    rates = {rate.name: rate for rate in line_rates(results)}
    assert rates["1 strong"].share == pytest.approx(1 / 3)
    assert rates["1 strong"].points == pytest.approx(5 / 3)
    assert rates["3 private"].share == 1.0
    assert rates["3 private"].unchecked == 2
    assert rates["3 private"].points == 10
    assert rates["report 1"].share is None
    assert "late" not in rates


def test_a_line_that_nobody_could_check_has_no_rate():
    (rate,) = [rate for rate in line_rates([submission_result()]) if rate.name == "3 private"]
    assert (rate.share, rate.points, rate.unchecked) == (None, None, 1)


def test_means_are_over_those_who_have_a_value():
    few = DIGITS.result(replace(digits_result(), per_digit={"mnistm": {"0": 0.5}, "svhn": {}}))
    results = [regraded(submission_result(), each) for each in (submission_result().results, [few], [])]
    means = {(mean.run, mean.table.title): mean.table for mean in mean_tables(results)}
    table = means["Problem 1: digits", "accuracy"]
    assert table.columns == ["MNIST-M", "SVHN"]
    assert table.rows == [f"digit {digit}" for digit in range(10)]
    assert table.cells["digit 0", "MNIST-M"].value == pytest.approx((0.96 + 0.5) / 2)
    assert table.cells["digit 1", "MNIST-M"].value == pytest.approx(0.96)
    assert table.cells["digit 8", "SVHN"].value == pytest.approx(0.7)
    assert mean_tables([regraded(submission_result(), [])]) == []


def test_means_of_prompts_are_by_part_and_prompt():
    (mean,) = [mean for mean in mean_tables([submission_result()] * 2) if mean.table.title == "prompt"]
    assert (mean.run, mean.private, mean.bars) == ("Problem 3: concepts, public prompts", False, False)
    assert [row.split()[0] for row in mean.table.rows] == ["0/0", "0/1"]
    image, text = (mean.table.cells[mean.table.rows[1], column] for column in ("image score", "text score"))
    assert (image.value, image.baseline) == (76.0, 74.0)
    assert (text.value, text.baseline) == (34.5, 35.0)


def test_means_of_any_problem_stand_in_tables_and_private_ones_are_marked():
    def with_value(value):
        figure = Figure("iou", "IoU of 1", value, table="mask", row="1", column="IoU")
        result = replace(submission_result().results[2], title="Problem 2: masks", figures=[figure])
        return replace(submission_result(), results=[result])

    (mean,) = mean_tables([with_value(0.5), with_value(None), with_value(1.0)])
    assert (mean.run, mean.private) == ("Problem 2: masks", True)
    assert mean.table.cells["1", "IoU"].value == 0.75
    (mean,) = mean_tables([with_value(None)])
    assert mean.table.cells["1", "IoU"].value is None


def test_every_submission_is_in_one_bar_of_the_histogram():
    points = [0.0, 2.99, 3.0, 50.0, 60.0]
    found = bins([replace(submission_result(), points=p, max_points=60.0) for p in points])
    assert [b.count for b in found] == [2, 1] + [0] * 14 + [1, 0, 0, 1]
    assert (found[0].low, found[0].high, found[-1].high) == (0, 3, 60)
    assert sum(b.count for b in bins([submission_result()])) == 1
    assert bins([]) == []


def test_the_histogram_ends_at_the_most_points_whatever_its_bars():
    results = [replace(submission_result(), points=p, max_points=25.0, unchecked=0.0) for p in (0.0, 23.9, 24.0, 25.0)]
    found = bins(results)
    assert [(b.low, b.high, b.count) for b in found if b.count] == [(0, 2, 1), (22, 24, 1), (24, 25, 2)]
    page = class_page(results, FALL2024)
    assert "2 from 24 to 25" in page
    ticks = re.findall(r'<text x="([\d.]+)" y="163" text-anchor="middle">([\d.]+)</text>', page)
    assert [(float(x), float(points)) for x, points in ticks] == [(12 + 24 * p, p) for p in (0, 8, 16, 25)]
    last = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', page)[-1]
    assert tuple(map(float, last)) == (12 + 24 * 24 + 1.5, 24 - 3)


@pytest.mark.parametrize("most", [0.5, 1.0, 20.1, 37.5, 40.0])
def test_no_bar_of_the_histogram_has_a_negative_width(most):
    page = class_page([replace(submission_result(), points=most, max_points=most, unchecked=0.0)], FALL2024)
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([^"]+)"', page)]
    assert len(widths) == 1
    assert widths[0] > 0


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
    page = class_page([submission_result("r1"), submission_result("r2")], FALL2024)
    assert "2 submissions not fully checked." in page
    assert "hw2_2.sh was stopped: it ran longer than 5 minutes." in page
    assert "MemoryError" in page
    assert "6:52 min" in page
    assert "12 of 500 images" in page
    assert "2 could not be checked" in page
    assert "modified z-score" not in page  # no outliers among two


def test_the_histogram_is_told_in_words():
    made = [replace(submission_result(f"r{i}"), points=p, max_points=20.0) for i, p in enumerate([0.5, 0.7, 19.0, 0.0])]
    results = [*(replace(each, unchecked=0.0) for each in made[:3]), made[3]]  # the last one is not checked completely
    assert 'aria-label="Histogram of points: 2 from 0 to 1; 1 from 19 to 20"' in class_page(results, FALL2024)


def test_outliers_are_looked_for_in_headline_figures_that_can_give_points():
    def with_figures(name, value):
        figures = [
            Figure("a", "counted", value),
            Figure("b", "informative", value, informative=True),
            Figure("c", "one of many", value, table="t", row="r", column="c"),
            Figure("d", "unknown", None),
        ]
        result = replace(submission_result().results[1], figures=figures, part=Part.PUBLIC)
        return replace(submission_result(name), results=[result])

    found = outliers([*(with_figures(f"r{i}", 1.0) for i in range(8)), with_figures("odd", 5.0)])
    assert [(o.submission, o.figure) for o in found] == [("odd", "Problem 2: faces, public noises: counted")]


def test_headline_figures_have_columns_in_the_table():
    (row,) = rows([submission_result()])
    assert float(row["1 mean accuracy"]) == 0.94
    assert float(row["2 public MSE"]) == 0.26
    assert float(row["2 private MSE"]) == 676
    assert float(row["3 public prompts passed"]) == 1
    assert "3 private prompts passed" not in row


def test_without_points_page_and_table_say_so_and_show_what_passed():
    results = [submission_result(f"r{i}", WITHOUT_POINTS) for i in range(2)]
    (row, _) = rows(results)
    assert [row[c] for c in ("points", "max_points", "unchecked")] == ["not known"] * 3
    assert (row["1 simple"], row["1 strong"], row["3 private"]) == ("pass", "fail", "not checked")
    page = class_page(results, WITHOUT_POINTS)
    assert NO_POINTS in page
    assert "Its official baselines were never published." in page
    assert '3 <span class="soft">of 7 passed</span>' in page
    for absent in ("Mean points", "points, median", "/ 0<", "Histogram"):
        assert absent not in page
    assert "2 submissions not fully checked." in page
    usual = class_page([submission_result()], FALL2024)
    assert NO_POINTS not in usual
    assert "Mean points" in usual


def test_the_page_names_its_homework():
    assert "<title>Class – DLCV Fall 2024, homework 2</title>" in class_page([], FALL2024)
    assert "Homework without points · for staff" in class_page([], WITHOUT_POINTS)


def test_one_submission_is_one_submission():
    page = class_page([submission_result()], FALL2024)
    assert ">1 submission<" in page
    assert "1 submission not fully checked." in page
    assert ">1 warning<" in page


def test_only_scripts_of_problems_have_times():
    result = submission_result()
    again = replace(result.stages[3], stage="hw2_1.sh twice", kind="repeat", seconds=9999.0)
    result = replace(result, stages=[*result.stages, again])
    (row,) = rows([result])
    assert [column for column in row if column.startswith("seconds ")] == [
        f"seconds hw2_{name}" for name in ("1.sh", "2.sh public", "2.sh private", "3.sh public", "3.sh private")
    ]
    slowest = class_page([result], FALL2024).split(">Slowest runs</h2>")[1].split("<h2")[0]
    assert "hw2_1.sh</bdi>" in slowest
    assert "twice" not in slowest
    assert "fetch" not in slowest


def table_of(page, first):
    """The cells of a table of submissions, without markup."""
    part = re.search(rf'<th scope="col">{first}</th>.*?</table>', page, re.DOTALL)[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in part.split("<tr>")]
    return [[" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in row] for row in rows]


def test_the_class_has_a_column_for_each_line_by_points_and_by_name():
    low, high = rescored("a"), rescored("B", **{"1 strong": 5.0})
    page = class_page([low, high], FALL2024)
    header, *rows = table_of(page, "Submission, most points first")
    assert header[1:4] == ["Points", "1, simple baseline", "1, strong baseline"]
    assert "3, public prompt “A corgi on a bench.”" in header
    assert [row[0] for row in rows] == [
        "? could not check B 1 warning 10 not checked", "? could not check a 1 warning 10 not checked",
    ]  # fmt: skip
    assert [row[2:4] for row in rows] == [["10", "5"], ["10", "0"]]
    assert rows[0][header.index("3, private prompts")] == "? could not check"
    assert [row[0].split()[4] for row in table_of(page, "Submission, by name")[1:]] == ["a", "B"]


def test_pass_rates_stand_above_the_submissions():
    page = class_page([submission_result()], FALL2024)
    assert page.index('id="rates"') < page.index('id="submissions"')
    assert "By name" not in page  # of one submission
    assert "embedded judge" in page[page.index('id="rates"') : page.index('id="submissions"')]
