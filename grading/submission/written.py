"""grade.json, the result of one submission. It carries a digest by which damage and edits are found.

The digest is the SHA-256 of the file's JSON without the field "digest", with sorted keys, without spaces, in ASCII.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from grading.core.errors import GradingError
from grading.core.results import SubmissionResult
from grading.core.text import printable
from grading.files.storage import encoder, open_own, shallow, write_whole

GRADE = "grade.json"

DIGEST = "digest"

MAX_BYTES = 2**28
"""Limit on the size of a grade.json that is read. The limits on names keep it much smaller."""

RESULT = TypeAdapter(SubmissionResult)

_ENDS_WITH_DIGEST = re.compile(rb'"[^"]*": "[0-9a-f]{64}"\s*}\s*$')


class DamagedError(Exception):
    """The file is not as it was written. The message continues the sentence "grade.json ..."."""


def digest_of(content: object) -> str:
    """The digest of a result: a dataclass, or its JSON data without the digest."""
    digest = hashlib.sha256()
    for piece in encoder(sort_keys=True, separators=(",", ":")).iterencode(content):
        digest.update(piece.encode())
    return digest.hexdigest()


def write_grade(folder: Path, result: SubmissionResult) -> None:
    """Write grade.json into a submission's folder. Raises OSError if that fails."""
    write_whole(folder / GRADE, _pieces(shallow(result) | {DIGEST: digest_of(result)}))


def _pieces(content: dict[str, Any]) -> Iterator[bytes]:
    yield from (piece.encode() for piece in encoder(indent=2).iterencode(content))
    yield b"\n"


def read_grade(folder: Path) -> SubmissionResult | None:
    """The result in a submission's folder; None if there is none.

    Raises DamagedError if the file is not as it was written, and GradingError if another version of the grader wrote
    it.
    """
    path = folder / GRADE
    try:
        with open_own(path, MAX_BYTES) as file:
            written = file.read()
        content = json.loads(written)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedError(f"cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise DamagedError("is not valid JSON") from None
    if not isinstance(content, dict):
        raise DamagedError("is not a JSON object")
    if DIGEST not in content and not _ENDS_WITH_DIGEST.search(written[-500:]):
        raise _of_another_version(path)
    if content.pop(DIGEST, None) != digest_of(content):
        raise DamagedError("is not as it was written: its digest does not match")
    try:
        return RESULT.validate_python(content)
    except ValidationError:
        raise _of_another_version(path) from None


def _of_another_version(path: Path) -> GradingError:
    return GradingError(
        f"{printable(str(path))} was not written by this version of the grader; choose another output folder, or "
        "delete the file to grade again",
        option="output",
    )
