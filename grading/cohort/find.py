"""The submissions of a class: which folders there are, and what else was found beside them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.results import Check
from grading.core.text import printable
from grading.points.staff import StaffEntry


@dataclass(frozen=True)
class Submission:
    """One submission of the class: what was handed in, and the folder of ours for all that becomes of it."""

    source: Path
    folder: Path
    staff: StaffEntry = field(default_factory=StaffEntry)

    @property
    def name(self) -> str:
        """That of its folder, which its result has too, so that pages find it."""
        return self.folder.name


def find_submissions(
    submissions: Path, output: Path, staff: Mapping[str, StaffEntry]
) -> tuple[list[Submission], list[Check]]:
    """The sub-folders in the order of their names, and warnings of what else is there, or is in `staff` alone.

    Raises GradingError if there is none, or output and submissions lie within each other.
    """
    shown = printable(str(submissions))
    students = output / "students"
    if output.resolve().is_relative_to(submissions.resolve()):
        raise GradingError(f"the output {printable(str(output))} lies among the submissions; choose another folder")
    if submissions.resolve().is_relative_to(students.resolve()):
        raise GradingError(f"the submissions {shown} lie in the output's folder students; choose another output")
    found, notes = [], []
    try:
        entries = sorted(os.scandir(submissions), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise GradingError(f"{shown} cannot be read ({error.strerror}); expected a folder of submissions") from None
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            folder = students / _folder_name(entry.name)
            found.append(Submission(Path(entry.path), folder, staff.get(entry.name, StaffEntry())))
        else:
            what = "a symbolic link, which is not followed" if entry.is_symlink() else "no folder"
            notes.append(Check("entry", "warning", f"{printable(entry.name)} is {what}: it is not graded."))
    if not found:
        raise GradingError(f"{shown} has no sub-folders; expected one for each submission")
    if len({submission.name for submission in found}) < len(found):
        raise GradingError(f"two submissions of {shown} would share one folder of the output; rename one of them")
    for name in sorted(staff.keys() - {submission.source.name for submission in found}):
        notes.append(Check("staff", "warning", f"The staff's file names {printable(name)}, which is not there."))
    return found, notes


def _folder_name(name: str) -> str:
    """The same for a name that can be printed; else one that can, and is nobody else's."""
    if name.isprintable():
        return name
    return f"{printable(name)[:50]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
