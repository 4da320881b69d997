"""Finds what was changed since a grading recorded it: outputs, and the copy that the scripts run in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.results import StageResult, SubmissionResult
from grading.core.text import counted, listed
from grading.files.take import SUBMISSION_CAPS, Caps, Collected, collect_folder
from grading.submission.stages import Workplace, home_seal

SHOWN = 3
"""Files that a sentence names."""


def output_changes(outputs: Path, stages: Mapping[str, StageResult], folders: Mapping[str, str]) -> dict[str, str]:
    """What was changed in the outputs of finished runs, by stage. folders: below `outputs`, by stage."""
    done = {name: stages[name] for name in folders if name in stages and stages[name].status != "error"}
    found = {name: folder_changes(outputs / folders[name], stage.files) for name, stage in done.items()}
    return {name: changes for name, changes in found.items() if changes}


def result_folders(result: SubmissionResult) -> dict[str, str]:
    """The folders of a result's runs below outputs/, by stage."""
    folders = {(each.problem, each.part): each.folder for each in result.results}
    scripts = [stage for stage in result.stages if stage.kind == "script" and stage.problem is not None]
    return {each.stage: folders[key] for each in scripts if (key := (each.problem or 0, each.part)) in folders}


def copy_changes(workplace: Workplace, frozen: StageResult) -> str:
    """What was changed in the copy and in the home since they were frozen; empty if nothing was."""
    changes = folder_changes(workplace.submission, frozen.files, frozen.refused, SUBMISSION_CAPS)
    if changes or (frozen.seal and frozen.seal == home_seal(workplace)):
        return changes
    return "files of the home folder are not those that the download left"


def folder_changes(
    folder: Path, recorded: Mapping[str, str], refused: Sequence[str] = (), caps: Caps | None = None
) -> str:
    """What is different from a record of a folder, for parentheses; empty if nothing is.

    recorded: SHA-256 by path. refused: sentences on entries that were refused then, too. Files beyond `caps` are not
    read.
    """
    if folder.is_symlink():
        return "their folder is a link now"
    try:
        now = collect_folder(folder, None, caps)
    except GradingError:
        return "their folder is missing or cannot be read"
    return "; ".join(_changes(now, recorded, refused))


def _changes(now: Collected, recorded: Mapping[str, str], refused: Sequence[str]) -> Iterator[str]:
    kinds = {
        "changed": [path for path, digest in now.files.items() if recorded.get(path, digest) != digest],
        "removed": [path for path in recorded if path not in now.files],
        "added": [path for path in now.files if path not in recorded],
    }
    for kind, paths in kinds.items():
        if paths:
            yield f"{counted(len(paths), 'file')} {kind}: {listed(paths, SHOWN)}"
    if new := [sentence.rstrip(".") for sentence in now.refused if sentence not in refused]:
        yield listed(new, SHOWN)
