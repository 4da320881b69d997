"""A submission's result as JUnit XML, for tools that show test runs."""

from __future__ import annotations

from xml.etree import ElementTree

from grading.core.results import ScoreLine, StageResult, SubmissionResult
from grading.core.text import printable
from grading.reports.visibility import is_deduction, log_tail, shown_points, stages_of

LOG_LINES = 200


def junit_xml(result: SubmissionResult) -> str:
    """One test suite for each problem, one for what staff enter, one for warnings; a test case for each line.

    Lines that could not be checked are errors. Deductions and warnings neither pass nor fail: they count as skipped.
    Everything private is in it; see `excerpt.public_part`. Characters that XML 1.0 does not have are spelled out.
    """
    root = ElementTree.Element("testsuites", name=printable(result.submission))
    groups: dict[str, list[ScoreLine]] = {}
    for line in result.lines:
        groups.setdefault(f"Problem {line.name[0]}" if line.name[0] in "123" else "Staff", []).append(line)
    for name, lines in groups.items():
        suite = ElementTree.SubElement(root, "testsuite", name=name)
        stages = list({stage.stage: stage for line in lines for stage in stages_of(line, result)}.values())
        for line in lines:
            _add_line(suite, name, line, stages_of(line, result))
        if logs := "\n\n".join(_story(stage, LOG_LINES) for stage in stages):
            ElementTree.SubElement(suite, "system-out").text = logs
        _count(suite, sum(stage.seconds for stage in stages))
    if result.warnings:
        suite = ElementTree.SubElement(root, "testsuite", name="Warnings for staff")
        for check in result.warnings:
            case = ElementTree.SubElement(suite, "testcase", classname="warnings", name=printable(check.name))
            ElementTree.SubElement(case, "skipped", message=printable(check.message))
        _count(suite, 0.0)
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    root.set("time", f"{sum(stage.seconds for stage in result.stages):.3f}")
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _add_line(suite: ElementTree.Element, name: str, line: ScoreLine, stages: list[StageResult]) -> None:
    """A test case; its class is the problem, so that tools group by it."""
    case = ElementTree.SubElement(
        suite, "testcase", classname=name.lower().replace(" ", "_"), name=printable(line.name)
    )
    said = f"{shown_points(line.points)} of {shown_points(line.max_points)} points. {printable(line.message)}"
    if is_deduction(line):
        said = f"{shown_points(line.points)} points. {printable(line.message)}"
        ElementTree.SubElement(case, "skipped", message=said)
    elif line.status != "pass":
        kind = "error" if line.status == "error" else "failure"
        reason = ElementTree.SubElement(case, kind, message=said, type="unchecked" if kind == "error" else "points")
        reason.text = "\n\n".join(_story(stage) for stage in stages if stage.status != "pass")
    else:
        ElementTree.SubElement(case, "system-out").text = said


def _story(stage: StageResult, lines: int = 20) -> str:
    return "\n".join([f"{printable(stage.stage)}: {printable(stage.message)}", *log_tail(stage.log, lines)])


def _count(suite: ElementTree.Element, seconds: float) -> None:
    """Totals of a suite, which many tools want as attributes."""
    suite.set("tests", str(len(suite.findall("testcase"))))
    for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(key, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("time", f"{seconds:.3f}")
