"""The journal of a grading. It keeps finished stages, even if the process is killed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from grading.core.results import StageResult
from grading.files.storage import from_json, to_json, write_whole

_STAGE = TypeAdapter(StageResult)


class Journal:
    """Finished stages, one JSON line each, after a first line with the fingerprint. An incomplete line is ignored.

    packages: of the scripts' environment. Stages are kept if all packages that they ran with are still there.
    """

    def __init__(self, path: Path, fingerprint: str, packages: Sequence[str] = ()) -> None:
        self.path, self.fingerprint, self.packages = path, fingerprint, packages
        self.done: dict[str, StageResult] = {}
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        if not whole or not self.continues(whole[0]):
            self.clear()
            return
        try:
            stages = [from_json(_STAGE, line) for line in whole[1:]]
        except ValueError:  # it was damaged: the stages run again
            self.clear()
            return
        with path.open("r+b") as file:
            file.truncate(sum(map(len, whole)))
        self.done = {stage.stage: stage for stage in stages}

    def first_line(self) -> bytes:
        return json.dumps({"fingerprint": self.fingerprint, "packages": list(self.packages)}).encode() + b"\n"

    def continues(self, line: bytes) -> bool:
        """Whether the stages after such a first line are still valid."""
        try:
            first = json.loads(line)
            return first["fingerprint"] == self.fingerprint and set(first["packages"]) <= set(self.packages)
        except (ValueError, KeyError, TypeError, RecursionError):
            return False

    def has(self, stage: str) -> bool:
        """Whether a stage is finished. A stage that failed because of the grader is not."""
        done = self.done.get(stage)
        return done is not None and done.status != "error"

    def clear(self) -> None:
        """Forget all stages."""
        self.done = {}
        write_whole(self.path, self.first_line())

    def add(self, stage: StageResult) -> None:
        """Record a finished stage. After this call, the stage is never run again."""
        with self.path.open("ab") as file:
            file.write(to_json(stage) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.done[stage.stage] = stage
