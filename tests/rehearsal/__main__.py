"""`python -m tests.rehearsal`: the table of memory and operations; `--check` and `--json FILE` see below."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tests.rehearsal.rows import Row

Words = Annotated[list[str] | None, typer.Argument(help="Only cases whose name has one of these; default: all.")]
CheckOption = Annotated[bool, typer.Option("--check", help="End with exit status 1 if a case has a fault.")]
JsonOption = Annotated[Path | None, typer.Option(help="Write the rows to this file, too.")]


def main(words: Words = None, check: CheckOption = False, json_file: JsonOption = None) -> None:
    """Run the GPU code at real size over tensors without numbers, and show what it takes."""
    from tests.rehearsal.cases import CASES
    from tests.rehearsal.run import missing, rehearse

    if lack := missing():
        raise typer.BadParameter(lack)
    rows = rehearse([name for name in CASES if not words or any(word in name for word in words)], True)
    Console(width=160).print(memory_table(rows))
    faults = [f"{row.name}: {fault}" for row in rows for fault in row.faults()]
    for fault in faults:
        typer.echo(fault)
    if json_file is not None:
        json_file.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    if check and faults:
        raise typer.Exit(1)


def memory_table(rows: list[Row]) -> Table:
    """One line for each case; a fault is marked, and its sentence stands below the table."""
    table = Table("case", "peak GiB", "allowed", "TFLOP a step", "whole task", "waits a step", "fault")
    for row in rows:
        whole = "" if row.step_tflop is None or row.steps is None else f"{row.step_tflop * row.steps:,.0f}"
        table.add_row(
            row.name,
            f"{row.peak_gib:.2f}",
            f"{row.allowed_gib:.2f}",
            "" if row.step_tflop is None else f"{row.step_tflop:.3f}",
            whole,
            "" if row.syncs is None else str(row.syncs),
            "yes" if row.faults() else "",
        )
    return table


if __name__ == "__main__":
    typer.run(main)
