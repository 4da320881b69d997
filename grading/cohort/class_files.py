"""The files about a whole class: its page and its tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from grading.core.results import SubmissionResult
from grading.files.storage import write_whole
from grading.homeworks.homework import Homework
from grading.reports.roster import Student


def write_class(
    output: Path,
    results: Sequence[SubmissionResult],
    folders: Mapping[str, Path],
    homework: Homework,
    students: Mapping[str, Student],
) -> None:
    """Write index.html and scores.csv, and scores_canvas.csv where students are known. Raises OSError if that fails.

    folders: each submission's results, by its name. students: by the name of their submission.
    """
    from grading.cohort.similar import find_alike
    from grading.reports.canvas_csv import canvas_csv
    from grading.reports.class_page import class_page
    from grading.reports.scores_csv import scores_csv
    from grading.submission.facts import read_facts

    facts = {name: known for name, folder in folders.items() if (known := read_facts(folder))}
    places = {name: os.path.relpath(folder, output) for name, folder in folders.items()}
    write_whole(output / "scores.csv", scores_csv(results, students).encode())
    write_whole(output / "index.html", class_page(results, homework, find_alike(facts), places).encode())
    if students:
        write_whole(output / "scores_canvas.csv", canvas_csv(results, students, homework).encode())
