"""The models that scripts and judges load by name, and a cache of them in the layout of the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from grading.core.errors import GradingError
from grading.core.text import listed, printable
from grading.files.storage import locked, write_whole

CACHES = ("hub", "torch", "clip")
"""Folders of a cache: the Hub's, torch.hub's, and that of OpenAI's clip."""

REVISIONS = "revisions.json"
"""File with the commit and the SHA-256 of the files of each model that was fetched."""

Use = Literal["scripts", "judges", "sam", "zero-shot"]
"""What needs a model: scripts, the official judges, the judge of masks (fall2025), or `hw2 concepts zero-shot`."""

WEIGHTS = (".safetensors", ".bin")

CLIP_FILES = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json",
    "preprocessor_config.json",
)  # fmt: skip


@dataclass(frozen=True)
class HubModel:
    """A model on the Hub. revision: a commit, or a branch whose commit is recorded. files: all that are needed of it.

    sha256: of some of its files, as several projects recorded it.
    """

    repository: str
    revision: str
    files: tuple[str, ...]
    use: Use = "scripts"
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

    def check(self, snapshot: Path, names: Iterable[str]) -> dict[str, str]:
        """The SHA-256 of these files. Raise GradingError if one cannot be read, or is not the one that was recorded.

        A file without a recorded SHA-256 is as it may be, unless it holds weights in place of the recorded ones.
        """
        found = {}
        weights = any(name.endswith(WEIGHTS) for name in self.sha256)
        for name in names:
            try:
                with (snapshot / name).open("rb") as file:
                    found[name] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                found[name] = error.strerror or "unreadable"
            expected = self.sha256.get(name, "no such file" if weights and name.endswith(WEIGHTS) else found[name])
            if found[name] != expected:
                raise GradingError(
                    f"{name} of {printable(self.repository)} is not the recorded file (SHA-256 {expected[:12]}.. "
                    f"expected, {found[name][:12]}.. found); remove {printable(str(snapshot))}, and fetch it again"
                )
        return found


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
        use="judges",
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
    HubModel("edadaltocg/resnet34_svhn", "main", ("pytorch_model.bin",), use="judges"),  # no public record of a commit
    HubModel(
        "facebook/sam2.1-hiera-large", "665f8e2ad61cf5f53d65644ff27c8ee525124610",
        ("config.json", "preprocessor_config.json", "processor_config.json", "model.safetensors"),
        use="sam",
        sha256={
            "config.json": "00446988cf4d617118d2d347eabe2c46aebed744628facdd540508be30b69ec3",
            "model.safetensors": "dc407dce21301fd94abb395c5099b4f2c455fdc8a8f261ac3d0ea6d4cd197230",
            "preprocessor_config.json": "6ebf229ee259368ce4a8d4f2fe893a72b053023710853e257253939e601f583d",
            "processor_config.json": "f8a68e865cfad115c1c2763f3d93eca7b1c622da06da2a9273eb437fb2389b6d",
        },
    ),
    # open_clip's ViT-B-32/openai
    HubModel(
        "timm/vit_base_patch32_clip_224.openai", "a6f597a30f7b82c51704746581f9a4e41421e878",
        ("open_clip_model.safetensors",),
        use="zero-shot",
        sha256={
            "open_clip_model.safetensors": "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31",
        },
    ),
)  # fmt: skip

Download = Callable[[HubModel, Path], Path]
"""Fetches a model's files into a Hub cache, and returns their folder, whose name is the commit."""


def fetch_models(
    cache: Path, models: Sequence[HubModel], download: Download | None = None, say: Callable[[str], None] = print
) -> dict[str, str]:
    """Fetch models into a cache, and return the commit of each. Files that are there already are kept.

    The cache has the folders of CACHES, and revisions.json with the commits and SHA-256. A model that is recorded there
    is fetched at that commit again, and must have the same files. say: called with each repository's name.
    Raises GradingError if a model cannot be fetched whole or is another one, or the cache cannot be written.
    """
    try:
        with locked(cache):
            for name in CACHES:
                (cache / name).mkdir(exist_ok=True)
            for model in models:
                say(model.repository)
                _fetch(cache, _as_recorded(model, cache), download or _snapshot_download)
            return {name: str(noted["revision"]) for name, noted in _revisions(cache).items()}
    except OSError as error:
        shown = printable(str(error.filename or cache))
        raise GradingError(f"{shown} cannot be used ({error.strerror}); choose another folder") from None


def recorded_model(repository: str, cache: Path | None) -> HubModel | None:
    """What is recorded of a model: here or, if its commit is not known here, by `fetch_models` in a cache."""
    model = next((each for each in HUB_MODELS if each.repository == repository), None)
    return _as_recorded(model, cache) if model and cache else model


def _as_recorded(model: HubModel, cache: Path) -> HubModel:
    """The model at the commit and with the SHA-256 that a cache recorded, if it is not pinned here."""
    noted = None if is_pinned(model) else _revisions(cache).get(model.repository)
    return replace(model, revision=str(noted["revision"]), sha256=noted["sha256"]) if noted else model


def _fetch(cache: Path, model: HubModel, download: Download) -> None:
    """Fetch a model, check it and record it."""
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
    _record(cache, model, snapshot.name, model.check(snapshot, model.files))


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


def _record(cache: Path, model: HubModel, commit: str, sha256: Mapping[str, str]) -> None:
    """Note the commit, also as what "main" means: code that names no revision asks for that, with or without a network.

    The library notes this only for branches.
    """
    refs = cache / "hub" / f"models--{model.repository.replace('/', '--')}" / "refs"
    refs.mkdir(parents=True, exist_ok=True)
    write_whole(refs / "main", commit.encode())
    noted = _revisions(cache) | {model.repository: {"revision": commit, "sha256": dict(sha256)}}
    write_whole(cache / REVISIONS, json.dumps(noted, indent=2, sort_keys=True).encode() + b"\n")


def _revisions(cache: Path) -> dict[str, dict[str, Any]]:
    """The commits and SHA-256 recorded in a cache, by repository; none if the file is missing or damaged."""
    try:
        found = json.loads((cache / REVISIONS).read_bytes())
        return {
            str(name): {"revision": str(noted["revision"]), "sha256": {k: str(v) for k, v in noted["sha256"].items()}}
            for name, noted in found.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def is_pinned(model: HubModel) -> bool:
    """Whether its revision is a commit, so that everybody gets the same files."""
    return re.fullmatch(r"[0-9a-f]{40}", model.revision) is not None
