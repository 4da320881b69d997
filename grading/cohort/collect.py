"""Collects submissions that were graded one by one, as a job array of Slurm does it, into the files of a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grading.cohort.class_files import write_class
from grading.cohort.worker import ungraded, without_hashes
from grading.core.errors import GradingError
from grading.core.results import Check, SubmissionResult
from grading.core.text import listed, printable
from grading.files.storage import locked
from grading.homeworks import chosen_homework
from grading.homeworks.homework import Homework
from grading.reports.roster import Student, match_students
from grading.submission.verify import changes_of, graded_folders
from grading.submission.written import read_grade


def collect_class(
    output: Path, folders: Sequence[Path] = (), roster: Sequence[Student] = ()
) -> tuple[list[SubmissionResult], list[Check]]:
    """Write the files of a class into `output`, and return its results by name, and notes for staff.

    folders: the output folders of the submissions; by default, those in output/students. A submission whose files are
    not as its grading wrote them could not be checked.
    Raises GradingError if nothing was graded, two submissions have one name, they are of different homeworks, or the
    output cannot be written.
    """
    output = output.absolute()
    found = [each for folder in folders or [output] for each in graded_folders(folder.absolute())]
    by_name = {printable(folder.name): folder for folder in sorted(found, key=lambda folder: folder.name)}
    if len(by_name) < len(found):
        names = [printable(folder.name) for folder in found]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise GradingError(f"two folders are called {listed(twice)}; rename one of them, or leave it out")
    results = [_collected(name, folder) for name, folder in by_name.items()]
    homework = _homework(results)
    students, notes = match_students(roster, list(by_name))
    try:
        with locked(output):
            write_class(output, results, by_name, homework, students)
    except OSError as error:
        name = printable(str(error.filename or output))
        raise GradingError(f"{name} cannot be written ({error.strerror}); choose another folder") from None
    return results, notes


def _collected(name: str, folder: Path) -> SubmissionResult:
    """The result in a folder; one that could not be checked if anything in the folder was changed."""
    if changes := list(changes_of(folder)):
        return ungraded(name, f"{' '.join(changes)} Grade this submission again.")
    result = read_grade(folder)
    assert result is not None
    return without_hashes(result, name)


def _homework(results: Sequence[SubmissionResult]) -> Homework:
    names = sorted({result.homework for result in results if result.homework})
    if len(names) > 1:
        raise GradingError(f"the submissions are of different homeworks ({listed(names)}); collect each by itself")
    if not names:
        raise GradingError("no submission is as its grading wrote it; run hw2-grade verify to see why")
    return chosen_homework(names[0])
