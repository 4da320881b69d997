"""How each number is computed and where its rule comes from, in a few sentences."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from grading.core.errors import GradingError
from grading.core.text import counted, printable
from grading.homeworks.homework import Homework
from grading.problems.problem import Explanation, Problem


def explanations(homework: Homework) -> list[Explanation]:
    """All that a homework's results can name, in the order of a report."""
    problems = [each for problem in homework.problems for each in problem.explanations()]
    points = _of_points(homework) if homework.has_points else ()
    scripts = [_of_script(problem) for problem in homework.problems]
    return [*problems, *points, *GRADING[:4], *scripts, *GRADING[4:]]


def explain(name: str, homework: Homework) -> str:
    """A few sentences on a line, figure, stage or check. Raises GradingError if nothing has that name."""
    wanted = " ".join(name.lower().split())
    known = explanations(homework)
    for explanation in known:
        if re.fullmatch(explanation.pattern, wanted):
            return f"{explanation.name}: {explanation.text}\nSource: {explanation.source}"
    names = [explanation.name for explanation in known]
    close = difflib.get_close_matches(wanted, names, n=3)
    hint = f"perhaps {' or '.join(close)}; all are: " if close else ""
    raise GradingError(f"nothing is called {printable(name)!s:.80}; expected {hint}{', '.join(names)}")


def _of_points(homework: Homework) -> Iterator[Explanation]:
    for problem, points in homework.report.items():
        yield Explanation(
            f"report {problem}",
            rf"report {problem}" if problem > 1 else r"report( 1)?",
            f"Up to {points:g} points for a problem's part of the written report, given by staff who read it. Nothing "
            "is computed.",
            "the slides' points of each problem; staff's table.",
        )
    yield Explanation(
        "settled",
        r"settled([ _]\d)?",
        "Staff can give points for those lines of a problem that the grader could not check, for example after they "
        "ran the code by hand: from 0 to the sum of these lines, each of which gets the same share of its maximum. A "
        "line that was checked keeps its points.",
        "ours; staff's table.",
    )
    yield Explanation(
        "staff fixed",
        r"staff[ _]fixed",
        f"If staff had to fix the code to run it, {100 * homework.staff_fixed_share:g} % of the performance points "
        "(the problems without the report) are deducted.",
        "slides p44-45; staff's table.",
    )
    yield Explanation(
        "late",
        r"late|late[ _]days",
        f"{100 * homework.late_share_per_day:g} % of all points are deducted for each day late after the "
        f"{counted(homework.free_days, 'free day')} of a term: points * min({homework.late_share_per_day:g} * days, "
        "1). This comes after what is deducted because staff fixed the code.",
        "slides p44-45; staff's table.",
    )


def _of_script(problem: Problem) -> Explanation:
    parts = "|".join(f" {part}" for part in problem.parts)
    arguments = " ".join(problem.arguments)
    return Explanation(
        problem.script,
        rf"{re.escape(problem.script)}({parts})?",
        f"The script of Problem {problem.number} is called with {arguments}, runs without network, and has "
        f"{problem.seconds / 60:g} minutes. What it wrote counts even if it was stopped or failed afterwards.",
        f"{problem.source}.",
    )


GRADING = (
    Explanation(
        "zero-shot",
        r"zero[- _]?shot",
        "CLIP classifies pictures of classes that it was not trained on: it chooses the class whose sentence is "
        "nearest to the picture. The share of right answers is recomputed from predictions and file names, "
        "{class_id}_{image_id}.png. It belongs to the report and gives no points of its own. Usual: 56.48 % with "
        "“A photo of {object}.”",
        "slides (Problem 3, report); 56.48 %: two published reports.",
    ),
    Explanation(
        "copy",
        r"copy|collect",
        "The submission is copied, and everything runs in the copy. Pipes, sockets, devices and names that could "
        "lead elsewhere are left out and named.",
        "ours.",
    ),
    Explanation(
        "fetch",
        r"fetch|hw2_download_ckpt\.sh|download",
        "If there is a hw2_download_ckpt.sh, it runs first, and only it has the network. Nothing is lost if there is "
        "none.",
        "slides p35-38; the limit of an hour is ours.",
    ),
    Explanation(
        "freeze",
        r"freeze",
        "The files after the download are recorded. From then on scripts can read the submission but not change it.",
        "ours.",
    ),
    Explanation(
        "twice",
        r"twice|hw2_\d\.sh( public| private)? twice|seeds?",
        "A script is run a second time with the same inputs. Both runs must leave the same files, byte for byte, as "
        "seeds must be fixed. If they differ, staff are warned; it costs no points.",
        "slides p35-38 (seeds are fixed).",
    ),
    Explanation(
        "limits",
        r"limits?|memory|processes|space|file size|seconds|time",
        "A script is stopped when it exceeds its time, its memory, its number of processes, or what it may write. The "
        "run's sentence names the limit; what was written before counts.",
        "slides p35-38 (time); the other limits are ours.",
    ),
    Explanation(
        "warnings",
        r"warnings?|replaced( code)?|added( code)?|repeated|near-duplicates|copied( pictures)?|truth|too fast",
        "Signs that images may not have been made as they should be: many equal ones, equal ones for different digits, "
        "outputs that came with the submission, ground truth in it, code that the download replaced, or a run that was "
        "faster than a network can be. "
        "They are for staff, cost nothing and prove nothing.",
        "ours.",
    ),
    Explanation(
        "could not check",
        r"could not( be)? check(ed)?|unchecked|error",
        "The grader could not check it, for example because one of staff's files is missing. Such points do not "
        "count as zero and are not in the total; staff must grade again.",
        "ours.",
    ),
)
