"""Measure speed and memory: `python -m tests.benchmarks [faces|digits|concepts|cohort ...]`, or `make bench`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

Part = Literal["faces", "digits", "concepts", "cohort"]
PROBLEMS: tuple[Part, ...] = ("faces", "digits", "concepts")

Parts = Annotated[list[Part] | None, typer.Argument(help="What to measure; default: the three problems, not cohort.")]
Submissions = Annotated[int, typer.Option(min=1, help="For cohort: number of submissions in the class.")]
Workers = Annotated[int, typer.Option(min=1, help="For cohort: number of Ray workers.")]


def main(parts: Parts = None, submissions: Submissions = 200, workers: Workers = 2) -> None:
    """Measure speed and memory, each figure beside its floor or its rival."""
    wanted = list(dict.fromkeys(parts or PROBLEMS))
    if any(part in wanted for part in PROBLEMS):
        Console(width=200).print(problems_table(wanted))
    if "cohort" in wanted:
        from tests.benchmarks.cohort import bench_cohort

        bench_cohort(submissions, workers)


def problems_table(wanted: list[Part]) -> Table:
    """The figures of the wanted problems in one table. A part imports what it measures only when it runs."""
    import torch

    from tests.benchmarks.measure import DEVICE

    torch.backends.cudnn.allow_tf32 = False
    table = Table("what", "measured", "beside", "ratio", title=f"{DEVICE}, {torch.get_num_threads()} threads")
    for part in wanted:
        if part == "faces":
            from tests.benchmarks.faces import bench_faces

            bench_faces(table)
        elif part == "digits":
            from tests.benchmarks.digits import bench_digits

            bench_digits(table)
        elif part == "concepts":
            from tests.benchmarks.concepts import bench_concepts

            bench_concepts(table)
    return table


if __name__ == "__main__":
    typer.run(main)
