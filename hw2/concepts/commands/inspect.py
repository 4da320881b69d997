"""`hw2 concepts inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hw2.cli import check_at_least
from hw2.concepts.commands.options import ModelOption, load_model


def inspect(
    file: Annotated[Path, typer.Argument(help="File of learned words, in any of the usual formats.")],
    model: ModelOption = None,
    token: Annotated[str | None, typer.Option(help="Token of a file that names none.")] = None,
    nearest: Annotated[int, typer.Option(help="How many of the vocabulary's nearest words to show.")] = 5,
) -> None:
    """Show what a file of learned words holds: tokens, vectors, their width and length, and the nearest words."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from hw2.concepts.embeddings import check_token, nearest_words, read_embeddings

    check_at_least("--nearest", nearest)
    if token is not None:
        check_token(token, "--token")
    learned = read_embeddings(file, token, unnamed="<?>")
    loaded = load_model(model, "cpu", "float32")
    vocabulary = loaded.words.weight
    lengths = vocabulary.norm(dim=1)
    console = Console(highlight=False)
    columns = "token", "vector", "width", "length", "cosine to the nearest words"
    table = Table(*columns, title=Text(file.name), title_justify="left")
    for name, vectors in learned.items():
        fits = vectors.shape[1] == vocabulary.shape[1]
        for i, vector in enumerate(vectors):
            words = nearest_words(vector, loaded.tokenizer, vocabulary, nearest) if fits else []
            near = ", ".join(f"{word} {cosine:.2f}" for word, cosine in words) or "- (another model's width)"
            table.add_row(Text(name), str(i), str(len(vector)), f"{vector.norm():.3f}", Text(near))
    console.print(table)
    console.print(
        f"This model's words are {vocabulary.shape[1]} wide and {lengths.min():.3f} .. {lengths.max():.3f} long, "
        f"{lengths.mean():.3f} on average."
    )
