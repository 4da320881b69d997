"""Scores outputs that were handed in, as Gradescope's autograder does. Nothing of a submission is run."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from grading.core.errors import GradingError, failure_sentence
from grading.core.results import Check, Part, ProblemResult, ScoreLine, StageResult, Status, SubmissionResult
from grading.core.text import printable
from grading.files.take import Caps, Collected, collect_folder
from grading.homeworks.homework import Homework
from grading.points.lines import UNCHECKED, score_lines, total, verdict
from grading.points.staff import StaffEntry
from grading.problems.faces import Faces, grade_faces
from grading.problems.suspicions import copied_files
from grading.problems.zero_shot import grade_zero_shot, read_labels
from grading.sandbox.temporary import prefix
from grading.submission.assignment import EMBEDDED_MARK

FACES, PREDICTIONS = "faces", "zero-shot/predictions.csv"
"""What students hand in: the public faces, and the predictions of their zero-shot classification."""

LABELS = Path("clip_zeroshot/id2label.json")
"""The homework's labels, below its data. Without them no predictions are scored."""

BOUNDS = Caps(file_bytes=2**20)
"""A face of noise has 200 kB. Predictions need up to 250 times their bytes of memory, and Gradescope gives 768 MB."""

NOT_FINISHED = "The autograder stopped before it had a result; staff run it again."
"""What students read until there is a result."""


def grade_handed_in(submission: Path, data: Path, homework: Homework) -> SubmissionResult:
    """The public points of a folder with `FACES` and `PREDICTIONS`. data: the homework's data.

    Only regular files of the folder are read, from a copy. What it lacks costs its points. What this machine fails at
    could not be checked, and the line says why.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=prefix("grade")) as scratch:
        copy = Path(scratch, "submission")
        lines: list[ScoreLine] = []
        try:
            taken = collect_folder(submission, copy, BOUNDS)
        except Exception as error:
            return unchecked(homework, data, failure_sentence(error))
        top = _top(copy)
        result = _faces(homework, lambda problem: _graded_faces(problem, top, data, _refused(taken, copy, top)))
        lines = score_lines(homework, [result], StaffEntry())
        if (data / LABELS).exists():
            lines.append(_predictions(top, data, _refused(taken, copy, top)))
        warnings = [Check("submission", "warning", sentence) for sentence in taken.refused]
        warnings += copied_files(FACES, {}, taken.files, _truth(homework, data))
    stage = StageResult("score", "pass", "", seconds=time.monotonic() - started)
    return _summed(homework, data, lines, [result], [stage], warnings)


def unchecked(homework: Homework, data: Path, reason: str) -> SubmissionResult:
    """The result of a submission that could not be checked at all. reason: a sentence."""
    result = _faces(homework, lambda problem: problem.unchecked(Part.PUBLIC, Check("call", "error", reason)))
    lines = score_lines(homework, [result], StaffEntry())
    if (data / LABELS).exists():
        lines.append(_line(None, reason))
    return _summed(homework, data, lines, [result], [], [])


def _summed(
    homework: Homework, data: Path, lines: list[ScoreLine], results: list[ProblemResult], stages: list[StageResult],
    warnings: list[Check],
) -> SubmissionResult:  # fmt: skip
    points, max_points, open_points = total(lines)
    record = {"embedded": (data / EMBEDDED_MARK).is_file()}
    return SubmissionResult(
        "submission", verdict(lines), points, max_points, open_points, homework.name, lines, stages, results, warnings,
        record,
    )  # fmt: skip


def _truth(homework: Homework, data: Path) -> dict[str, str]:
    """SHA-256 of the ground truth, which students have; none if it cannot be read."""
    found = {}
    for problem in (each for each in homework.problems if isinstance(each, Faces)):
        with suppress(OSError):
            for path in sorted((data / problem.expected).iterdir()):
                found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _top(copy: Path) -> Path:
    """The folder with what was handed in: below the one folder that all of it may be in."""
    entries = [entry for entry in sorted(copy.iterdir()) if entry.name != "__MACOSX"]
    known = {FACES, Path(PREDICTIONS).parts[0]}
    alone = len(entries) == 1 and entries[0].is_dir() and entries[0].name not in known
    return entries[0] if alone else copy


def _refused(taken: Collected, copy: Path, top: Path) -> dict[str, str]:
    """{path below top: reason} of what was not copied. "" is the whole folder."""
    above = "" if top == copy else f"{top.name}/"
    found = {path.removeprefix(above): reason for path, reason in taken.reasons.items() if path.startswith(above)}
    whole = taken.refused and not taken.files and not taken.reasons
    return {"": taken.refused[0]} if whole else found


def _faces(homework: Homework, grade: Callable[[Faces], ProblemResult]) -> ProblemResult:
    """The result of the homework's faces. What this machine fails at could not be checked."""
    (problem,) = (each for each in homework.problems if isinstance(each, Faces))
    try:
        return grade(problem)
    except Exception as error:
        return problem.unchecked(Part.PUBLIC, Check("call", "error", failure_sentence(error)))


def _graded_faces(problem: Faces, top: Path, data: Path, refused: Mapping[str, str]) -> ProblemResult:
    folder = top / FACES
    below = {path.removeprefix(f"{FACES}/"): reason for path, reason in refused.items()}
    if folder.is_dir():
        return problem.result(
            grade_faces(folder, data / problem.expected, problem.threshold, refused=below), Part.PUBLIC
        )
    empty = top.parent / "empty"
    empty.mkdir()
    graded = grade_faces(empty, data / problem.expected, problem.threshold)
    lacks = Check("folder", "fail", _lacks(folder, FACES, refused, f"the folder {FACES} with 00.png, 01.png, .."))
    return problem.result(replace(graded, checks=[lacks, *graded.checks]), Part.PUBLIC)


def _predictions(top: Path, data: Path, refused: Mapping[str, str]) -> ScoreLine:
    """The line about the predictions. It gives no points: they belong to the written report, which staff read."""
    try:
        labels = read_labels(data / LABELS)
    except Exception as error:
        return _line(None, failure_sentence(error))
    path = top / PREDICTIONS
    if not path.is_file():
        return _line(False, _lacks(path, PREDICTIONS, refused, f"the file {PREDICTIONS} of the zero-shot report"))
    try:
        graded = grade_zero_shot(path, labels)
    except GradingError as error:
        return _line(False, str(error).replace(f"{printable(str(top))}{os.sep}", "") + ".")
    except Exception as error:
        return _line(None, failure_sentence(error))
    said = [check.message for check in graded.checks if check.name == "accuracy"]
    said += [check.message for check in graded.checks if check.status == "fail" and check.name != "accuracy"][:3]
    return _line(graded.status == "pass", " ".join([*said, "This gives no points; it belongs to the report."]))


def _lacks(path: Path, name: str, refused: Mapping[str, str], expected: str) -> str:
    """A sentence on what was not handed in."""
    if "" in refused:
        return refused[""]
    found = next((f"{over} {refused[over]}" for over in (name, str(Path(name).parent)) if over in refused), "")
    if not found:
        kind = "is a folder" if path.is_dir() else "is a file" if path.exists() else "was not handed in"
        found = f"{name} {kind}; expected {expected}"
    return f"{printable(found)}."


def _line(passed: bool | None, message: str) -> ScoreLine:
    """The line of the predictions. passed: None if they could not be checked."""
    status: Status = "error" if passed is None else "pass" if passed else "fail"
    points, said = (None, f"{UNCHECKED} {message}") if passed is None else (0.0, message)
    title = "Problem 3, zero-shot predictions"
    return ScoreLine(3, Part.WHOLE, "zero-shot", "score", title, points, 0.0, status, said)
