"""Checks what a grading has written, without grading: grade.json against its digest, outputs against their hashes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.text import printable
from grading.submission.unchanged import output_changes, result_folders
from grading.submission.written import GRADE, DamagedError, read_grade


def graded_folders(folder: Path) -> list[Path]:
    """The submissions' folders of a graded class, sorted, or the folder of one submission.

    Raises GradingError if it is neither.
    """
    students = folder / "students"
    found = sorted(path for path in students.iterdir() if path.is_dir()) if students.is_dir() else [folder]
    if not any((each / GRADE).exists() for each in found):
        raise GradingError(
            f"{printable(str(folder))} has no {GRADE}; expected the output of a grading, of a submission or of a class"
        )
    return found


def changes_of(folder: Path) -> Iterator[str]:
    """A sentence for each thing in a submission's folder that is not as the grading wrote it.

    Raises GradingError if another version of the grader wrote it.
    """
    name = printable(folder.resolve().name)
    try:
        result = read_grade(folder)
    except DamagedError as error:
        yield f"{name}: {GRADE} {error}."
        return
    if result is None:
        yield f"{name}: {GRADE} is missing."
        return
    stages = {stage.stage: stage for stage in result.stages}
    for stage, changes in output_changes(folder / "outputs", stages, result_folders(result)).items():
        yield f"{name}: the outputs of {stage} have been changed since they were made ({changes})."
