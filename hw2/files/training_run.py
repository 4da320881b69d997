"""A training's checkpoint on disk, and whether it is the one to go on from."""

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
    """The checkpoint of one run: what its command keeps, with the recipe and the inputs that it belongs to.

    keys: of the state. config: the recipe, a dataclass. inputs: what -> SHA-256 of it, for all that is learned from.
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
        """The saved state, and its config to be compared with this one's; None for a fresh start.

        Raises InputError if there is a checkpoint that was not to be resumed, or none that was, or another run's.
        """
        path = self.path
        if not resume:
            if path.exists():
                raise InputError(f"{path} belongs to an earlier run; use --resume to go on, or another --output")
            return None
        if not path.exists():
            raise InputError(f"{path} is missing, so there is nothing to resume; leave --resume out to start")
        saved = read_torch_file(path)
        try:
            config = json.loads(saved["config"])
            whole = set(saved) >= self._keys and isinstance(config, dict) and isinstance(saved["inputs"], dict)
        except (KeyError, TypeError, ValueError, IndexError):
            whole = False
        if not whole:
            raise InputError(f"{path} is no checkpoint of `{self._command}`; use another --output")
        for what, digest in self._inputs.items():
            if saved["inputs"].get(what) != digest:
                raise InputError(f"{path} was trained on other {what}; go on with the same, or use another --output")
        return saved, config
