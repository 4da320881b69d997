"""The models that scripts and judges load by name, and a cache of them in the layout of the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.text import listed, printable
from grading.files.storage import locked, write_whole

CACHES = ("hub", "torch", "clip")
"""Folders of a cache: the Hub's, torch.hub's, and that of OpenAI's clip."""

REVISIONS = "revisions.json"
"""File with the commit of each model."""

CLIP_FILES = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json",
    "preprocessor_config.json",
)  # fmt: skip


@dataclass(frozen=True)
class HubModel:
    """A model on the Hub. revision: a commit, or a branch whose commit is recorded. files: all that are needed of it.

    judge: whether only the official judges need it. sha256: of some of its files, as several projects recorded it.
    """

    repository: str
    revision: str
    files: tuple[str, ...]
    judge: bool = False
    sha256: Mapping[str, str] = field(default_factory=dict)

    def snapshot(self, cache: Path) -> Path | None:
        """The folder of its files in a cache made by `fetch_models`; None if one is missing there."""
        folder = cache / "hub" / f"models--{self.repository.replace('/', '--')}"
        with suppress(OSError, ValueError):  # the file may hold anything, also what is no path
            found = folder / "snapshots" / (folder / "refs" / "main").read_text().strip()
            if not self.absent(found):
                return found
        return None

    def absent(self, snapshot: Path) -> list[str]:
        """Its files that a snapshot lacks."""
        return [name for name in self.files if not (snapshot / name).is_file()]

    def check(self, snapshot: Path) -> None:
        """Raise GradingError if a file of a snapshot is not the one that was recorded, or cannot be read."""
        for name, digest in self.sha256.items():
            try:
                with (snapshot / name).open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                found = error.strerror or "unreadable"
            if found != digest:
                raise GradingError(
                    f"{name} of {printable(self.repository)} is not the recorded file (SHA-256 {digest[:12]}.. "
                    f"expected, {found[:12]}.. found); remove {printable(str(snapshot))}, and fetch it again"
                )


HUB_MODELS = (
    # What the template's ldm loads when a script builds Stable Diffusion (ldm/modules/encoders/modules.py).
    HubModel(
        "openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41", (*CLIP_FILES, "model.safetensors"),
        sha256={
            "config.json": "8a09b467700c58138c29d53c605b34ebc69beaadd13274a8a2af8ad2c2f4032a",
            "model.safetensors": "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
        },
    ),
    HubModel(
        "openai/clip-vit-base-patch32", "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268", (*CLIP_FILES, "pytorch_model.bin"),
        judge=True,
        sha256={
            "config.json": "b575ef3c36f2a057fa19e221650105052d61cc9c1a972ec15019c6261ec98770",
            "merges.txt": "f526393189112391ce6f9795d4695f704121ce452c3aad1f5335cc41337eba85",
            "preprocessor_config.json": "910e70b3956ac9879ebc90b22fb3bc8a75b6a0677814500101a4c072bd7857bd",
            "pytorch_model.bin": "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
            "special_tokens_map.json": "f8c0d6c39aee3f8431078ef6646567b0aba7f2246e9c54b8b99d55c22b707cbf",
            "tokenizer.json": "b556ac8c99757ffb677208af34bc8c6721572114111a6e0aaf5fa69ff0b8d842",
            "tokenizer_config.json": "34b7336e4bee12e0a9730eaf5189f582ef3c3eea5027f65730e5717256755aad",
            "vocab.json": "5047b556ce86ccaf6aa22b3ffccfc52d391ea4accdab9c2f2407da5b742d4363",
        },
    ),
    HubModel("edadaltocg/resnet34_svhn", "main", ("pytorch_model.bin",), judge=True),
)  # fmt: skip

Download = Callable[[HubModel, Path], Path]
"""Fetches a model's files into a Hub cache, and returns their folder, whose name is the commit."""


def fetch_models(
    cache: Path, models: Sequence[HubModel], download: Download | None = None, say: Callable[[str], None] = print
) -> dict[str, str]:
    """Fetch models into a cache, and return the commit of each. Files that are there already are kept.

    The cache has the folders of CACHES, and revisions.json with the commits. say: called with each repository's name.
    Raises GradingError if a model cannot be fetched whole, or the cache cannot be written.
    """
    try:
        with locked(cache):
            for name in CACHES:
                (cache / name).mkdir(exist_ok=True)
            for model in models:
                say(model.repository)
                _record(cache, model, _fetch(cache, model, download or _snapshot_download))
            return _revisions(cache)
    except OSError as error:
        shown = printable(str(error.filename or cache))
        raise GradingError(f"{shown} cannot be used ({error.strerror}); choose another folder") from None


def _fetch(cache: Path, model: HubModel, download: Download) -> str:
    """The commit of a model that was fetched."""
    try:
        snapshot = download(model, cache / "hub")
    except Exception as error:  # whatever a network can do wrong
        said = str(error).strip().splitlines() or [type(error).__name__]
        reason = printable(said[0].removeprefix("Got: ")[:200])
        raise GradingError(
            f"{model.repository} could not be fetched from the Hugging Face Hub ({reason}); check the network, or copy "
            "a cache that was made on another machine"
        ) from None
    if absent := model.absent(snapshot):  # offline, the library returns what an interrupted download left
        raise GradingError(f"{model.repository} was fetched without {listed(absent)}; run this again with a network")
    model.check(snapshot)
    return snapshot.name


def _snapshot_download(model: HubModel, hub: Path) -> Path:
    from huggingface_hub import snapshot_download

    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the library reports each of its retries
    try:
        found = snapshot_download(
            model.repository, revision=model.revision, cache_dir=hub, allow_patterns=list(model.files)
        )
    finally:
        logging.disable(disabled)
    return Path(str(found))


def _record(cache: Path, model: HubModel, commit: str) -> None:
    """Note the commit, also as what "main" means: code that names no revision asks for that, with or without a network.

    The library notes this only for branches.
    """
    refs = cache / "hub" / f"models--{model.repository.replace('/', '--')}" / "refs"
    refs.mkdir(parents=True, exist_ok=True)
    write_whole(refs / "main", commit.encode())
    found = json.dumps(_revisions(cache) | {model.repository: commit}, indent=2, sort_keys=True)
    write_whole(cache / REVISIONS, found.encode() + b"\n")


def _revisions(cache: Path) -> dict[str, str]:
    """The commits recorded in a cache; empty if there are none or the file is damaged."""
    try:
        found = json.loads((cache / REVISIONS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return {str(name): str(commit) for name, commit in found.items()} if isinstance(found, dict) else {}


def is_pinned(model: HubModel) -> bool:
    """Whether its revision is a commit, so that everybody gets the same files."""
    return re.fullmatch(r"[0-9a-f]{40}", model.revision) is not None
