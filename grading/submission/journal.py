"""The journal of a grading. It keeps finished stages, even if the process is killed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from grading.core.results import StageResult
from grading.files.storage import open_own, to_json, write_whole

_STAGE = TypeAdapter(StageResult)

MAX_BYTES = 2**28
"""Limit on the size of a journal that is read. The limits on names keep it much smaller."""

_START = b'{"digest": "'
_AFTER = b'", '


class Journal:
    """Finished stages, one JSON line each, after a first line with the fingerprint.

    Each line begins with a digest of the line before and of its own content, so that a line that was changed, removed
    or moved is found. Stages are kept up to the first such line. A last line that is not complete is ignored, because
    its writer was killed.
    packages: of the scripts' environment. Stages are kept if all packages that they ran with are still there.
    damage: a sentence on what was found to be damaged, empty if nothing was.
    """

    def __init__(self, path: Path, fingerprint: str, packages: Sequence[str] = ()) -> None:
        self.path, self.fingerprint, self.packages = path, fingerprint, packages
        self.done: dict[str, StageResult] = {}
        self.last = self.damage = ""
        self.size = self.lines = 0
        self.valid = False
        try:
            kept = self.read()
        except OSError as error:
            kept, self.damage = False, f"The journal could not be read ({error.strerror}), so all stages ran again."
        if not kept:
            self.clear()
        else:
            os.truncate(path, self.size)

    def read(self) -> bool:
        """Read the lines up to the first that is damaged. Return whether the stages are still valid."""
        try:
            file = open_own(self.path, MAX_BYTES)
        except FileNotFoundError:
            return False
        with file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                if not self.take(line):
                    stages = f"the stages after its line {self.lines}" if self.lines else "all stages"
                    self.damage = f"The journal was damaged or of another version, so {stages} ran again."
                    break
                if not self.valid:
                    return False
        return self.valid

    def take(self, line: bytes) -> bool:
        """Take over a line, unless it is damaged."""
        content = _content(line, self.last)
        if content is None:
            return False
        try:
            if self.lines == 0:
                self.valid = self.continues(content)
            else:
                stage = _STAGE.validate_python(content)
                self.done[stage.stage] = stage
        except (ValidationError, KeyError, TypeError):
            return False
        self.last, self.size, self.lines = _digest(line), self.size + len(line), self.lines + 1
        return True

    def continues(self, first: dict[str, Any]) -> bool:
        """Whether the stages after such a first line are still valid."""
        return first["fingerprint"] == self.fingerprint and set(first["packages"]) <= set(self.packages)

    def has(self, stage: str) -> bool:
        """Whether a stage is finished. A stage that failed because of the grader is not."""
        done = self.done.get(stage)
        return done is not None and done.status != "error"

    def clear(self) -> None:
        """Forget all stages."""
        self.done = {}
        first = json.dumps({"fingerprint": self.fingerprint, "packages": list(self.packages)}).encode()
        line, self.last = _line(first, "")
        write_whole(self.path, line)

    def forget(self, stage: str) -> None:
        """Forget a stage, so that it runs again."""
        self.done.pop(stage, None)

    def add(self, stage: StageResult) -> None:
        """Record a finished stage. After this call, the stage is never run again."""
        line, self.last = _line(to_json(stage), self.last)
        with self.path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self.done[stage.stage] = stage


def _line(content: bytes, before: str) -> tuple[bytes, str]:
    """The line with that JSON object, and its digest. before: the digest of the line before."""
    digest = hashlib.sha256(before.encode() + content).hexdigest()
    return _START + digest.encode() + _AFTER + content[1:] + b"\n", digest


def _digest(line: bytes) -> str:
    return line[len(_START) : len(_START) + 64].decode()


def _content(line: bytes, before: str) -> dict[str, Any] | None:
    """The JSON object of a line; None if the line is not as `_line` made it."""
    content = b"{" + line[len(_START) + 64 + len(_AFTER) : -1]
    if line != _line(content, before)[0]:
        return None
    found: dict[str, Any] = json.loads(content)
    return found
