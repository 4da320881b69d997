import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from grading.core.results import Figure, Part
from grading.problems.zero_shot import ZeroShotResult, zero_shot_result
from grading.reports.terminal import problem_table, submission_table, to_json
from grading.reports.visibility import NO_POINTS
from tests.grading.reported import WITHOUT_POINTS, hostile_result, problem_results, submission_result, summed

PLAIN = {"file": None, "width": 100, "highlight": False, "soft_wrap": True}

EMBEDDED = "judged by the embedded judges: scores are not the official ones"


def printed(result):
    table = submission_table(result) if hasattr(result, "lines") else problem_table(result)
    console = Console(**PLAIN | {"file": io.StringIO()})
    console.print(table)
    return console.file.getvalue()


def cells(text):
    """The cells of every row of every table."""
    return [re.split(r"\s*│\s*", row.strip("│ \n")) for row in text.splitlines() if "│" in row]


def test_the_table_has_a_row_per_line_and_their_sum():
    rows = cells(printed(submission_result()))
    assert ["Problem 1, simple baseline (embedded judge)", "10", "10", "pass"] in rows
    assert ["Problem 3, private prompts (private)", "?", "10", "could not check"] in rows
    assert ["Report, problem 1", "12", "15", "pass"] in rows
    assert ["Late", "-11.1"] in [row[:2] for row in rows]
    assert ["total", "25.9", "70"] in [row[:3] for row in rows]
    starts = [row[0] for row in rows[:-1] if len(row) > 1]  # without the rest of a folded title
    titles = [line.title for line in submission_result().lines]
    assert len(starts) == len(titles)
    assert all(title.startswith(start.split(" (")[0]) for title, start in zip(titles, starts, strict=True))
    (folded,) = (row for row in rows if row[0].startswith("Problem 3, public prompt “A corgi on a bench,"))
    assert folded[1:] == ["0", "5", "fail"]


def test_the_row_of_a_line_names_judges_that_are_not_official():
    result = submission_result()
    of_kinds = {}
    for kinds in (("official", "official"), ("official", "custom"), ("embedded", "custom")):
        judges = [replace(judge, kind=kind) for judge, kind in zip(result.results[0].judges, kinds, strict=True)]
        judged = replace(result, results=[replace(result.results[0], judges=judges)])
        of_kinds[kinds] = [row[0] for row in cells(printed(judged)) if row[0].startswith("Problem 1, simple")]
    assert list(of_kinds.values()) == [
        ["Problem 1, simple baseline"],
        ["Problem 1, simple baseline (custom judge)"],
        ["Problem 1, simple baseline (custom and embedded judge)"],
    ]
    private = replace(result.lines[0], part=Part.PRIVATE)
    judged = replace(result, lines=[private], results=[replace(result.results[0], part=Part.PRIVATE)])
    assert "Problem 1, simple baseline (private, embedded judge)" in printed(judged)


def test_the_row_of_a_line_follows_its_points_and_status():
    result = submission_result()
    lines = [replace(line, points=3.5, status="fail") if line.name == "1 simple" else line for line in result.lines]
    rows = cells(printed(summed(result, lines)))
    assert ["Problem 1, simple baseline (embedded judge)", "3.5", "10", "fail"] in rows
    assert ["total", "19.4", "70"] in [row[:3] for row in rows]


def test_every_line_warning_and_failed_stage_says_its_sentence():
    text, result = printed(submission_result()), submission_result()
    failed = [stage for stage in result.stages if stage.status != "pass"]
    assert len(failed) == 3
    for said in (*result.lines, *result.warnings, *failed):
        assert said.message in text
    assert "hw2_1.sh ran to its end" not in text
    assert "MemoryError" in text
    assert all(f"line {shown}" in text for shown in (1, 38, 39))
    assert "[.. 36 lines left out ..]" in text  # eight lines of a log
    assert "minus  Late: 1 day late after the free days: 30 % of 37 points deducted." in text
    assert "10 of 70 points could not be checked" in text
    assert text.endswith(f"verdict  error, {EMBEDDED}\n")


def test_the_gpu_memory_of_a_run_stands_beside_its_time_if_it_was_measured():
    (stage, *_) = (stage for stage in submission_result().stages if stage.status == "fail")
    texts = {}
    for used in (None, 0, 21 * 2**30):
        ran = replace(stage, seconds=61.0, gpu_bytes=used, message="It was stopped.")
        texts[used] = printed(replace(submission_result(), stages=[ran]))
    assert f"{stage.stage} (1:01 min, 21.0 GiB on the GPU): It was stopped." in texts[21 * 2**30]
    assert f"{stage.stage} (1:01 min): It was stopped." in texts[None]
    assert texts[0] == texts[None]


def test_the_cpu_time_of_a_run_stands_beside_its_time_if_it_was_measured():
    (stage, *_) = (stage for stage in submission_result().stages if stage.status == "fail")
    ran = replace(stage, seconds=61.0, cpu_seconds=4.25, message="It was stopped.")
    text = printed(replace(submission_result(), stages=[ran]))
    assert f"{stage.stage} (1:01 min, 4.2 s of CPU time): It was stopped." in text
    assert "CPU time" not in printed(submission_result())


def test_unexpected_errors_are_named_with_what_was_raised():
    text = printed(submission_result())
    assert "hw2_3.sh private: OSError: PRIVATE disk is full" in text
    assert "Problem 3: concepts, private prompts: ValueError: PRIVATE value" in text
    assert 'File "run.py"' not in text
    assert "ValueError: PRIVATE value" in printed(problem_results()[-1])


def test_what_went_well_says_no_more_than_its_lines():
    result = submission_result()
    passed = replace(result, stages=result.stages[:4], results=result.results[:1], warnings=[])
    text = printed(summed(passed, result.lines[:1]))
    for heading in ("Stages that did not pass", "Warnings", "Unexpected", "could not", "not known"):
        assert heading not in text
    assert text.endswith(f"verdict  pass, {EMBEDDED}\n")


def test_without_points_the_table_shows_scores_and_says_why():
    text = printed(submission_result(homework=WITHOUT_POINTS))
    rows = cells(text)
    assert ["Problem 1, simple baseline (embedded judge)", "pass"] in rows
    assert ["Problem 3, private prompts (private)", "could not check"] in rows
    assert rows[-1] == ["passed", "3 of 7"]
    assert NO_POINTS in text
    assert "0 of 0" not in text
    assert NO_POINTS not in printed(submission_result())


def test_a_problem_shows_its_tables_headline_figures_judges_and_checks():
    digits, faces, _, concepts, _ = problem_results()
    rows = cells(printed(digits))
    assert ["digit 8", "100%", "70%"] in rows
    assert ["mean accuracy", "94.00%", "at least 90.00%"] in [row[:3] for row in rows]
    assert ["SVHN accuracy", "91.00%", "", "88.17% to 93.21%"] in rows
    assert "mnistm (embedded, abababab), svhn (embedded, abababab)" in printed(digits)
    rows = cells(printed(faces))
    assert ["01.png", "0.2700", "53.82 dB", "0.9845"] in rows
    assert ["MSE", "0.2600", "below 20.0000"] in rows
    rows = cells(printed(concepts))
    assert ["0/1 A corgi on a bench, the Colosseum behind.", "76.00 of 74.00", "34.50 of 35.00"] in rows
    assert ["prompts passed", "1", "at least 2"] in rows
    assert "warning  hw2_3.sh ended with exit status 1" in printed(concepts)
    for result in problem_results():
        assert printed(result).startswith(f"{result.title}\n")
        who = f", {EMBEDDED}" if result.judges else ""
        assert printed(result).endswith(f"verdict  {result.status}{who}\n")
        for check in result.checks:
            assert f"{check.status:>7}  {check.message}\n" in printed(result)


def test_zero_shot_shows_its_classes():
    graded = ZeroShotResult("pass", 0.5625, 9, 16, (0.33, 0.77), {"cat": 0.25, "dog": 0.875})
    rows = cells(printed(zero_shot_result(graded)))
    assert ["dog", "88%"] in rows
    assert ["accuracy", "56.25%", "33.00% to 77.00%"] in rows


@pytest.mark.parametrize(
    ("figure", "row"),
    [
        (Figure("a", "IoU", None, "%"), ["IoU", "-"]),
        (Figure("a", "IoU", 0.125, "%", 1, baseline=0.5), ["IoU", "12.5%", "at least 50.0%"]),
        (Figure("a", "time", 1.25, "s", 1, baseline=2.0, higher_is_better=False), ["time", "1.2 s", "below 2.0"]),
    ],
)
def test_any_figure_is_shown_with_its_unit_and_what_is_expected(figure, row):
    result = replace(problem_results()[0], title="Problem 9: masks", figures=[figure])
    assert cells(printed(result)) == [row]


def test_a_place_of_a_table_without_a_figure_is_a_dash():
    figures = [
        Figure("a", "a", 1.0, table="t", row="first", column="x"),
        Figure("a", "a", None, table="t", row="second", column="x"),
        Figure("a", "a", 2.0, table="t", row="second", column="y"),
    ]
    result = replace(problem_results()[0], figures=figures)
    assert cells(printed(result)) == [["first", "1.00", "-"], ["second", "-", "2.00"]]


def test_colours_tell_whether_a_baseline_is_reached():
    console = Console(**PLAIN | {"file": io.StringIO(), "force_terminal": True, "color_system": "standard"})
    console.print(problem_table(problem_results()[3]))
    text = console.file.getvalue()
    assert "\x1b[32m76.00 of 74.00" in text
    assert "\x1b[31m34.50 of 35.00" in text


def test_no_hostile_text_steers_the_terminal():
    result = hostile_result()
    for text in (printed(result), *map(printed, result.results)):
        assert all(character.isprintable() or character == "\n" for character in text)
        assert "…" not in text  # nothing is cut
    assert "[bold]markup[/bold]" in printed(result)
    result = submission_result("[red]n[/red]")
    result = replace(result, lines=[replace(result.lines[0], title="[red]t[/red]")])
    assert "│ [red]t[/red] (embedded judge) │" in printed(result)
    assert "Submission [red]n[/red]" in printed(result)


def test_json_survives_every_name():
    written = to_json(hostile_result())
    written.encode("ascii")
    assert json.loads(written)["submission"] == hostile_result().submission


def test_json_is_any_results_with_sorted_keys():
    result = problem_results()[1]
    found = json.loads(to_json(result))
    assert list(found) == sorted(found)
    assert (found["problem"], found["part"], found["figures"][0]["value"]) == (2, Part.PUBLIC, pytest.approx(0.26))
    with pytest.raises(ValueError):
        to_json(replace(result, details={"x": float("nan")}))
