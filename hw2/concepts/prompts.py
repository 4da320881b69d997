"""The homework's input.json: the prompts to draw, and the learned word of each concept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hw2.concepts.embeddings import check_token
from hw2.errors import InputError
from hw2.files.small_file import read_json


@dataclass(frozen=True)
class ConceptPrompts:
    """One concept's token and prompts."""

    token_name: str
    prompts: list[str]


def read_prompts(path: Path) -> dict[str, ConceptPrompts]:
    """Concept -> its prompts, in the file's order. Private files have other concepts, and more or fewer prompts.

    Raises InputError for a file that is not such JSON, lacks an entry, or has a concept that cannot name a folder.
    """
    content = read_json(path, "expected the homework's input.json")
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} is not a JSON object of concepts; expected the homework's input.json")
    found = {}
    for concept, entry in content.items():
        if not re.fullmatch(r"[\w-]{1,64}", concept):
            raise InputError(
                f"{path} has a concept {concept!r}; expected letters and digits, because it names a folder"
            )
        token, prompts = (
            (entry.get(key) for key in ("token_name", "prompt")) if isinstance(entry, dict) else (None, None)
        )
        if not isinstance(token, str) or not token:
            raise InputError(f"{path} has no token_name for concept {concept}; expected a word such as <new1>")
        check_token(token, f"token_name of concept {concept} in {path}")
        if not isinstance(prompts, list) or not prompts or not all(isinstance(p, str) and p for p in prompts):
            raise InputError(f"{path} has no list of prompts for concept {concept}; expected one under the key prompt")
        if without := [p for p in prompts if token not in p]:
            raise InputError(
                f"{path} has a prompt without its token {token}: {without[0]!r}; add the token, or change token_name"
            )
        found[concept] = ConceptPrompts(token, prompts)
    return found
