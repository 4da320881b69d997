"""A rule on whose doing a failure was, and what it is given."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from grading.core.results import Cause, StageResult
from grading.environment.probes import Probes
from grading.files.texts import read_texts

CODE = (".py", ".sh")
"""Endings of the files that are searched for what the submission asks for."""


@dataclass(frozen=True)
class Scene:
    """A stage that failed, and the means to find out why.

    submission, home: the copy that ran, and the home with its downloads. submitted: SHA-256 of the files that were
    handed in. download: the name of the download script. hub_cache: that of staff. gpu: whether scripts had the GPU.
    """

    stage: StageResult
    submission: Path
    home: Path
    submitted: Mapping[str, str]
    probes: Probes
    download: str
    hub_cache: Path | None = None
    gpu: bool = False

    @property
    def log(self) -> str:
        """The log of the stage."""
        return self.stage.log

    @functools.cached_property
    def code(self) -> dict[str, str]:
        """The submission's code, by file."""
        return read_texts(self.submission, CODE)

    def in_code(self, pattern: str) -> bool:
        """Whether the submission's code has something that matches."""
        return any(re.search(pattern, text) for text in self.code.values())


@dataclass(frozen=True)
class Rule:
    """One way in which a stage fails. find: the cause, None if the rule does not apply. download: whether it is about
    the download stage, else about the scripts of problems.
    """

    name: str
    find: Callable[[Scene], Cause | None]
    download: tuple[bool, ...] = (False,)
