"""Finds the submissions of a class, one for each folder or zip file, and warns about other entries."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.results import Check
from grading.core.text import listed, printable
from grading.files.storage import check_apart
from grading.files.unpack import is_zip, submission_name
from grading.points.staff import StaffEntry, plain_name

SHOWN = 10
"""Rows of a staff file that an error names."""


@dataclass(frozen=True)
class Submission:
    """One submission of the class. source: what was handed in. folder: the grader's folder for its results."""

    source: Path
    folder: Path
    staff: StaffEntry = field(default_factory=StaffEntry)

    @property
    def name(self) -> str:
        """The name of its folder. Its result has the same name, so that pages find the folder."""
        return self.folder.name


def find_submissions(
    submissions: Path, output: Path, staff: Mapping[str, StaffEntry]
) -> tuple[list[Submission], list[Check]]:
    """The sub-folders and zip files in the order of their names, and warnings about other entries.

    staff: by `plain_name`. Raises GradingError if there is none, if one of output and submissions contains the other,
    if two have the same plain name, or if an entry of staff has none.
    """
    shown = printable(str(submissions))
    students = output / "students"
    check_apart(submissions, output, "submissions")
    found, notes = [], []
    try:
        entries = sorted(os.scandir(submissions), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise GradingError(f"{shown} cannot be read ({error.strerror}); expected a folder of submissions") from None
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False) or is_zip(path):
            name = submission_name(path)
            found.append(Submission(path, students / _folder_name(name), staff.get(plain_name(name), StaffEntry())))
        else:
            what = "a symbolic link" if entry.is_symlink() else "neither a folder nor a zip file"
            notes.append(Check("entry", "warning", f"{printable(entry.name)} was not graded: it is {what}."))
    if not found:
        raise GradingError(f"{shown} has no sub-folders or zip files; expected one for each submission")
    if len({submission.name for submission in found}) < len(found):
        raise GradingError(f"two submissions of {shown} would share one folder of the output; rename one of them")
    _check_names([submission_name(submission.source) for submission in found], staff)
    return found, notes


def _check_names(folders: Sequence[str], staff: Mapping[str, StaffEntry]) -> None:
    """Raises GradingError if two folders have the same plain name, or an entry of staff has no folder."""
    plain: dict[str, str] = {}
    for folder in folders:
        other = plain.setdefault(plain_name(folder), folder)
        if other != folder:
            raise GradingError(
                f"two submissions are called {printable(plain_name(folder))}, with different spaces around the name or "
                "different Unicode characters for the same letters; rename one of them"
            )
    missing = sorted(staff.keys() - plain.keys())
    if missing:
        named = listed([_near(name, plain) for name in missing], SHOWN)
        raise GradingError(
            f"the staff file has rows without a submission of that name: {named}; correct the names or remove the rows",
            option="staff",
        )


def _near(name: str, plain: Mapping[str, str]) -> str:
    """The name, and the folder whose name is nearest to it, whatever the case of letters."""
    folded = {known.casefold(): folder for known, folder in plain.items()}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return printable(name) + (f" (the nearest folder is {printable(folded[close[0]])})" if close else "")


def _folder_name(name: str) -> str:
    """The name itself if it can be printed; otherwise a unique name that can be printed."""
    if name.isprintable():
        return name
    return f"{printable(name)[:50]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
