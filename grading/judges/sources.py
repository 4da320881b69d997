"""The files of each judge: the official ones unless others are chosen. Nothing is loaded here."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from grading.core.errors import GradingError
from grading.core.results import Judge
from grading.core.text import printable
from grading.environment.hub_models import HubModel as Recorded
from grading.environment.hub_models import is_pinned, recorded_model

Kind = Literal["official", "embedded", "custom"]

Choice = Literal["official", "embedded"]
"""What all judges are, unless one is named."""

NAMED: tuple[Choice, ...] = ("official", "embedded")

EMBEDDED = Path(__file__).parent / "models"

HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")

WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class HubModel:
    """A model of the Hugging Face Hub. needed: file names; of the names in one group, one is enough.

    single: whether the last group's file alone is the judge, not the folder.
    """

    name: str
    needed: tuple[tuple[str, ...], ...]
    single: bool = False


@dataclass(frozen=True)
class JudgeFiles:
    """The files that a judge can come from.

    option: the option that names one. title: for messages. official: a Hub model, or a file of the homework's data
    folder. embedded: name in this package's models, "" if there is none. custom: what staff can give, for messages.
    """

    option: str
    title: str
    official: HubModel | str
    embedded: str
    custom: str

    def on_hub(self, choice: str) -> bool:
        """Whether a choice is a model of the Hub."""
        return self.hub(choice) is not None

    def hub(self, choice: str) -> HubModel | None:
        """The model of the Hub that is chosen, None if files of this machine are."""
        model = self.official
        if choice == "embedded" or not isinstance(model, HubModel):
            return None
        if choice == "official":
            return model
        named = not model.single and not Path(choice).exists() and HUB_NAME.fullmatch(choice)
        return replace(model, name=choice) if named else None


@dataclass(frozen=True)
class JudgeSource:
    """The place of a judge. path: a file or folder with its weights. file: its name in reports."""

    kind: Kind
    path: Path
    file: str

    def known(self, identity: Judge) -> Judge:
        """The identity of what was loaded, with the name and kind under which it was chosen."""
        return replace(identity, kind=self.kind, file=self.file)


def find_judge(
    files: JudgeFiles, choice: str, data: Path | None = None, hub_cache: Path | None = None, *, download: bool = True
) -> JudgeSource:
    """The place of a judge by choice: "official", "embedded", a path, or a name on the Hub.

    data: the homework's data folder. hub_cache: a folder whose hub/ is a Hugging Face cache; a model of the Hub is
    searched for there, in the user's own cache, and then downloaded into that, unless download is False.
    Raises GradingError, naming the judge's option, if it cannot be had.
    """
    if choice == "embedded":
        return _embedded(files)
    if model := files.hub(choice):
        return _from_hub(files, model, hub_cache, download)
    if choice == "official":
        return _from_data(files, data)
    return _custom(files, Path(choice))


def check_model(name: str, what: str, example: str, option: str = "") -> None:
    """Raise GradingError if a name is neither a folder with a model of transformers nor like a name on the Hub."""
    folder = Path(name)
    if not (folder / "config.json").is_file() and (folder.exists() or not HUB_NAME.fullmatch(name)):
        raise GradingError(
            f"{printable(name)} is not a {what}; expected a folder with config.json and model.safetensors, or a "
            f"hub name such as {example}",
            option=option,
        )


def _embedded(files: JudgeFiles) -> JudgeSource:
    if not files.embedded:
        raise GradingError(
            f"there is no embedded {files.title}; choose the official one, or give {files.custom}", option=files.option
        )
    return JudgeSource("embedded", EMBEDDED / files.embedded, files.embedded)


def _from_data(files: JudgeFiles, data: Path | None) -> JudgeSource:
    """The official judge that the course hands out as a file."""
    name = str(files.official)
    if data is None or not (data / name).is_file():
        found = f"{printable(str(data / name))} is missing" if data else "this project does not contain it"
        raise GradingError(
            f"the official {files.title} is the course's {name}, but {found}; give that file, or choose the embedded "
            "judges, whose scores are not the official ones",
            option=files.option,
        )
    return JudgeSource("official", data / name, name)


def _custom(files: JudgeFiles, path: Path) -> JudgeSource:
    if isinstance(files.official, HubModel) and not files.official.single:
        check_model(str(path), files.title, files.official.name, files.option)
        return JudgeSource("custom", path, str(path))
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "is missing"
        raise GradingError(
            f"the {files.title} {printable(str(path))} {found}; expected {files.custom}, official or embedded",
            option=files.option,
        )
    return JudgeSource("custom", path, path.name)


def _from_hub(files: JudgeFiles, model: HubModel, hub_cache: Path | None, download: bool) -> JudgeSource:
    """A model that is recorded is taken at the recorded commit alone, and only if its files are the recorded ones."""
    known = recorded_model(model.name, hub_cache)
    found = _cached(model, hub_cache / "hub", known) if hub_cache else None
    found = found or _cached(model, None, known)
    if found is None and not download:
        raise GradingError(f"the {files.title} {printable(model.name)} is in no Hugging Face cache here; fetch it")
    found = found or _downloaded(files, model, known)
    return JudgeSource("official" if model.name == _name(files) else "custom", found, model.name)


def _name(files: JudgeFiles) -> str:
    return files.official.name if isinstance(files.official, HubModel) else ""


def _cached(model: HubModel, cache: Path | None, known: Recorded | None) -> Path | None:
    """The model's folder, or its file, in a Hugging Face cache (None: the user's own); None if not whole.

    Raises GradingError if it is not what is recorded.
    """
    from huggingface_hub import try_to_load_from_cache

    last: Path | None = None
    try:
        for group in model.needed:
            paths = [
                try_to_load_from_cache(model.name, name, cache_dir=cache, revision=_commit(known)) for name in group
            ]
            last = next((Path(path) for path in paths if isinstance(path, str)), None)
            if last is None:
                return None
    except (OSError, ValueError):  # a name or a cache that the library does not take
        return None
    if known and last:
        used = dict.fromkeys([*(name for group in model.needed for name in group), *known.sha256])
        known.check(last.parent, [name for name in used if (last.parent / name).is_file()])
    return last if model.single or last is None else last.parent


def _downloaded(files: JudgeFiles, model: HubModel, known: Recorded | None) -> Path:
    """The same after a download into the user's own cache."""
    reason = "its files are not complete there"
    try:
        _download(model, _commit(known))
    except Exception as error:  # whatever a network can do wrong
        reason = printable(str(error).strip().partition("\n")[0][:200]) or type(error).__name__
    if found := _cached(model, None, known):
        return found
    others = ", or choose the embedded judges, whose scores are not the official ones" if files.embedded else ""
    raise GradingError(
        f"the {files.title} {printable(model.name)} is in no Hugging Face cache here and could not be downloaded "
        f"({reason}); connect to the network, give {files.custom}{others}",
        option=files.option,
    )


def _download(model: HubModel, revision: str | None) -> None:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the library reports each of its retries
    try:
        # fails at once without a network
        snapshot_download(model.name, revision=revision, allow_patterns=["*.json", "*.txt"])
        for name in model.needed[-1]:
            try:
                hf_hub_download(model.name, name, revision=revision)
                return
            except LocalEntryNotFoundError:  # there is no network
                raise
            except EntryNotFoundError:
                continue
    finally:
        logging.disable(disabled)


def _commit(known: Recorded | None) -> str | None:
    """The recorded commit of a model, None if there is none: everybody is judged by the same files."""
    return known.revision if known and is_pinned(known) else None
