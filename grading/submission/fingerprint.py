"""The fingerprint of a grading: a result is kept while it is the same, and what its scripts used is still there."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from grading.environment.hub import hub_folders
from grading.files.unpack import is_zip
from grading.judges.sources import JudgeSource
from grading.submission.provenance import data_hashes, listing_hash

NOT_IN_FINGERPRINT = ("hardware", "source", "python", "hub_models")
"""Parts of the record that no result depends on, and the scripts' environment: a package or a model that is added to it
changes no result, so that it is compared by `scripts_use`."""

GRADER = Path(__file__).parents[1]

ROOMS = ("core", "sandbox", "files", "environment", "judges", "causes", "problems", "homeworks", "submission")
"""The rooms whose code decides what is kept. Points and reports are made anew at each call."""


def fingerprint(record: Mapping[str, Any], source: Path) -> str:
    """The hash of everything that a result depends on, except the machine. source: the submission."""
    content = {name: value for name, value in record.items() if name not in NOT_IN_FINGERPRINT}
    content["python_version"] = record["python"]["version"]
    handed_in = data_hashes({"zip": source})["zip"] if is_zip(source) else listing_hash(source)
    return hashlib.sha256(json.dumps([content, handed_in], sort_keys=True).encode()).hexdigest()


def scripts_use(record: Mapping[str, Any]) -> list[str]:
    """The packages and models that scripts could use. A result is kept while all of them are still there."""
    packages = record.get("python", {}).get("packages", ["unknown"])
    return [*packages, *record.get("hub_models", [])]


def more_facts(hub_cache: Path | None, environment: Mapping[str, str]) -> dict[str, Any]:
    """For the record: the models and variables that staff give to scripts, and the grader's own code.

    Variables may be secret, so that only their hash is recorded. Raises GradingError for a folder that is no cache.
    """
    variables = (
        hashlib.sha256(json.dumps(dict(environment), sort_keys=True).encode()).hexdigest() if environment else ""
    )
    return {"hub_models": hub_models(hub_cache), "environment_sha256": variables, "grader_sha256": code_sha256()}


@functools.cache
def code_sha256(package: Path = GRADER) -> str:
    """The hash of the grader's own code, as far as stored results depend on it."""
    digest = hashlib.sha256()
    for room in ROOMS:
        for path in sorted(path for path in (package / room).rglob("*") if path.suffix in (".py", ".csv")):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{content}  {path.relative_to(package).as_posix()}\n".encode())
    return digest.hexdigest()


def hub_models(cache: Path | None) -> list[str]:
    """The models in staff's cache: "NAME REVISION COMMIT" of those of the Hub, name and size of all other files.

    Raises GradingError if it is no cache.
    """
    return sorted(entry for folder in hub_folders(cache).values() for entry in _models(folder))


def _models(folder: Path) -> Iterator[str]:
    revisions = sorted(path for path in folder.glob("models--*/refs/*") if path.is_file())
    for path in revisions:
        yield f"{path.parent.parent.name} {path.name} {path.read_text(errors='replace').strip()}"
    if not revisions:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                yield f"{path.relative_to(folder)} {path.stat().st_size}"


def judge_facts(sources: Mapping[str, JudgeSource]) -> dict[str, dict[str, str]]:
    """The record of the judges: how each was chosen, and the hash of its files. Nothing is loaded."""
    hashes = data_hashes({name: source.path for name, source in sources.items()})
    return {
        name: {"chosen": source.kind, "file": source.file, "sha256": hashes[name]} for name, source in sources.items()
    }
