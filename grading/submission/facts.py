"""Facts about a graded submission for comparisons within a class, and warnings about replaced code."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from grading.core.errors import GradingError
from grading.core.results import Check, StageResult
from grading.core.text import counted, listed
from grading.files.code import is_code, plain_code, read_code
from grading.files.staff_files import read_bytes
from grading.files.storage import write_whole
from grading.submission.stages import FETCH

FACTS = "facts.json"
"""The file's name, beside grade.json."""

WEIGHTS_BYTES = 2**20
"""A file with more bytes than this counts as weights."""

LEAST_CODE = 200
"""Characters without comments and spaces. Shorter files, such as one call of a script, are alike by necessity."""

MAX_FILES, MAX_OUTPUTS = 500, 5000
"""Code files, weights, and outputs of one run that are kept."""

SHOWN = 3
"""Replaced files that a warning names."""


@dataclass(frozen=True)
class Facts:
    """SHA-256 hashes of one submission, without those of staff's own files.

    outputs: by stage, each hash once. weights: by path. code: by path, of `plain_code`.
    """

    outputs: dict[str, list[str]] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)


_FACTS = TypeAdapter(Facts)


def facts_of(submission: Path, stages: Sequence[StageResult], given: Collection[str]) -> Facts:
    """The facts of a finished grading. submission: the copy that ran. given: hashes of staff's own files."""
    files = _files(stages, "freeze")
    outputs = {
        stage.stage: sorted(set(stage.files.values()).difference(given))[:MAX_OUTPUTS]
        for stage in stages
        if stage.kind == "script" and stage.problem is not None
    }
    large = [path for path, digest in files.items() if digest not in given and _is_large(submission / path)]
    return Facts(outputs, {path: files[path] for path in large[:MAX_FILES]}, dict(_code(submission, files)))


def write_facts(folder: Path, facts: Facts) -> None:
    """Write the facts into a submission's folder. Raises OSError if that fails."""
    write_whole(folder / FACTS, _FACTS.dump_json(facts))


def read_facts(folder: Path) -> Facts | None:
    """The facts in a submission's folder; None if there are none."""
    try:
        return _FACTS.validate_json(read_bytes(folder / FACTS, "facts about a submission"))
    except (GradingError, ValidationError):
        return None


def replaced_code(submission: Path, stages: Sequence[StageResult]) -> Iterator[Check]:
    """Warnings for staff about code that the download replaced or added. submission: the copy that ran."""
    before, after = _files(stages, "fix") or _files(stages, "copy"), _files(stages, "freeze")
    if not before:
        return
    found = [path for path, digest in after.items() if is_code(path) and before.get(path) != digest]
    text = [path for path in found if read_code(submission, path) is not None]
    replaced, added = [path for path in text if path in before], [path for path in text if path not in before]
    if replaced:
        files = counted(len(replaced), "code file")
        sentence = f"{FETCH} replaced {files} ({listed(replaced, SHOWN)}): what ran is not what was handed in."
        yield Check("replaced code", "warning", sentence)
    if added:
        files = counted(len(added), "code file")
        sentence = f"{FETCH} added {files} that had not been handed in ({listed(added, SHOWN)})."
        yield Check("added code", "warning", sentence)


def _files(stages: Sequence[StageResult], name: str) -> Mapping[str, str]:
    return next((stage.files for stage in stages if stage.stage == name), {})


def _is_large(path: Path) -> bool:
    try:
        return path.lstat().st_size > WEIGHTS_BYTES
    except OSError:
        return False


def _code(submission: Path, files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for path in [path for path in files if is_code(path)][:MAX_FILES]:
        plain = plain_code(path, read_code(submission, path) or "")
        if len(plain) >= LEAST_CODE:
            yield path, hashlib.sha256(plain.encode(errors="replace")).hexdigest()
