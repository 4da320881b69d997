"""Measure speed and memory: `python -m tests.benchmarks [faces|digits|concepts|start|growth|pictures|names|cohort]`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hw2.devices.memory import keep_freed_memory


class Part(StrEnum):
    """What can be measured alone."""

    faces = "faces"
    digits = "digits"
    concepts = "concepts"
    start = "start"
    growth = "growth"
    pictures = "pictures"
    cohort = "cohort"
    names = "names"


IN_ONE_TABLE = [Part.faces, Part.digits, Part.concepts, Part.start]

Parts = Annotated[list[Part] | None, typer.Argument(help="What to measure; without names, all of the one table.")]
Submissions = Annotated[int, typer.Option(min=1, help="For cohort: number of submissions in the class.")]
Output = Annotated[Path, typer.Option(help="For growth: the picture, a PNG file.")]
Workers = Annotated[int, typer.Option(min=1, help="For cohort: number of workers.")]


def main(
    parts: Parts = None, submissions: Submissions = 200, workers: Workers = 2, output: Output = Path("build/growth.png")
) -> None:
    """Measure speed and memory, each figure beside its floor or its rival."""
    keep_freed_memory()  # as `hw2` does
    wanted = parts or IN_ONE_TABLE
    together = [part for part in IN_ONE_TABLE if part in wanted]
    if together:
        Console(width=200).print(one_table(together))
    if Part.growth in wanted:
        from tests.benchmarks.growth import bench_growth

        bench_growth(output)
    if Part.pictures in wanted:
        from tests.benchmarks.pictures import bench_pictures

        table = Table("what", "measured", "bound", "ratio", title="hostile pictures")
        bench_pictures(table)
        Console(width=200).print(table)
    if Part.cohort in wanted:
        from tests.benchmarks.cohort import bench_cohort

        bench_cohort(submissions, workers)
    if Part.names in wanted:
        from tests.benchmarks.names import bench_names

        bench_names()


def one_table(parts: list[Part]) -> Table:
    """The figures of the named parts in one table; code is imported only for these."""
    import torch

    from tests.benchmarks.measure import DEVICE

    torch.backends.cudnn.allow_tf32 = False
    table = Table("what", "measured", "beside", "ratio", title=f"{DEVICE}, {torch.get_num_threads()} threads")
    if Part.faces in parts:
        from tests.benchmarks.faces import bench_faces

        bench_faces(table)
    if Part.digits in parts:
        from tests.benchmarks.digits import bench_digits

        bench_digits(table)
    if Part.concepts in parts:
        from tests.benchmarks.concepts import bench_concepts

        bench_concepts(table)
    if Part.start in parts:
        from tests.benchmarks.start import bench_start

        bench_start(table)
    return table


if __name__ == "__main__":
    typer.run(main)
