"""Measure speed and memory: `python -m tests.benchmarks [faces|digits|concepts|pictures|names|cohort]`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


class Part(StrEnum):
    """What can be measured alone."""

    faces = "faces"
    digits = "digits"
    concepts = "concepts"
    pictures = "pictures"
    cohort = "cohort"
    names = "names"


PROBLEMS = [Part.faces, Part.digits, Part.concepts]

Parts = Annotated[list[Part] | None, typer.Argument(help="What to measure; without names, the three problems.")]
Submissions = Annotated[int, typer.Option(min=1, help="For cohort: number of submissions in the class.")]
Workers = Annotated[int, typer.Option(min=1, help="For cohort: number of workers.")]


def main(parts: Parts = None, submissions: Submissions = 200, workers: Workers = 2) -> None:
    """Measure speed and memory, each figure beside its floor or its rival."""
    wanted = parts or PROBLEMS
    problems = [problem for problem in PROBLEMS if problem in wanted]
    if problems:
        Console(width=200).print(problems_table(problems))
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


def problems_table(problems: list[Part]) -> Table:
    """The figures of the named problems in one table; code is imported only for these."""
    import torch

    from tests.benchmarks.measure import DEVICE

    torch.backends.cudnn.allow_tf32 = False
    table = Table("what", "measured", "beside", "ratio", title=f"{DEVICE}, {torch.get_num_threads()} threads")
    if Part.faces in problems:
        from tests.benchmarks.faces import bench_faces

        bench_faces(table)
    if Part.digits in problems:
        from tests.benchmarks.digits import bench_digits

        bench_digits(table)
    if Part.concepts in problems:
        from tests.benchmarks.concepts import bench_concepts

        bench_concepts(table)
    return table


if __name__ == "__main__":
    typer.run(main)
