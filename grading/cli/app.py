"""Official scores for folders of images. Exit status: 0 pass, 1 fail, 2 the grader could not check it."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from grading.cli import (
    environment_commands,
    gradescope_commands,
    problem_commands,
    student_commands,
    submission_commands,
)
from grading.cli.deliver import DEBUG, explain, graded
from grading.cli.surroundings import Commands, copy_stdout, fit_help, restore_help, run
from grading.cli.version import print_version, version_line
from grading.core.log import begin, complain, printed, program_options_first, set_up, to_file

app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def _commands(
    log: Annotated[
        Path | None, typer.Option(help="File to append everything to, with times, shown here or not.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show each step, and warnings of libraries.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show only errors and results.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error at once.")] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the versions that a bug report needs.", callback=print_version, is_eager=True
        ),
    ] = False,
) -> None:
    DEBUG["on"] = debug
    graded(lambda: set_up(log, verbose=verbose, quiet=quiet))
    if log is not None:
        begin(version_line())
        copy_stdout(printed)


app.command("faces")(problem_commands.faces)
app.command("digits")(problem_commands.digits)
app.command("concepts")(problem_commands.concepts)
app.command("zero-shot")(problem_commands.zero_shot)
app.command("submission")(submission_commands.submission)
app.command("cohort")(submission_commands.cohort)
app.command("class")(submission_commands.class_)
app.command("verify")(submission_commands.verify)
app.command("gradescope")(gradescope_commands.gradescope)
app.command("handed-in")(gradescope_commands.handed_in)
app.command("init")(submission_commands.init)
app.command("check")(student_commands.check)
app.command("environment")(environment_commands.environment)
app.command("hub-cache")(environment_commands.hub_cache)
app.command("doctor")(environment_commands.doctor)
app.command("explain")(problem_commands.explain_command)


def main() -> None:
    """Entry point of the `hw2-grade` command."""
    warnings.filterwarnings("ignore", "CUDA initialization")  # the judges' device says it in one sentence
    restore_help(app, Path(__file__))
    status = run(_program, complain, explain)
    to_file(f"exit status {status}")
    sys.exit(status)


def _program() -> None:
    fit_help(app)
    app(program_options_first(sys.argv[1:]))
