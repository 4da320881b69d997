"""One random generator per image, so that an image depends on (seed, its name) and on nothing else.

Generators are on the CPU for every device of the network, because the same seed gives other numbers on a GPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch


def image_generator(seed: int, name: str) -> torch.Generator:
    """The generator of the image called `name`, e.g. "00" or "svhn/7_042"; same (seed, name), same numbers.

    The two are hashed (SHA-256) into the generator's 64-bit seed, so that similar ones give unrelated numbers.
    """
    digest = hashlib.sha256(f"{seed}\0{name}".encode(errors="surrogateescape")).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))


def image_generators(seed: int, names: Iterable[str]) -> list[torch.Generator]:
    """One `image_generator` for each name, in order."""
    return [image_generator(seed, name) for name in names]
