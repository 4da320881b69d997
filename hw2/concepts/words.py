"""Learned words for the tokenizer and text encoder of any diffusers pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from torch import Tensor

from hw2.concepts.embeddings import read_embeddings, token_pieces
from hw2.errors import InputError


def load_words(path: Path, tokenizer: Any, text_encoder: Any, token: str | None = None) -> list[str]:
    """Give a pipeline the words of a file, of any format that `read_embeddings` reads; returns their tokens.

    tokenizer, text_encoder: a pipeline's, changed in place; both grow by one row for each vector. token: the name that
    the file's only word gets, if not its own. The pipeline spells out a token of several vectors in prompts itself.
    Raises InputError, and changes nothing, if the file is invalid, its vectors have another width than the text
    encoder's, or a token is a word already.
    """
    learned = read_embeddings(path, token)
    table = text_encoder.get_input_embeddings().weight
    known = tokenizer.get_vocab()
    rows: dict[str, Tensor] = {}
    for name, vectors in learned.items():
        if vectors.shape[1] != table.shape[1]:
            raise InputError(
                f"{path} has vectors of width {vectors.shape[1]} for {name}, and this text encoder's words have "
                f"{table.shape[1]}; give a file that was trained with this model"
            )
        rows |= dict(zip(token_pieces(name, len(vectors)), vectors, strict=True))
    if taken := [piece for piece in rows if piece in known]:
        raise InputError(f"{path} has the token {taken[0]}, which the tokenizer knows already; choose another", "token")
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in rows])
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # the rows that are added are first drawn at random
        text_encoder.resize_token_embeddings(max(len(tokenizer), len(table)), mean_resizing=False)
        table = text_encoder.get_input_embeddings().weight
        for piece, vector in rows.items():
            table[tokenizer.convert_tokens_to_ids(piece)] = vector.to(table)
    return list(learned)
