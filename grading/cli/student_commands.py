"""The command for students: what to fix before handing in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from grading.cli.deliver import EXIT_STATUS, graded, write_json
from grading.cli.options import MakeAssignment, takes_assignment
from grading.cli.problem_commands import JsonOption
from grading.cli.surroundings import Standing, planned, waiting
from grading.core.errors import GradingError
from grading.core.results import SubmissionResult
from grading.environment.probes import Probes
from grading.preflight.handin import HandInReport, examine_handin, handin_lines
from grading.reports.terminal import stdout_console, submission_table
from grading.sandbox.temporary import temporary_folder
from grading.submission.assignment import Assignment

CHECKOUT = Path(__file__).parents[2]

EMBEDDED = {
    "data": CHECKOUT / "fixtures" / "hw2_data",
    "unet": CHECKOUT / "hw2" / "models" / "face_unet.safetensors",
    "stable_diffusion": CHECKOUT / "hw2" / "models" / "small_sd",
}
"""The embedded homework, which only a checkout has."""


HEADING = "\nYour scripts, public part only. Below, “staff” means you, and “the grading machine” means this one.\n"


@dataclass(frozen=True)
class Checked:
    """What --json writes. run: None without --run."""

    handin: HandInReport
    run: SubmissionResult | None


@takes_assignment
def check(
    make_assignment: MakeAssignment,
    folder: Annotated[Path, typer.Argument(help="Your folder with hw2_1.sh, hw2_2.sh, hw2_3.sh, or its zip.")] = Path(),
    run: Annotated[bool, typer.Option("--run", help="Also run the scripts and score them, public part only.")] = False,
    online: Annotated[bool, typer.Option("--online", help="Also ask the links of hw2_download_ckpt.sh.")] = False,
    json: JsonOption = "",
) -> None:
    """Check your own folder before you hand it in. Nothing is run without --run.

    --run needs --data, --unet and --stable-diffusion; a checkout of this project has a small homework in their place.
    Judges are the embedded ones unless you choose others. Exit status: 0 nothing to fix, 1 something, 2 not checked.
    """
    with waiting("reading"):
        assignment, report = graded(lambda: _examined(make_assignment, folder, online))
    if json != "-":
        stdout_console().print(handin_lines(report))
    result = graded(lambda: _run(assignment, folder)) if run else None
    if result and json != "-":
        stdout_console().print(HEADING, submission_table(result))
    if json:
        write_json(json, Checked(report, result))
    ran = EXIT_STATUS[result.status] if result else 0
    raise typer.Exit(ran if ran == EXIT_STATUS["error"] else int(report.failed or ran > 0))


def _examined(make: MakeAssignment, folder: Path, online: bool) -> tuple[Assignment, HandInReport]:
    assignment = make(**_defaults(make))
    ask = Probes(assignment.absolute().sandbox).pages if online else None
    return assignment, examine_handin(folder.absolute(), assignment.edition, ask)


def _defaults(make: MakeAssignment) -> dict[str, Any]:
    """The embedded homework where no other data are named."""
    judges = {"judges": "embedded"}
    try:
        make(**judges)
    except GradingError:
        return judges | EMBEDDED
    return judges


def _run(assignment: Assignment, folder: Path) -> SubmissionResult:
    """The result of the scripts on the public data. Their outputs are not kept."""
    from grading.submission.grader import Grader

    if not assignment.data.is_dir():
        raise GradingError("there are no data to run your scripts on; name the folder hw2_data", option="data")
    with temporary_folder("check") as output, waiting("preparing") as status:
        grader = Grader(replace(assignment.absolute(), private=None))
        with Standing(planned(grader)) as standing:
            shown = output / "graded"
            return grader.grade(folder.resolve(), shown, None, lambda name: status.update(standing.begin(name)))
