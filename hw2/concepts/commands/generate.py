"""`hw2 concepts generate`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from hw2.cli import check_at_least, when_stopped
from hw2.concepts.commands.options import DrawingOptions, WordOptions, load_sampler


def generate(
    *,
    json: Annotated[Path, typer.Option(help="The homework's input.json.")],
    output: Annotated[Path, typer.Option(help="Folder for 0/0/source0_prompt0_0.png and so on.")],
    words: WordOptions,
    per_prompt: Annotated[int, typer.Option(help="Pictures of each prompt; the homework asks for 25.")] = 25,
    drawing: DrawingOptions,
) -> None:
    """Draw every prompt of an input.json with learned words, in the official layout."""
    from hw2.concepts.generate import fitting_batch_size, official_names
    from hw2.concepts.prompts import read_prompts
    from hw2.drawing import draw_missing
    from hw2.files.output import OutputFolder

    check_at_least("--per-prompt", per_prompt)
    prompts = read_prompts(json)
    sampler, settings = load_sampler(words, drawing)
    for concept in prompts.values():
        sampler.model.tokenize(concept.prompts)
    if drawing.batch_size is None:
        sampler = dataclasses.replace(sampler, batch_size=fitting_batch_size(sampler.model))
    names = official_names({key: concept.prompts for key, concept in prompts.items()}, per_prompt)
    folder = OutputFolder(output, list(names), (settings, sorted(names.items())))
    with when_stopped():
        draw_missing(
            folder,
            list(names),
            lambda missing, advance: sampler.pixels({name: names[name] for name in missing}, advance),
            sampler.network_calls,
            what="pictures",
        )
    folder.finish()
