"""The commands that prepare a machine: an environment for the scripts, models from the Hub, and a preflight."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from grading.cli.deliver import graded, write_json
from grading.cli.options import MakeAssignment, takes_assignment
from grading.cli.problem_commands import JsonOption
from grading.cli.surroundings import waiting
from grading.core.log import say
from grading.core.text import counted, listed, printable
from grading.environment.build import Lacking, build_environment, lacking
from grading.environment.hub_models import HUB_MODELS, fetch_models
from grading.environment.packages import COURSE_REQUIREMENTS, CURRENT_REQUIREMENTS, requirements_file
from grading.reports.terminal import stdout_console


def environment(
    output: Annotated[Path, typer.Option(help="Folder of the environment. One that is there already is kept.")],
    requirements: Annotated[
        str,
        typer.Option(
            help="Requirements file of pip, or course: the course's own versions, for Python 3.8. "
            "(default: versions for a current Python)",
            metavar="FILE|course",
        ),
    ] = "",
    submissions: Annotated[
        Path | None, typer.Option(help="Folder with one folder for each submission, to list what they import.")
    ] = None,
    interpreter: Annotated[
        str, typer.Option(help="Python of a new environment. (default: the grader's own)", show_default=False)
    ] = sys.executable,
) -> None:
    """Build a Python environment for --python, and list what submissions import that it lacks.

    Exit status: 0 nothing is lacking, 1 staff should add something, 2 the environment could not be made.
    """
    chosen = requirements_file(COURSE_REQUIREMENTS) if requirements == "course" else Path(requirements or ".")

    def make() -> list[Lacking]:
        default = requirements_file(CURRENT_REQUIREMENTS)
        made = build_environment(output.absolute(), chosen if requirements else None, default, interpreter)
        stdout_console().print(printable(f"{output} is {'installed' if made else 'kept as it was'}."))
        if submissions is None:
            return []
        with waiting("reading") as status:
            return lacking(output.absolute(), submissions, lambda name: status.update(printable(name)))

    found = graded(make)
    if found:
        stdout_console().print(_lacking_table(found))
    fixable = sum(each.fixable for each in found)
    if submissions is not None:
        stdout_console().print(f"{counted(fixable, 'package')} to add.")
    raise typer.Exit(1 if fixable else 0)


def _lacking_table(found: list[Lacking]) -> Table:
    table = Table(title="Imported by submissions, and not in the environment")
    for name in ("module", "what to do", "submissions"):
        table.add_column(name, overflow="fold")
    for each in found:
        who = f"{len(each.submissions)}: {listed(each.submissions)}"
        table.add_row(*(Text(printable(cell)) for cell in (each.module, each.remedy, who)))
    return table


def hub_cache(
    output: Annotated[Path, typer.Option(help="Folder of the cache, for --hub-cache. Run again to resume.")],
    judges: Annotated[bool, typer.Option("--judges", help="Also fetch the official judges of Fall 2024.")] = False,
    sam: Annotated[
        bool, typer.Option("--sam", help="Also fetch SAM2, the judge of masks of Fall 2025 (0.9 GB).")
    ] = False,
    zero_shot: Annotated[
        bool, typer.Option("--zero-shot", help="Also fetch ViT-B-32/openai for `hw2 concepts zero-shot` (0.6 GB).")
    ] = False,
) -> None:
    """Fetch the models that scripts load by name from the Hugging Face Hub. Runs need no network then."""
    chosen = {"scripts": True, "judges": judges, "sam": sam, "zero-shot": zero_shot}
    models = [model for model in HUB_MODELS if chosen[model.use]]
    commits = graded(lambda: fetch_models(output.absolute(), models, say=lambda name: say(f"fetching {name}")))
    for model in models:
        stdout_console().print(printable(f"{model.repository} {commits[model.repository]}"))


@takes_assignment
def doctor(make_assignment: MakeAssignment, json: JsonOption = "") -> None:
    """What is ready for grading and what is not. Exit status: 0 all ready, 2 staff must do something."""
    from grading.preflight.doctor import examine, preflight_table

    found = graded(lambda: examine(make_assignment().absolute(), Path.cwd()))
    if json != "-":
        stdout_console().print(preflight_table(found.rows))
    if json:
        write_json(json, found)
    raise typer.Exit(2 if found.unready else 0)
