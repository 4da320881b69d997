import io
import json
import re
from dataclasses import replace

from rich.console import Console

from grading.reports.terminal import submission_table, to_json
from tests.grading.reported import hostile_result, submission_result


def printed(result):
    console = Console(file=io.StringIO(), width=100, highlight=False, soft_wrap=True)
    console.print(submission_table(result))
    return console.file.getvalue()


def test_the_table_has_a_row_per_line_and_their_sum():
    rows = [re.split(r"\s*│\s*", row.strip("│ \n")) for row in printed(submission_result()).splitlines()]
    assert ["1 simple", "Problem 1, simple baseline", "10", "10", "pass"] in rows
    assert ["3 private 0/0", "Problem 3, private prompt 0/0 (private)", "?", "3.33", "could not check"] in rows
    assert ["total", "", "24.15", "68.33"] in [row[:4] for row in rows]
    assert ["late", "Late", "-10.35"] in [row[:3] for row in rows]


def test_every_line_warning_and_failed_stage_says_its_sentence():
    text, result = printed(submission_result()), submission_result()
    failed = [stage for stage in result.stages if stage.status != "pass"]
    for said in (*result.lines, *result.warnings, *failed):
        assert said.message in text
    assert "hw2_1.sh ran to its end" not in text
    assert "MemoryError" in text
    assert "line 30" not in text  # eight lines of a log
    assert "minus  Late: 1 days late" in text
    assert "3.33 of 68.33 points could not be checked" in text
    assert text.endswith("verdict  error\n")


def test_what_went_well_says_no_more_than_its_lines():
    result = submission_result()
    text = printed(replace(result, lines=result.lines[:1], stages=result.stages[:4], warnings=[], status="pass"))
    assert "Stages that did not pass" not in text
    assert "Warnings" not in text
    assert text.endswith("verdict  pass\n")


def test_no_hostile_text_steers_the_terminal():
    text = printed(hostile_result())
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "[bold]markup[/bold]" in text
    result = submission_result("[red]n[/red]")
    result = replace(result, lines=[replace(result.lines[0], name="[red]l[/red]", title="[red]t[/red]")])
    assert "│ [red]l[/red] │ [red]t[/red] │" in printed(result)
    assert "Submission [red]n[/red]" in printed(result)


def test_json_survives_every_name():
    written = to_json(hostile_result())
    written.encode("ascii")
    assert json.loads(written)["submission"] == hostile_result().submission
