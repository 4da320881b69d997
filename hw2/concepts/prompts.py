"""The homework's input.json: which prompts to draw, with which learned word."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from hw2.errors import InputError

MAX_BYTES = 2**20


@dataclass(frozen=True)
class ConceptPrompts:
    """One concept's token and prompts."""

    token_name: str
    prompts: list[str]


def read_prompts(path: Path) -> dict[str, ConceptPrompts]:
    """Concept -> its prompts, in the file's order; private files have other concepts, prompts and numbers of them.

    Raises InputError for a file that is no such JSON, says less than is needed, or names a concept that no folder can
    be called.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has more than {MAX_BYTES} bytes; expected the homework's input.json")
        content = json.loads(path.read_bytes(), object_pairs_hook=_without_repetition)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected the homework's input.json") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); mend it") from None
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} is no JSON object of concepts; expected the homework's input.json")
    found = {}
    for concept, entry in content.items():
        if not re.fullmatch(r"[\w-]{1,64}", concept):
            raise InputError(f"{path} has a concept {concept!r}; expected letters and digits, it names a folder")
        token, prompts = (
            (entry.get(key) for key in ("token_name", "prompt")) if isinstance(entry, dict) else (None, None)
        )
        if not isinstance(token, str) or not token:
            raise InputError(f"{path} has no token_name for concept {concept}; expected a word such as <new1>")
        if not isinstance(prompts, list) or not prompts or not all(isinstance(p, str) and p for p in prompts):
            raise InputError(f"{path} has no list of prompts under prompt for concept {concept}")
        if without := [p for p in prompts if token not in p]:
            raise InputError(f"{path} has a prompt without its token {token}: {without[0]!r}; mend one of them")
        found[concept] = ConceptPrompts(token, prompts)
    return found


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    if repeated := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"the key {repeated[0]!r} stands twice")
    return dict(pairs)
