"""The checkpoint of a training on disk, and the check that it belongs to the run that resumes."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hw2.errors import InputError
from hw2.files.output import write_file
from hw2.files.torch_file import read_torch_file


class TrainingRun:
    """The checkpoint of one run: the state that its command keeps, with the recipe and the inputs of the run.

    keys: of the state. config: the recipe, a dataclass. inputs: name -> SHA-256, for everything that is trained on.
    """

    def __init__(self, path: Path, command: str, keys: set[str], config: Any, inputs: Mapping[str, str]) -> None:
        self.path, self._command, self._keys, self._inputs = path, command, keys, dict(inputs)
        self.config: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))

    def save(self, **state: Any) -> None:
        """Write the checkpoint, whole or not at all."""
        buffer = io.BytesIO()
        torch.save({**state, "config": json.dumps(self.config), "inputs": self._inputs}, buffer)
        write_file(self.path, buffer.getvalue())

    def load(self, resume: bool) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The saved state and its config, to be compared with this run's; None for a new run.

        Raises InputError if there is a checkpoint but resume is false, if there is none but resume is true, and if the
        checkpoint is another command's or of a run with other inputs.
        """
        path = self.path
        if not resume:
            if path.exists():
                raise InputError(
                    f"{path} belongs to an earlier run; resume it, or choose another output", "resume", "output"
                )
            return None
        if not path.exists():
            raise InputError(
                f"{path} is missing, so there is nothing to resume; start a new run, without resuming", "resume"
            )
        saved = read_torch_file(path)
        try:
            config = json.loads(saved["config"])
            whole = set(saved) >= self._keys and isinstance(config, dict) and isinstance(saved["inputs"], dict)
        except (KeyError, TypeError, ValueError, IndexError, RecursionError):
            whole = False
        if not whole:
            raise self.refusal()
        for what, digest in self._inputs.items():
            if saved["inputs"].get(what) != digest:
                raise InputError(
                    f"{path} was trained on other {what}; resume with the same, or choose another output", "output"
                )
        return saved, config

    def refusal(self) -> InputError:
        """The error for a file whose content no run of this command saved."""
        return InputError(f"{self.path} is not a checkpoint of `{self._command}`; choose another output", "output")
