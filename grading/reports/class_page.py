"""One page for staff with all submissions of a class."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from urllib.parse import quote

from grading.core.results import SubmissionResult
from grading.homeworks.homework import Homework
from grading.reports import class_statistics as statistics
from grading.reports.conditions import as_sentence, banner, conditions
from grading.reports.submission_page import environment
from grading.reports.todo import staff_tasks
from grading.reports.visibility import has_points, has_private, log_tail, passed_lines

SHOWN = 10
"""Number of slowest runs on the page."""


def class_page(
    results: Sequence[SubmissionResult],
    homework: Homework,
    alike: Sequence[statistics.Likeness] = (),
    places: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The page of a class, self-contained like `submission_page`.

    places: the folders that its links lead to, by the name of the submission, relative to the page; by default
    students/NAME.
    """
    checked = [result for result in results if not result.unchecked]
    passed = {id(result): passed_lines(result) for result in results}
    return environment().get_template("class.html").render(
        results=sorted(results, key=lambda result: (-result.points, -passed[id(result)][0])),
        by_name=sorted(results, key=lambda result: result.submission.casefold()),
        line_of=lambda result, name: next((line for line in result.lines if line.name == name), None),
        homework=homework,
        private=any(map(has_private, results)),
        has_points=all(map(has_points, results)),
        conditions=as_sentence(conditions(*results)),
        banner=banner(*results),
        passed=passed_lines,
        points=statistics.points_summary(checked),
        bins=statistics.bins(checked),
        rates=statistics.line_rates(results),
        means=statistics.mean_tables(results),
        slowest=statistics.slowest(results, SHOWN),
        failed=[(result, stage) for result in results for stage in result.stages if stage.status != "pass"],
        undone=[result for result in results if result.status == "error"],
        tasks=staff_tasks(results),
        named={result.submission: result for result in results},
        alike=alike,
        outliers=statistics.outliers(results),
        warned=[result for result in results if result.warnings],
        link=functools.partial(report_link, places=places),
        last_words=lambda stage: log_tail(stage.log, 3),
        rule=statistics.OUTLIER,
        fewest=statistics.FEWEST,
    )  # fmt: skip


def report_link(result: SubmissionResult, places: Mapping[str, str] = MappingProxyType({})) -> str:
    """The relative URL of a submission's page. places: see `class_page`."""
    name = result.submission
    parts = places[name].split("/") if name in places else ["students", name]
    # surrogateescape restores the bytes of a folder's name that are not UTF-8
    return "/".join(quote(part.encode(errors="surrogateescape"), safe="") for part in (*parts, "report.html"))
