"""Short explanations of how each number is computed and where its rule comes from."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from grading.core.errors import GradingError
from grading.core.text import counted, printable
from grading.homeworks.homework import Homework
from grading.problems.problem import Explanation, Problem


def explanations(homework: Homework) -> list[Explanation]:
    """The explanations of everything that a homework's results can name, in the order of a report."""
    problems = [each for problem in homework.problems for each in problem.explanations()]
    points = _of_points(homework) if homework.has_points else ()
    scripts = [_of_script(problem) for problem in homework.problems]
    return [*problems, *points, *GRADING[:5], *scripts, *GRADING[5:]]


def explain(name: str, homework: Homework) -> str:
    """The explanation of a line, figure, stage or check, or of all whose names begin with `name`.

    Raises GradingError if there is none.
    """
    wanted = " ".join(name.lower().split())
    known = explanations(homework)
    found = [each for each in known if re.fullmatch(each.pattern, wanted)][:1]
    found = found or [each for each in known if wanted and each.name.startswith(wanted)]
    if found:
        return "\n\n".join(f"{each.name}: {each.text}\nSource: {each.source}" for each in found)
    names = [explanation.name for explanation in known]
    close = difflib.get_close_matches(wanted, names, n=3)
    hint = f" (perhaps you mean {' or '.join(close)})" if close else ""
    raise GradingError(f"nothing is called {printable(name)!s:.80}{hint}; expected one of {', '.join(names)}")


def _of_points(homework: Homework) -> Iterator[Explanation]:
    for problem, points in homework.report.items():
        yield Explanation(
            f"report {problem}",
            rf"report {problem}" if problem > 1 else r"report( 1)?",
            f"Staff read the written report and give up to {points:g} points for this problem. The grader computes "
            "nothing here.",
            "the points of each problem in the slides; staff's table.",
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
        f"If staff fixed the code to run it, {100 * homework.staff_fixed_share:g} % of the performance points "
        "(the problems without the report) are deducted.",
        "slides p44-45; staff's table.",
    )
    yield Explanation(
        "late",
        r"late|late[ _]days",
        f"{100 * homework.late_share_per_day:g} % of all points are deducted for each day late after the "
        f"{counted(homework.free_days, 'free day')} of a term: points * min({homework.late_share_per_day:g} * days, "
        "1). The deduction for code that staff fixed is taken off first.",
        "slides p44-45; staff's table.",
    )


def _of_script(problem: Problem) -> Explanation:
    parts = "|".join(f" {part}" for part in problem.parts)
    arguments = " ".join(problem.arguments)
    return Explanation(
        problem.script,
        rf"{re.escape(problem.script)}({parts})?",
        f"The script of Problem {problem.number} is called with {arguments}, runs without network, and has "
        f"{problem.seconds / 60:g} minutes. The files that it wrote are graded even if it was stopped or failed later.",
        f"{problem.source}.",
    )


GRADING = (
    Explanation(
        "zero-shot",
        r"zero[- _]?shot",
        "CLIP classifies pictures of classes that it was not trained on. It chooses the class with the sentence "
        "nearest to the picture. The accuracy is recomputed from predictions and file names, "
        "{class_id}_{image_id}.png. It belongs to the written report and gives no separate points. The usual accuracy "
        "is 56.48 % with “A photo of {object}.”",
        "slides (Problem 3, report); 56.48 %: two published reports.",
    ),
    Explanation(
        "copy",
        r"copy|collect",
        "The submission is copied, and everything runs in the copy. Pipes, sockets and devices are left out and "
        "listed. Links stay links. Those that lead out of the submission are listed.",
        "ours.",
    ),
    Explanation(
        "fix",
        r"fix|fixes",
        "If staff ask for it, scripts with another name, in another folder, with Windows line ends or with a byte "
        "order mark are fixed in the copy. Every change is listed, and points are deducted as for code that "
        "staff fixed; see staff fixed.",
        "slides p44-45; what is fixed is ours.",
    ),
    Explanation(
        "fetch",
        r"fetch|hw2_download_ckpt\.sh|download",
        "If there is a hw2_download_ckpt.sh, it runs first. Only this script can use the network. A submission without "
        "it loses no points.",
        "slides p35-38; the time limit of one hour is ours.",
    ),
    Explanation(
        "freeze",
        r"freeze",
        "The files of the submission are recorded after the download. From then on, scripts can read them but cannot "
        "change them.",
        "ours.",
    ),
    Explanation(
        "twice",
        r"twice|hw2_\d\.sh( public| private)? twice|seeds?",
        "A script is run a second time with the same inputs. Both runs must write the same files, byte for byte, "
        "because seeds must be fixed. If the files differ, staff get a warning. No points are deducted.",
        "slides p35-38 (seeds are fixed).",
    ),
    Explanation(
        "limits",
        r"limits?|(gpu )?memory|processes|space|file size|seconds|time",
        "A script is stopped when it exceeds a limit on time, memory, GPU memory, processes or written data. The run's "
        "message names the limit. Files that were written before are graded.",
        "slides p35-38 (time); the GPU memory is that of the course's machine; the other limits are ours.",
    ),
    Explanation(
        "warnings",
        r"warnings?|replaced( code)?|added( code)?|repeated|near-duplicates|copied( pictures)?|truth|too fast",
        "Signs that images may not have been generated as required: many copies of one image, nearly equal images of "
        "different digits, outputs that are files of the submission, ground truth in the submission, code that the "
        "download replaced, or a run that was faster than any network. Warnings are for staff. They cost no points and "
        "prove nothing.",
        "ours.",
    ),
    Explanation(
        "could not check",
        r"could not( be)? check(ed)?|unchecked|error",
        "The grader could not check this line, for example because a file of staff is missing. Its points do not count "
        "as zero and are not in the total. Staff must grade the submission again.",
        "ours.",
    ),
)
