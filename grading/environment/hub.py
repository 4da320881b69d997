"""The models that scripts find without a network: staff's cache of them, and what the download stage left in the home.

The course's machine had a network or a filled cache, and most submissions load CLIP from the Hub when they run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.text import printable
from grading.sandbox.run import HOME, Sandbox

HUB = "/hub"
"""The path of staff's cache inside the sandbox."""

PLACES = {"hub": ".cache/huggingface/hub", "torch": ".cache/torch", "clip": ".cache/clip"}
"""The folders of a cache, and where libraries look for their content below the home: the Hugging Face Hub, torch.hub,
and the files of OpenAI's clip."""

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""Without these, a library tries for minutes to reach the Hub before it looks into its cache."""

LINK = f"""
link() {{ [ -d {HUB}/"$1" ] && mkdir -p ~/"$2" && cp -rsn {HUB}/"$1"/. ~/"$2"/; }}
{"; ".join(f"link {name} {place}" for name, place in PLACES.items())}
"""
"""Links each file of staff's cache into the home, unless a download has left a file of that name."""


MAX_COMMIT = 200
"""Bytes that are read of the file that names a model's commit, which has 40."""


def hub_folders(cache: Path | None) -> dict[str, Path]:
    """The folders of a cache, as inputs of a run: {path inside: path outside}; none without a cache.

    cache: a folder with some of the folders in PLACES, such as $HF_HOME, or with models--ORG--NAME in it.
    Raises GradingError if it is neither.
    """
    if cache is None:
        return {}
    found = {f"{HUB}/{name}": cache / name for name in PLACES if (cache / name).is_dir()}
    if any(cache.glob("models--*")):
        found[f"{HUB}/hub"] = cache
    if not found:
        raise GradingError(
            f"{printable(str(cache))} holds no cached models; expected a folder with {', '.join(PLACES)}, or with "
            "models--ORG--NAME; choose another folder",
            option="hub_cache",
        )
    return found


def hub_environment(sandbox: Sandbox, *, network: bool = False) -> dict[str, str]:
    """The variables by which libraries find their caches: below the home, where a download leaves models for the runs.

    Without a network, libraries do not try to reach the Hub. Trusted code uses staff's cache in its place or, without
    one, the caches of its user.
    """
    if sandbox.trust:
        outside = hub_folders(sandbox.hub_cache)
        names = {"HF_HUB_CACHE": f"{HUB}/hub", "TORCH_HOME": f"{HUB}/torch"}
        return {name: str(outside[inside].absolute()) for name, inside in names.items() if inside in outside}
    caches = {
        "HF_HOME": f"{HOME}/.cache/huggingface",
        "HF_HUB_CACHE": f"{HOME}/{PLACES['hub']}",
        "TORCH_HOME": f"{HOME}/{PLACES['torch']}",
    }
    return caches if network else caches | OFFLINE


def with_models(command: Sequence[str], sandbox: Sandbox) -> list[str]:
    """The same command, preceded by what shows it staff's cache below its home. The home must be a layer."""
    if sandbox.trust or sandbox.hub_cache is None:
        return list(command)
    return ["bash", "-c", f'{{ {LINK} }} > /dev/null 2>&1\nexec "$@"', "bash", *command]


def has_model(cache: Path, repository: str) -> bool:
    """Whether a script finds a model such as openai/clip-vit-large-patch14 in a cache, without naming a revision."""
    return repository in cached_models(cache)


def cached_models(cache: Path) -> list[str]:
    """The models of the Hub in a cache that a script finds without naming a revision, sorted."""
    hub = hub_folders(cache).get(f"{HUB}/hub")
    return sorted(_usable(hub)) if hub else []


def _usable(hub: Path) -> Iterator[str]:
    for model in hub.glob("models--*"):
        main = model / "refs" / "main"
        if main.is_file() and _has_files(model / "snapshots" / _start(main)):
            yield model.name.removeprefix("models--").replace("--", "/")


def _start(main: Path) -> str:
    """The commit in a file; the beginning of anything else."""
    with main.open("rb") as file:
        return file.read(MAX_COMMIT).decode(errors="replace").strip()


def _has_files(snapshot: Path) -> bool:
    try:
        return any(path.is_file() for path in snapshot.glob("*"))
    except (OSError, ValueError):  # a download may have left anything, also what is no path
        return False
