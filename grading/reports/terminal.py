"""Results as tables for people and as JSON for programs."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from grading.core.results import Check, Figure, ProblemResult, ScoreLine, StageResult, SubmissionResult
from grading.core.text import printable
from grading.reports import figures
from grading.reports.conditions import banner, conditions, judged_by, line_judges
from grading.reports.visibility import (
    NO_POINTS,
    OUTCOMES,
    has_points,
    is_deduction,
    log_tail,
    passed_lines,
    shown_cpu_time,
    shown_gpu_memory,
    shown_points,
    shown_seconds,
    tracebacks,
    unchecked_sentence,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

STYLES = {"pass": "green", "fail": "red", "warning": "yellow", "error": "magenta"}

STAGE_LINES = 8
"""Number of lines of a failed script's log that are shown. The JSON has the log."""


def to_json(result: DataclassInstance) -> str:
    """One JSON object with sorted keys and without NaN. It is ASCII only, so that any file name survives."""
    return json.dumps(asdict(result), indent=2, sort_keys=True, allow_nan=False) + "\n"


def problem_table(result: ProblemResult) -> RenderableType:
    """A problem's tables, headline figures, judges, checks and verdict."""
    shown: list[RenderableType] = [*map(_figure_table, figures.tables(result.figures))]
    if figures.headlines(result.figures):
        shown.append(_headline_table(result.figures))
    if result.judges:
        shown.append(_judges(result))
    if result.ended:
        shown.append(_line(Check("ended", "warning", result.ended)))
    shown += map(_line, result.checks)
    shown += _traceback(result.title, result.traceback)
    return Group(Text(printable(result.title), "bold"), *shown, _verdict(result.status, judged_by(result.judges)))


def _figure_table(shown: figures.FigureTable) -> Table:
    """Figures in rows and columns. A figure with a baseline shows it and has the colour of its outcome."""
    table = Table()
    table.add_column(Text(printable(shown.title)), overflow="fold")
    for column in shown.columns:
        table.add_column(Text(printable(column)), justify="right", overflow="fold")
    for row in shown.rows:
        cells = (shown.cells.get((row, column)) for column in shown.columns)
        table.add_row(Text(printable(row)), *(_value(figure) if figure else Text("-") for figure in cells))
    return table


def _headline_table(all_figures: list[Figure]) -> Table:
    """The headline figures with their baselines and intervals. Empty columns are left out."""
    shown = figures.headlines(all_figures)
    expected, interval = map(figures.shown_baseline, shown), map(figures.shown_interval, shown)
    columns = {"expected": list(expected), "95 % interval": list(interval)}
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    table = Table()
    table.add_column("figure", overflow="fold")
    for column in ("value", *columns):
        table.add_column(column, justify="right")
    for index, figure in enumerate(shown):
        title = Text(printable(figure.title), "" if figure.informative else "bold")
        value = Text(figures.shown_value(figure, "-"), _style(figure))
        table.add_row(title, value, *(cells[index] for cells in columns.values()))
    return table


def _value(figure: Figure) -> Text:
    value, limit = figures.shown_value(figure, "-"), figures.shown_limit(figure)
    return Text(f"{value} of {limit}" if limit else value, _style(figure))


def _style(figure: Figure) -> str:
    reached = figures.reached(figure)
    return "" if reached is None else STYLES["pass" if reached else "fail"]


def _judges(result: ProblemResult) -> Text:
    names = (f"{judge.name} ({judge.kind}, {judge.sha256[:8]})" for judge in result.judges)
    return Text.assemble(("judges".rjust(7), "bold"), "  ", printable(", ".join(names)))


def submission_table(result: SubmissionResult) -> RenderableType:
    """A submission's points, lines, failed stages, errors, warnings and verdict."""
    failed = [text for stage in result.stages if stage.status != "pass" for text in _stage(stage)]
    unexpected = [text for where, trace in tracebacks(result) for text in _traceback(where, trace)]
    unchecked = unchecked_sentence(result)
    return Group(
        *([Text(said, "bold")] if (said := banner(result)) else []),
        _line_table(result),
        *map(_sentence, result.lines),
        *([Text("Stages that did not pass", "bold"), *failed] if failed else []),
        *([Text("Unexpected errors of the grader", "bold"), *unexpected] if unexpected else []),
        *([Text("Warnings for staff", "bold"), *map(_line, result.warnings)] if result.warnings else []),
        *([_line(Check("unchecked", "error", unchecked))] if unchecked else []),
        *([] if has_points(result) else [Text(NO_POINTS, "bold")]),
        _verdict(result.status, conditions(result)),
    )


def _line_table(result: SubmissionResult) -> Table:
    """A row per line of the score, which names judges that are not official, and the sum.

    Points are left out if the homework's are not known.
    """
    pointed = has_points(result)
    table = Table(title=Text(f"Submission {printable(result.submission)}"), title_justify="left")
    table.add_column("line", overflow="fold")
    for column in ("points", "of") if pointed else ():
        table.add_column(column, justify="right")
    table.add_column("")
    for line in result.lines:
        most = "" if is_deduction(line) else shown_points(line.max_points)
        outcome = Text("") if is_deduction(line) else Text(OUTCOMES[line.status], STYLES[line.status])
        notes = ", ".join(filter(None, ["private" if line.private else "", line_judges(result, line)]))
        title = Text(printable(line.title) + (f" ({notes})" if notes else ""))
        points = (shown_points(line.points), most) if pointed else ()
        table.add_row(title, *points, outcome)
    table.add_section()
    if pointed:
        total, most = shown_points(result.points), shown_points(result.max_points)
        table.add_row(Text("total", "bold"), Text(total, "bold"), Text(most, "bold"), "")
    else:
        table.add_row(Text("passed", "bold"), Text("{} of {}".format(*passed_lines(result)), "bold"))
    return table


def _sentence(line: ScoreLine) -> Text:
    if is_deduction(line):
        return Text.assemble(("minus".rjust(7), STYLES["warning"]), "  ", printable(f"{line.title}: {line.message}"))
    return _line(Check(line.name, line.status, f"{line.title}: {line.message}"))


def _stage(stage: StageResult) -> Iterator[Text]:
    """The message of a stage, and the last lines that its script printed."""
    used = [shown_seconds(stage.seconds) if stage.seconds else "", shown_cpu_time(stage), shown_gpu_memory(stage)]
    took = f" ({', '.join(filter(None, used))})" if any(used) else ""
    yield _line(Check(stage.stage, stage.status, f"{stage.stage}{took}: {stage.message}"))
    if stage.cause and stage.cause.remedy:
        yield Text(f"         To do: {printable(stage.cause.remedy)}.")
    for line in log_tail(stage.log, STAGE_LINES):
        yield Text(f"         | {line}", "dim")


def _traceback(where: str, traceback: str) -> Iterator[Text]:
    """The exception and its place. The JSON and the page for staff have the whole traceback."""
    for reason in map(printable, traceback.splitlines()[-1:]):
        yield _line(Check("traceback", "error", f"{where}: {reason} (the JSON has the traceback)"))


def _line(check: Check) -> Text:
    return Text.assemble((f"{check.status:>7}", STYLES[check.status]), "  ", printable(check.message))


def _verdict(status: str, said: str) -> Text:
    """The outcome, with the conditions under which it holds."""
    return Text.assemble(("verdict", "bold"), "  ", (status, f"bold {STYLES[status]}"), f", {said}" if said else "")


def stdout_console() -> Console:
    """A console for results on stdout. It does not cut long names, and escapes characters that it lacks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return Console(highlight=False, soft_wrap=True)
