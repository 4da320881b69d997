"""The conditions of a result: the judges and the time limits. Scores compare only under the same ones."""

from __future__ import annotations

from collections.abc import Iterable

from grading.core.results import Judge, ScoreLine, SubmissionResult

EMBEDDED = "Embedded default: small models of this project; not the official homework."


def banner(*results: SubmissionResult) -> str:
    """A sentence if any submission was graded with the embedded homework; otherwise empty."""
    return EMBEDDED if any(result.record.get("embedded") for result in results) else ""


def line_judges(result: SubmissionResult, line: ScoreLine) -> str:
    """The judges of a line that are not official, such as "embedded judge"; empty if all are, or nobody judged."""
    run = result.of(line.problem, line.part) if line.problem is not None and line.kind == "score" else None
    kinds = sorted({judge.kind for judge in run.judges if judge.kind != "official"}) if run else []
    return f"{' and '.join(kinds)} judge" if kinds else ""


def conditions(*results: SubmissionResult) -> str:
    """The judges and the changed time limits of one submission or a class; empty if there are neither."""
    judges = [judge for result in results for each in result.results for judge in each.judges]
    scales = {result.record.get("time_scale", 1) for result in results} - {1}
    limits = [f"time limits x {scale:g}" for scale in sorted(scales)]
    return "; ".join(filter(None, [judged_by(judges), *limits]))


def judged_by(judges: Iterable[Judge]) -> str:
    """Who judged, such as "judged by the official judges"; a mixture is named. Empty if nobody judged."""
    judges = list(judges)
    found = {judge.kind for judge in judges}
    if not found:
        return ""
    if found == {"official"}:
        return "judged by the official judges"
    who = "the embedded judges" if found == {"embedded"} else ", ".join(judge_names(judges))
    return f"judged by {who}: scores are not the official ones"


def judge_names(judges: Iterable[Judge]) -> list[str]:
    """Each judge with its kind, such as "clip (embedded)", once."""
    return list(dict.fromkeys(f"{judge.name} ({judge.kind})" for judge in judges))


def as_sentence(text: str) -> str:
    """The text with a capital letter and a full stop; empty if it is empty."""
    return f"{text[0].upper()}{text[1:]}." if text else ""
