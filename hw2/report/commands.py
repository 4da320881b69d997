"""`hw2 report` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hw2.cli import when_stopped
from hw2.errors import InputError
from hw2.options import DeviceOption


def report(
    *,
    output: Annotated[Path, typer.Option(help="Folder for report.html, the figures and their numbers.")],
    data: Annotated[Path | None, typer.Option(help="The homework's hw2_data. Default: the embedded data.")] = None,
    unet: Annotated[
        Path | None, typer.Option(help="Weights of the faces. Default: face/UNet.pt of --data, or the bundled ones.")
    ] = None,
    digits: Annotated[
        Path | None, typer.Option(help="A model.safetensors of `hw2 digits train`. Default: the bundled model.")
    ] = None,
    stable_diffusion: Annotated[
        Path | None, typer.Option(help="sd-v1-4.ckpt, or a folder of diffusers. Default: the bundled model.")
    ] = None,
    clip: Annotated[
        str | None, typer.Option(help="A CLIP, as for `hw2 concepts zero-shot`. Default: the bundled model.")
    ] = None,
    embeddings: Annotated[
        list[Path] | None, typer.Option(help="File of learned words; give it once for each file.")
    ] = None,
    digit_log: Annotated[
        Path | None,
        typer.Option(help="Log of `hw2 digits train`: its output folder, or a CSV. Default: the bundled model's."),
    ] = None,
    word_log: Annotated[
        Path | None, typer.Option(help="Log of `hw2 concepts learn`: the folder NAME.training, or a CSV.")
    ] = None,
    problems: Annotated[str, typer.Option(help="Problems to report, such as 2 or 1,3.")] = "1,2,3",
    language: Annotated[Literal["en", "zh-TW"], typer.Option(help="Language of the page.")] = "en",
    device: DeviceOption = "auto",
) -> None:
    """Write the homework's report: one page with every figure and its explanation. Run again to resume."""
    from hw2.devices.choose import start_processes
    from hw2.files.output import write_file
    from hw2.log import say
    from hw2.progress import progress_bar
    from hw2.report.inputs import chosen_inputs
    from hw2.report.page import report_page
    from hw2.report.part import make
    from hw2.report.parts import parts_of
    from hw2.report.reproducibility import record

    chosen = _problems(problems)
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is not a folder; expected a folder to write to")
    processes = start_processes(device)
    if not processes.is_main_process:
        return
    inputs = chosen_inputs(
        data, unet, digits, stable_diffusion, clip, embeddings or (), str(processes.device), digit_log, word_log
    )
    inputs.check(chosen)
    made = []
    with when_stopped():
        for part in (each for each in parts_of(chosen) if each.given(inputs)):
            with progress_bar(part.name, part.steps(inputs)) as on_step:
                made.append(make(part, inputs, output / "figures", on_step))
        absent = [part for part in parts_of(chosen) if not part.given(inputs)]
        page = report_page(made, language, record(made, inputs, chosen), absent, embedded=inputs.embedded(chosen))
        write_file(output / "report.html", page.encode())
    say(f"the report is {output / 'report.html'}")


def _problems(text: str) -> tuple[int, ...]:
    """The numbers of a list such as "1,3", rising. Raises InputError for another form."""
    names = [name.strip() for name in text.split(",")]
    if not set(names) <= {"1", "2", "3"} or len(set(names)) < len(names):
        raise InputError(f"--problems is {text!r}; expected some of 1,2,3, each once")
    return tuple(sorted(map(int, names)))
