"""The zip file of a Gradescope autograder: it scores the public outputs that fit into half a CPU and 768 MB."""

from __future__ import annotations

import io
import re
import shlex
import zipfile
from collections.abc import Iterator
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.text import printable
from grading.files.layout import png_names
from grading.homeworks.homework import Homework
from grading.problems.faces import Faces, grade_faces
from grading.reports.gradescope import gradescope_json
from grading.submission.assignment import EMBEDDED_MARK
from grading.submission.handed_in import LABELS, NOT_FINISHED, unchecked

WHEEL = re.compile(r"dlcv_hw2-[\w.+]+-py3-none-any\.whl")

COMMAND = "grading/submission/handed_in.py"
"""A file of every wheel that has the command which the autograder calls."""

SETUP = """\
#!/usr/bin/env bash
# Gradescope runs this once, when it builds the autograder. It needs Python 3.11 or later.
set -euo pipefail
cd "$(dirname "$0")"
apt-get update
apt-get install -y python3.11 python3.11-venv || apt-get install -y python3 python3-venv
"$(command -v python3.11 || command -v python3)" -m venv environment
environment/bin/python -m pip install --no-cache-dir ./dlcv_hw2-*.whl
"""

RUN = """\
#!/usr/bin/env bash
# Gradescope runs this for each submission. AUTOGRADER is another folder than Gradescope's, for trying it elsewhere.
root="${AUTOGRADER:-/autograder}"
mkdir -p "$root/results"
# This stands until there is a result: what stops the grader, such as too little memory, costs nobody points.
cp "$root/source/could_not_check.json" "$root/results/results.json"
"$root/source/environment/bin/hw2-grade" handed-in "$root/submission" --data "$root/source/data" \\
    --homework HOMEWORK --output "$root/results/results.json"
# Failed checks are in the results. They are no failure of the autograder.
exit 0
"""


def autograder_zip(data: Path, wheel: Path, homework: Homework) -> bytes:
    """The zip file. data: the homework's data folder. wheel: of this project.

    Raises GradingError if the homework has no faces, the data cannot be used, or the wheel is none.
    """
    files = {
        "setup.sh": SETUP.encode(),
        "run_autograder": RUN.replace("HOMEWORK", shlex.quote(homework.name)).encode(),
        "could_not_check.json": gradescope_json(unchecked(homework, data, NOT_FINISHED)).encode(),
        wheel.name: _wheel(wheel),
        **{f"data/{name}": (data / name).read_bytes() for name in _needed(data, homework)},
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if name in ("setup.sh", "run_autograder") else 0o644) << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def _needed(data: Path, homework: Homework) -> Iterator[str]:
    """The files of the data that are scored with. Nothing private is among them."""
    for problem in homework.problems:
        if isinstance(problem, Faces):
            grade_faces(data / problem.expected, data / problem.expected, None)  # every one must be readable
            yield from (f"{problem.expected}/{name}" for name in png_names(data / problem.expected))
    yield from (str(name) for name in (LABELS, Path(EMBEDDED_MARK)) if (data / name).is_file())


def _wheel(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            whole = COMMAND in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        whole = False
    if not whole or not WHEEL.fullmatch(path.name):
        raise GradingError(
            f"{printable(str(path))} is not a wheel of this version of the project; make one with python -m build "
            "--wheel, and name it",
            option="wheel",
        )
    return content
