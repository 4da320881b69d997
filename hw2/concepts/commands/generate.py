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
    """Draw every prompt of an input.json with learned words. Under `accelerate launch`, processes share the work."""
    from hw2.concepts.generate import announce, fit_batch, official_names
    from hw2.concepts.prompts import read_prompts
    from hw2.devices.choose import start_processes
    from hw2.devices.memory import tell_need
    from hw2.drawing import draw_folder
    from hw2.wording import counted

    check_at_least("--per-prompt", per_prompt)
    prompts = read_prompts(json)
    names = official_names({key: concept.prompts for key, concept in prompts.items()}, per_prompt)
    processes = start_processes(drawing.device)
    sampler, settings = load_sampler(words, drawing, str(processes.device))
    for concept in prompts.values():
        sampler.model.tokenize(concept.prompts)
    if drawing.batch_size is None:
        fit = fit_batch(sampler.model)
        sampler = dataclasses.replace(sampler, batch_size=fit.images)
        tell_need(counted(fit.images, "picture") + " at once", sampler.model.device, fit.needed)
    if processes.is_main_process and drawing.model is not None:
        announce(sampler, -(-len(names) // processes.num_processes))
    with when_stopped():
        draw_folder(
            output,
            list(names),
            (settings, sorted(names.items())),
            lambda missing, advance: sampler.pixels({name: names[name] for name in missing}, advance),
            sampler.num_inference_steps,
            "pictures",
            processes,
        )
