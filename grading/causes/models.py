"""Models and files that a script asks the network for, which it does not have."""

from __future__ import annotations

import os
import re

from grading.causes.links import CALLS, HUB_CALLS, LINK, NO_NETWORK
from grading.causes.rule import Scene
from grading.core.results import Cause
from grading.core.text import listed, printable
from grading.environment.hub import has_model

_HUB = re.compile(r"huggingface\.co|LocalEntryNotFoundError|OfflineModeIsEnabled|outgoing traffic has been disabled")
_NAME = r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
_LOGGED = re.compile(rf"""(?:["']|huggingface\.co/(?:api/models/)?){_NAME}(?=["'/]|\s|$)""")
_LOADED = re.compile(
    r"(?:from_pretrained|hf_hub_download|snapshot_download)\(\s*(?:\w+\s*=\s*)?"
    r"""["'](?P<name>[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)["']"""
)


def missing_model(scene: Scene) -> Cause | None:
    """The script asks the Hugging Face Hub for a model that no cache has."""
    if not _HUB.search(scene.log) and "from_pretrained" not in scene.log:
        return None
    loaded = [match["name"] for text in scene.code.values() for match in _LOADED.finditer(text)]
    logged = {match["name"] for match in _LOGGED.finditer(scene.log)}
    named = [*loaded, *(name for name in logged if name in TEMPLATE_MODELS or scene.in_code(re.escape(name)))]
    asked = [name for name in dict.fromkeys(named) if not os.path.exists(scene.submission / name)]  # noqa: PTH110 - any length
    absent = [name for name in asked if not _has(scene, name)]
    if not absent and (asked or not _HUB.search(scene.log) or not scene.in_code(HUB_CALLS)):
        return None
    model = printable(absent[0]) if absent else "a model whose name is not in its code"
    where = "which the Hub cache lacks" if scene.hub_cache else "and there is no Hub cache"
    return Cause(
        "machine", "hub", model, f"The script loads {model} from the Hugging Face Hub, {where}.",
        f"add {model} to the Hub cache (hw2-grade hub-cache makes one)",
    )  # fmt: skip


TEMPLATE_MODELS = frozenset({"openai/clip-vit-large-patch14"})
"""Models that the course's own code loads, so that the submission's code need not name them."""


def _has(scene: Scene, repository: str) -> bool:
    own = scene.home / ".cache" / "huggingface"
    caches = [scene.hub_cache] if scene.hub_cache else []
    return any(has_model(cache, repository) for cache in [*caches, *([own] if (own / "hub").is_dir() else [])])


def network_at_run_time(scene: Scene) -> Cause | None:
    """The script downloads something itself. By the homework's rules only the download stage has the network."""
    if not NO_NETWORK.search(scene.log):
        return None
    hosts = {match["host"] for text in scene.code.values() for match in LINK.finditer(text)}
    hosts |= {host for call, host in CALLS.items() if scene.in_code(call)}
    if not hosts:
        return None
    shown = listed(sorted(hosts), 3)
    return Cause(
        "machine", "network", shown,
        f"The script downloads something while it runs (its code names {shown}), but scripts have no network.",
        "add what it needs to the Hub cache, or decide the points yourself (a column settled_N of the staff file)",
    )  # fmt: skip
