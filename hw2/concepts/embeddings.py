"""Files of learned words: all usual formats are read, and the one that most programs read is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from hw2.errors import InputError
from hw2.files.leftovers import leftover
from hw2.files.output import write_file
from hw2.files.torch_file import read_torch_file
from hw2.files.weights import is_safetensors
from hw2.wording import shortened

TOKEN = re.compile(r"<[^<>\s]+>")

MAX_BYTES, MAX_WIDTH = 2**26, 2**16
"""Far more than the words of any model have; a file of a few bytes can claim anything."""


PARAMETER_DICT = "torch.nn.modules.container.ParameterDict"


class _Terms:
    """Replaces the one class that files of the original paper's code hold. Only its parameters are used."""


def check_token(token: str, what: str) -> None:
    """Raises InputError if token is not of the form that prompts need."""
    if not TOKEN.fullmatch(token) or not token.isprintable():
        raise InputError(f"{what} is {token!r}; expected a word in angle brackets, such as <new1>")


def token_pieces(token: str, count: int) -> list[str]:
    """The positions that a token of several vectors takes: <x>, <x>_1, <x>_2 .. (diffusers' textual inversion)."""
    return [token, *(f"{token}_{i}" for i in range(1, count))]


def save_embeddings(path: Path, learned: Mapping[str, Tensor]) -> None:
    """Write token -> vectors (n, D) as safetensors, which diffusers' `load_textual_inversion` reads."""
    tensors = {token: vectors.detach().float().cpu().contiguous() for token, vectors in learned.items()}
    write_file(path, save(tensors))


def read_embeddings(path: Path, token: str | None = None, *, unnamed: str | None = None) -> dict[str, Tensor]:
    """token -> vectors (n, D) float32 of a file.

    Reads, as safetensors or as `torch.save` wrote them: {token: (n, D) or (D,)}; a bare tensor, whose token must be
    given; automatic1111's {"string_to_param": {"*": (n, D)}, "name": token} and {"emb_params": (n, D)}; files of the
    original paper's code; several vectors as diffusers writes them, <x>, <x>_1 .. Axes of length 1 are dropped. A given
    token replaces the token of a file that holds one word. unnamed: the token of a tensor without name, if none is
    given.
    Raises InputError for anything else, for NaN and infinity, and if there is no token.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected a learned embedding, such as learned_embeds.safetensors")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise InputError(f"{path} has {size} bytes; expected a learned embedding of at most {MAX_BYTES}")
    if is_safetensors(path):
        try:
            found: Any = load(path.read_bytes())
        except Exception as error:  # e.g. KeyError for an unknown number format
            if what := leftover(path):
                raise InputError(f"{path} {what}") from None
            raise InputError(f"{path} is not a readable safetensors file ({error}); export it again") from None
    else:
        allowed: list[Any] = [(_Terms, PARAMETER_DICT), (set, "builtins.set")]
        with torch.serialization.safe_globals(allowed):
            found = read_torch_file(path)
    found = _named(path, found)
    if not isinstance(found, dict) or not found:
        raise InputError(f"{path} holds a {type(found).__name__}; expected a tensor, or a dict of token to tensor")
    if token is not None:
        if len(found) > 1:
            raise InputError(f"{path} holds several tokens ({shortened(list(found))}); give the file without a token")
        found = {token: next(iter(found.values()))}
    learned = {}
    for name, tensor in found.items():
        if name is None and unnamed is None:
            raise InputError(f"{path} names no token; give it as '<new1>={path}'")
        bracketed = _bracketed(str(unnamed if name is None else name))
        if not (TOKEN.fullmatch(bracketed) and bracketed.isprintable()):
            raise InputError(
                f"{path} has the token {name!r:.80}, which cannot be part of a prompt; give it as '<new1>={path}'"
            )
        if bracketed in learned:
            raise InputError(f"{path} has {bracketed} twice, with brackets and without; export it again")
        learned[bracketed] = _vectors(path, bracketed if name is None else str(name), tensor)
    return learned


def _named(path: Path, found: Any) -> Any:
    """What a file holds as {token: tensor}; the token is None where the file names none."""
    if isinstance(found, Tensor):
        return {None: found}
    if not isinstance(found, dict):
        return found
    if "string_to_param" in found:  # automatic1111, and the original paper's code, which names only terms like "*"
        terms = found["string_to_param"]
        terms = vars(terms).get("_parameters") if isinstance(terms, _Terms) else terms
        if not isinstance(terms, dict) or len(terms) != 1:
            shown = f"the terms {shortened(list(terms))}" if isinstance(terms, dict) else f"a {type(terms).__name__}"
            raise InputError(f"{path} holds {shown} for one word; expected one term, export each by itself")
        name = found.get("name")
        return {name if isinstance(name, str) else None: tensor for tensor in terms.values()}
    if list(found) == ["emb_params"]:  # automatic1111's safetensors, whose name is that of the file
        return {None: found["emb_params"]}
    return _joined(path, found)


def _joined(path: Path, found: dict[Any, Any]) -> dict[Any, Any]:
    """Words of several vectors as one entry; diffusers writes the further vectors of <x> under <x>_1, <x>_2 .."""
    joined = dict(found)
    for name in found:
        pieces = takewhile(lambda piece: piece in joined, (f"{name}_{i}" for i in count(1)))
        if isinstance(name, str) and name in joined and (further := list(pieces)):
            vectors = [_vectors(path, piece, joined.pop(piece)) for piece in (name, *further)]
            if len({each.shape[1] for each in vectors}) > 1:
                raise InputError(f"{path} has vectors of different widths for {name}; export it again")
            joined[name] = torch.cat(vectors)
    return joined


def nearest_words(vector: Tensor, tokenizer: Any, vocabulary: Tensor, count: int) -> list[tuple[str, float]]:
    """The `count` words of a vocabulary (V, D) with the largest cosine to a vector (D,), and their cosines."""
    cosines = torch.nn.functional.cosine_similarity(vector[None].float(), vocabulary.float())
    best = cosines.topk(min(count, len(cosines)))
    words = tokenizer.convert_ids_to_tokens(best.indices.tolist())
    return [(word.removesuffix("</w>"), float(c)) for word, c in zip(words, best.values, strict=True)]


def _bracketed(name: str) -> str:
    """A token as prompts write it; A1111 files name theirs without brackets."""
    return name if name.startswith("<") and name.endswith(">") else f"<{name}>"


def _vectors(path: Path, name: str, tensor: object) -> Tensor:
    """(n, D) float32, checked."""
    plain = isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not isinstance(tensor, Tensor) or not plain or tensor.is_nested or not tensor.is_floating_point():
        raise InputError(f"{path} has no tensor of floating-point numbers under {name!r}; expected (vectors, width)")
    shape = [*tensor.shape]
    while len(shape) > 2 and 1 in shape:  # axes without meaning
        shape.remove(1)
    rows, width = (1, *shape) if len(shape) == 1 else shape if len(shape) == 2 else (0, 0)
    if not (1 <= rows <= 77 and 1 <= width <= MAX_WIDTH):
        raise InputError(f"{path} has a tensor of shape {tuple(tensor.shape)} for {name}; expected (vectors, width)")
    vectors = tensor.detach().float().reshape(rows, width)
    if not bool(vectors.isfinite().all()):
        raise InputError(f"{path} has numbers for {name} that are not finite; train it again")
    return vectors.clone()
