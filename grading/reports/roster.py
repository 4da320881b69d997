"""The students of a class, from a CSV that says whose folder is whose."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.results import Check
from grading.core.text import counted, listed, printable
from grading.files.leftovers import described
from grading.files.staff_files import read_bytes
from grading.points.staff import plain_name

COLUMNS = {
    "folder": ("folder", "submission", "githubusername", "github", "githubaccount", "username", "repository", "repo"),
    "id": ("studentid", "studentnumber", "sisloginid", "sisuserid", "identifier", "學號", "id"),
    "name": ("student", "name", "studentname", "fullname", "姓名"),
    "course_id": ("canvasid", "cooloid", "coolid", "id"),
    "section": ("section", "班次"),
}
"""Field of `Student` -> headers that it is read from, the first that is there; without case, spaces and signs."""

EXPECTED = (
    "a CSV with a column for the folder (folder, submission or github_username) and one for the student (student_id, "
    "sis_login_id or identifier)"
)


@dataclass(frozen=True)
class Student:
    """One student. folder: the name of the submission, perhaps without a prefix, or empty. id: as the school writes it.

    course_id: the number that the course's site gives the student; empty if the roster does not have it.
    """

    folder: str
    id: str
    name: str = ""
    course_id: str = ""
    section: str = ""


def read_roster(path: Path) -> list[Student]:
    """The students of a roster, in its order. See COLUMNS for the headers.

    Raises GradingError for a file that is no roster, and for a folder or a student named twice.
    """
    shown = printable(str(path))
    header, *rows = _rows(path) or [[]]
    places = _places(header)
    if not {"folder", "id"} <= set(places):
        found = listed(header, 20) if header else "no columns"
        raise _refusal(f"{shown} has {found}; expected {EXPECTED}")
    students = []
    for number, row in enumerate(rows, 2):
        cells = {name: row[place].strip() if place < len(row) else "" for name, place in places.items()}
        if cells["folder"] and not cells["id"]:
            raise _refusal(f"{shown}, line {number}, names no student; add the id, or remove the row")
        if cells["id"]:  # other rows are not students, such as Canvas's "Points Possible"
            students.append(Student(**cells))
    for kind, names in (
        ("folder", [_key(student.folder) for student in students if student.folder]),
        ("student", [student.id for student in students]),
    ):
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise _refusal(f"{shown} names the {kind} {printable(twice[0])} twice; remove one row")
    return students


def _rows(path: Path) -> list[list[str]]:
    """The rows of a CSV whose cells are separated by commas, semicolons or tabs."""
    shown, content = printable(str(path)), read_bytes(path, EXPECTED)
    if what := described(content, path.name):
        raise _refusal(f"{shown} {what}; expected {EXPECTED}")
    try:
        text = content.decode("utf-8-sig")
        first = text.partition("\n")[0]
        return list(csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        reason = printable(str(error))
        raise _refusal(f"{shown} is not a CSV file in UTF-8 ({reason}); expected {EXPECTED}") from None


def _refusal(sentence: str) -> GradingError:
    return GradingError(sentence, option="roster")


def match_students(students: Sequence[Student], folders: Sequence[str]) -> tuple[dict[str, Student], list[Check]]:
    """The student of each folder, and notes about the others.

    A prefix that most folders share, as GitHub Classroom gives them the name of its assignment and "-", is left out;
    case does not count, as in GitHub's names. Raises GradingError if two folders are one student's.
    """
    known = {_key(student.folder): student for student in students if student.folder}
    prefix = _prefix(folders, known)
    found: dict[str, Student] = {}
    for folder in folders:
        student = known.get(_key(folder.removeprefix(prefix)))
        if student and student in found.values():
            raise _refusal(f"two folders are those of {printable(student.id)}; remove one")
        if student:
            found[folder] = student
    return found, list(_notes(students, folders, found)) if students else []


def _notes(students: Sequence[Student], folders: Sequence[str], found: Mapping[str, Student]) -> Iterator[Check]:
    if strange := [folder for folder in folders if folder not in found]:
        yield Check("roster", "warning", f"{counted(len(strange), 'folder')} not in the roster: {listed(strange)}.")
    there = {student.id for student in found.values()}
    if absent := [student.id for student in students if student.id not in there]:
        yield Check("roster", "warning", f"{counted(len(absent), 'student')} without a folder: {listed(absent)}.")


def _places(header: Sequence[str]) -> dict[str, int]:
    """Field -> place of its column. No column is two fields."""
    names = [re.sub(r"[\W_]", "", title).casefold() for title in header]
    places: dict[str, int] = {}
    for field, titles in COLUMNS.items():
        free = [title for title in titles if title in names and names.index(title) not in places.values()]
        if free:
            places[field] = names.index(free[0])
    return places


def _prefix(folders: Sequence[str], known: Mapping[str, Student]) -> str:
    """The prefix without which most folders are known; of several, the shortest."""
    counts = Counter(
        prefix
        for folder in folders
        for prefix in ("", *(folder[: match.end()] for match in re.finditer("-", folder)))
        if _key(folder.removeprefix(prefix)) in known
    )
    return min(counts, key=lambda prefix: (-counts[prefix], len(prefix)), default="")


def _key(name: str) -> str:
    return plain_name(name).casefold()
