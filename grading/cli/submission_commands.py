"""The commands that run and grade whole submissions, one or a class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from grading.cli.assignment_file import commented_file
from grading.cli.deliver import deliver_submission, graded, show_aside, write_text
from grading.cli.options import MakeAssignment, takes_assignment
from grading.cli.problem_commands import JsonOption
from grading.cli.surroundings import Standing, planned, waiting
from grading.core.errors import GradingError
from grading.core.log import complain, say
from grading.core.results import Check, SubmissionResult
from grading.core.text import counted, listed, printable
from grading.files.unpack import submission_name
from grading.points.staff import StaffEntry, plain_name, read_staff_file
from grading.reports.roster import read_roster
from grading.reports.terminal import stdout_console
from grading.reports.todo import staff_tasks
from grading.submission.assignment import Assignment

OutputOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder for outputs, results and reports. Run again to resume. (default: graded/NAME in this folder, with "
        "the name of what is graded)"
    ),
]

RosterOption = Annotated[
    Path | None,
    typer.Option(help="CSV with a folder and a student_id for each student; also writes scores_canvas.csv for Canvas."),
]


@takes_assignment
def submission(
    make_assignment: MakeAssignment,
    submission_dir: Annotated[
        Path, typer.Argument(help="Folder with hw2_1.sh, hw2_2.sh, hw2_3.sh, or a zip file of it.")
    ],
    output: OutputOption = None,
    late_days: Annotated[int, typer.Option(help="Days late after the free days.", min=0)] = 0,
    staff_fixed: Annotated[bool, typer.Option("--staff-fixed", help="Staff fixed the code.")] = False,
    json: JsonOption = "",
) -> None:
    """Run a submission's scripts in a sandbox, score their outputs and write the reports."""

    def grade() -> SubmissionResult:
        from grading.submission.grader import Grader
        from grading.submission.stages import check_fetch

        assignment = make_assignment(for_scores=True)
        place = output or _default_output(submission_dir)
        check_fetch([submission_dir], assignment.sandbox)
        entry = StaffEntry()
        if assignment.staff:
            staff = read_staff_file(assignment.staff, assignment.edition)
            entry = staff.get(plain_name(submission_name(submission_dir.resolve())), entry)
        if late_days or staff_fixed:
            late, fixed = late_days or entry.late_days, staff_fixed or entry.staff_fixed
            entry = replace(entry, late_days=late, staff_fixed=fixed)
        with waiting("preparing") as status:
            grader = Grader(assignment)
            with Standing(planned(grader)) as standing:
                return grader.grade(submission_dir, place, entry, lambda name: status.update(standing.begin(name)))

    def failed(check: Check) -> SubmissionResult:
        return SubmissionResult(printable(submission_name(submission_dir)), "error", 0, 0, 0, warnings=[check])

    deliver_submission(graded(grade, json, failed), json)


@takes_assignment
def cohort(
    make_assignment: MakeAssignment,
    submissions: Annotated[Path, typer.Argument(help="Folder with one folder for each submission.")],
    output: OutputOption = None,
    workers: Annotated[
        int | None, typer.Option(help="Submissions graded at the same time. (default: one for each GPU, or one)", min=1)
    ] = None,
    address: Annotated[
        str, typer.Option(help="Address of a Ray cluster: auto, or HOST:PORT. (default: this machine, without Ray)")
    ] = "",
    roster: RosterOption = None,
) -> None:
    """Grade a whole class. Exit status: 0 if all were graded, whatever their points; 2 if something was not checked."""
    place = output or _default_output(submissions)

    def grade() -> list[SubmissionResult]:
        from grading.cohort.cohort import grade_cohort

        assignment = make_assignment(for_scores=True)
        _preflight(assignment, submissions, place)
        staff = read_staff_file(assignment.staff, assignment.edition) if assignment.staff else {}
        students = read_roster(roster) if roster else []
        return grade_cohort(submissions, assignment, place, staff, workers, address, students)

    _deliver_class(graded(grade), place)


def class_(
    output: Annotated[Path, typer.Argument(help="Folder for the files of the class.")],
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders that were the --output of `submission`. (default: those in OUTPUT/students)"),
    ] = None,
    roster: RosterOption = None,
) -> None:
    """Make the page and the tables of a class from submissions that were graded one by one, as on a cluster.

    Nothing is graded. A submission whose files are not as they were written counts as not checked. Exit status: as
    `cohort`.
    """
    from grading.cohort.collect import collect_class

    results, notes = graded(lambda: collect_class(output, folders or [], read_roster(roster) if roster else []))
    for note in notes:
        complain(note.message)
    _deliver_class(results, output)


def _deliver_class(results: Sequence[SubmissionResult], output: Path) -> NoReturn:
    """Say how a class ended, and where its files are."""
    counts = Counter(result.status for result in results)
    unchecked = f". {counts['error']} could not be checked completely; grade again" if counts["error"] else ""
    console = stdout_console()
    console.print(f"{counted(len(results), 'submission')} graded, {counts['pass']} with full points{unchecked}.")
    for task in staff_tasks(results):
        console.print(f"  {printable(task.sentence)} ({listed(task.submissions)})", markup=False)
    for reason in [check.message for each in results if not each.lines for check in each.warnings]:
        console.print(f"  {printable(reason)}", markup=False)
    console.print(printable(f"{output / 'index.html'} and {output / 'scores.csv'}"))
    raise typer.Exit(2 if counts["error"] else 0)


def _default_output(graded_folder: Path) -> Path:
    """The output where none is named, which stderr says."""
    output = Path("graded", submission_name(graded_folder.resolve()))
    say(printable(f"The output is {output} in this folder; --output names another."))
    return output


def _preflight(assignment: Assignment, submissions: Path, output: Path) -> None:
    """Show what is not ready on stderr. Raises GradingError if no submission, or no download, could be checked."""
    from grading.preflight.doctor import examine, preflight_table, refuse_if_blocked
    from grading.submission.stages import check_fetch

    found = examine(assignment.absolute(), output.absolute())
    if found.unready:
        show_aside(preflight_table(found.unready))
    refuse_if_blocked(found)
    if submissions.is_dir():
        check_fetch(submissions.iterdir(), assignment.sandbox)


def verify(
    output: Annotated[Path, typer.Argument(help="Folder that was the --output of `submission` or `cohort`.")],
) -> None:
    """Check that grade.json and outputs are as they were written. Exit status: 0 they are, 1 not, 2 not checked."""
    from grading.submission.verify import changes_of, graded_folders

    folders = graded(lambda: graded_folders(output))
    changes = graded(lambda: [sentence for folder in folders for sentence in changes_of(folder)])
    console = stdout_console()
    for sentence in changes:
        console.print(sentence, markup=False)
    if changes:
        console.print("Run the same grading again to grade what was changed.")
        raise typer.Exit(1)
    console.print(f"All is as it was written: {counted(len(folders), 'submission')}.")


def init(
    file: Annotated[Path, typer.Argument(help="TOML file to write.")] = Path("hw2.toml"),
) -> None:
    """Write a commented assignment file to use with --assignment."""

    def make() -> None:
        if file.exists() or file.is_symlink():
            raise GradingError(f"{printable(str(file))} exists already; name another file, or remove it")
        write_text(file, commented_file())

    graded(make)
    stdout_console().print(printable(f"{file} is written; set its paths, then use it with --assignment {file}."))
