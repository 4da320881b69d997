"""A submission's result as JUnit XML, for tools that show test runs."""

from __future__ import annotations

from xml.etree import ElementTree

from grading.core.results import ScoreLine, StageResult, SubmissionResult
from grading.core.text import printable
from grading.points.lines import counted_points
from grading.reports.visibility import (
    NO_POINTS,
    has_points,
    is_deduction,
    log_tail,
    shown_points,
)

LOG_LINES = 200


def junit_xml(result: SubmissionResult) -> str:
    """JUnit XML with a test suite for each problem, for staff and for warnings, and a test case for each line.

    Lines that could not be checked are errors. Deductions and warnings count as skipped, because they neither pass nor
    fail. The XML contains private lines; see `visibility.public_part`. Characters that XML 1.0 lacks are escaped.
    """
    root = ElementTree.Element("testsuites", name=printable(result.submission))
    pointed = has_points(result)
    if not pointed:
        properties = ElementTree.SubElement(root, "properties")
        ElementTree.SubElement(properties, "property", name="points", value=NO_POINTS)
    groups: dict[str, list[ScoreLine]] = {}
    for line in result.lines:
        groups.setdefault(f"Problem {line.problem}" if line.kind == "score" else "Staff", []).append(line)
    for name, lines in groups.items():
        _add_suite(root, name, lines, result, pointed)
    if result.warnings:
        suite = ElementTree.SubElement(root, "testsuite", name="Warnings for staff")
        for check in result.warnings:
            case = ElementTree.SubElement(suite, "testcase", classname="warnings", name=printable(check.name))
            ElementTree.SubElement(case, "skipped", message=printable(check.message))
        _count(suite, 0.0)
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root.iter("testsuite"))))
    root.set("time", f"{sum(stage.seconds for stage in result.stages):.3f}")
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _add_suite(
    root: ElementTree.Element, name: str, lines: list[ScoreLine], result: SubmissionResult, pointed: bool
) -> None:
    suite = ElementTree.SubElement(root, "testsuite", name=name)
    stages = {stage.stage: stage for line in lines for stage in result.stages_of(line)}
    for line in lines:
        _add_line(suite, name, line, result.stages_of(line), pointed)
    if logs := "\n\n".join(_story(stage, LOG_LINES) for stage in stages.values()):
        ElementTree.SubElement(suite, "system-out").text = logs
    _count(suite, sum(stage.seconds for stage in stages.values()))


def _add_line(suite: ElementTree.Element, name: str, line: ScoreLine, stages: list[StageResult], pointed: bool) -> None:
    """Add a test case. Its class is the problem, so that tools group by it."""
    case = ElementTree.SubElement(
        suite, "testcase", classname=name.lower().replace(" ", "_"), name=printable(line.name)
    )
    said = printable(line.message)
    if is_deduction(line):
        said = f"{counted_points(line.points or 0.0)}. {said}"
        ElementTree.SubElement(case, "skipped", message=said)
        return
    if pointed:
        said = f"{shown_points(line.points)} of {counted_points(line.max_points)}. {said}"
    if line.status == "pass":
        ElementTree.SubElement(case, "system-out").text = said
        return
    kind = "error" if line.status == "error" else "failure"
    reason = ElementTree.SubElement(case, kind, message=said, type="unchecked" if kind == "error" else "points")
    reason.text = "\n\n".join(_story(stage) for stage in stages if stage.status != "pass")


def _story(stage: StageResult, lines: int = 20) -> str:
    return "\n".join([f"{printable(stage.stage)}: {printable(stage.message)}", *log_tail(stage.log, lines)])


def _count(suite: ElementTree.Element, seconds: float) -> None:
    """Set the totals of a suite, which many tools expect as attributes."""
    suite.set("tests", str(len(suite.findall("testcase"))))
    for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(key, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("time", f"{seconds:.3f}")
