"""`hw2 doctor` on the command line."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Annotated

import typer

from hw2.options import DeviceOption


def doctor(
    *,
    device: DeviceOption = "auto",
    compile_network: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile", help="Try torch.compile, which may take a minute. By default on a GPU only."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON, e.g. for a bug report.")] = False,
) -> None:
    """What this machine computes, how exactly, and how fast. Exit status: 0 it can be used, 2 there is a problem."""
    from rich.console import Console

    from hw2.doctor.examine import checks, examine, examined_device
    from hw2.doctor.rows import table
    from hw2.progress import progress_bar

    examined = examined_device(device)
    with progress_bar("checks", len(checks(examined, False)), quiet=not sys.stderr.isatty()) as on_step:
        rows = examine(examined, compile_network, lambda name: on_step(name))
    if as_json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))  # noqa: T201
    else:
        Console().print(table(rows))
    raise typer.Exit(2 if any(row.status == "problem" for row in rows) else 0)
