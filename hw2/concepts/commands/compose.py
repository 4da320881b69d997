"""`hw2 concepts compose`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hw2.cli import check_at_least, check_picture_name, check_target, when_stopped
from hw2.concepts.commands.options import DrawingOptions, WordOptions, assigned, load_sampler
from hw2.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from hw2.concepts.compose import Box
    from hw2.drawing import Draw
    from hw2.figures import ImageU8


def compose(
    *,
    prompt: Annotated[str, typer.Option(help="With two or more learned words: 'a <new1> and a <new2> on the beach'.")],
    word: Annotated[
        list[str], typer.Option(help="Ordinary word that replaces each while the layout is drawn: '<new1>=dog'.")
    ],
    words: WordOptions,
    output: Annotated[Path, typer.Option(help="PNG to write: a row of naive pictures above one of blended ones.")],
    box: Annotated[
        list[str] | None,
        typer.Option(
            help="Region of a word, left,top,right,bottom from 0 to 1: '<new1>=0,0,0.5,1'. "
            "Default: regions are found from the attention maps."
        ),
    ] = None,
    hold: Annotated[float, typer.Option(help="Share of the steps that keep the layout's attention.")] = 0.4,
    count: Annotated[int, typer.Option(help="Pictures in a row.")] = 8,
    drawing: DrawingOptions,
) -> None:
    """Picture: several learned words in one prompt as they are, and blended by regions (after OMG, ECCV 2024)."""
    from hw2.concepts.compose import Composition, check_boxes, draw_blended, fit_batch
    from hw2.devices.choose import start_processes
    from hw2.drawing import draw_missing
    from hw2.figures import image_grid_png
    from hw2.files.output import OutputFolder, write_file

    check_picture_name(output)
    check_target(output)
    check_at_least("--count", count)
    composition = Composition(prompt, _each_once("--word", word), _boxes(box), hold)
    processes = start_processes(drawing.device)
    if not processes.is_main_process:
        return
    sampler, settings = load_sampler(words, drawing, str(processes.device))
    sampler.model.tokenize([prompt, *composition.prompts()])
    check_boxes(sampler, composition)
    if drawing.batch_size is None:
        sampler = dataclasses.replace(sampler, batch_size=fit_batch(sampler, composition).images)
    ways: dict[str, tuple[int, Draw]] = {  # walks of a picture, and how to draw
        "one prompt": (1, lambda missing, advance: sampler.pixels(dict.fromkeys(missing, prompt), advance)),
        "blended": (2, lambda missing, advance: _pixels(draw_blended(sampler, composition, missing, advance))),
    }
    names = [f"compose {i}" for i in range(count)]
    files = [f"{way} {name}.png" for way in ways for name in names]
    folder = OutputFolder(output.with_name(f".{output.name}.pictures"), files, (settings, composition))
    with when_stopped():
        for way, (walks, draw) in ways.items():
            draw_missing(
                folder,
                names,
                draw,
                walks * sampler.num_inference_steps,
                what=way,
                file_of=lambda name, way=way: f"{way} {name}.png",  # type: ignore[misc]
            )
    rows = [[folder.read(f"{way} {name}.png") for name in names] for way in ways]
    columns = [str(i) for i in range(count)]
    write_file(output, image_grid_png(rows, row_labels=list(ways), column_labels=columns, title=prompt))
    folder.discard()


def _pixels(images: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, ImageU8]]:
    from hw2.concepts.generate import image_to_u8

    return ((name, image_to_u8(image)) for name, image in images)


def _each_once(option: str, texts: Sequence[str]) -> dict[str, str]:
    """token -> value of an option that is given once for each token."""
    found: dict[str, str] = {}
    for token, value in (assigned(option, text) for text in texts):
        if token in found:
            raise InputError(f"{option} gives {token} twice; expected each word once")
        found[token] = value
    return found


def _boxes(texts: Sequence[str] | None) -> dict[str, Box] | None:
    return {token: _box(token, text) for token, text in _each_once("--box", texts).items()} if texts else None


def _box(token: str, text: str) -> Box:
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"the box of {token} is {text!r}; expected left,top,right,bottom from 0 to 1") from None
    return left, top, right, bottom
