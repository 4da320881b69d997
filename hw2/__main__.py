"""The homework's reference solution: images from noise, labels and prompts."""

from __future__ import annotations

import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated

try:
    import fcntl  # noqa: F401 - locks of output folders; Windows has none

    import typer

    from hw2.cli import Commands, complain, reading_text
    from hw2.concepts.commands import app as concepts
    from hw2.digits.commands import app as digits
    from hw2.doctor.commands import doctor
    from hw2.faces.commands import app as faces
    from hw2.log import begin, printed, program_options_first, set_up, to_file
    from hw2.options import expanded
    from hw2.report.commands import report
    from hw2.surroundings import copy_stdout, fit_help, restore_help, run
    from hw2.version import print_version, version_line
except KeyboardInterrupt:  # loading PyTorch takes seconds
    sys.exit(130)
except ImportError as missing:
    if missing.name != "fcntl":
        raise
    sys.stderr.write("hw2: this program runs on Linux only; on Windows, use WSL 2\n")
    sys.exit(2)

app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def _options(
    log: Annotated[
        Path | None, typer.Option(help="File to append everything to, with times, shown here or not.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show each step, and warnings of libraries.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show only errors and results.")] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the versions that a bug report needs.", callback=print_version, is_eager=True
        ),
    ] = False,
) -> None:
    set_up(log, verbose=verbose, quiet=quiet)
    if log is not None:
        begin(version_line())
        copy_stdout(printed)


for name, problem in {"digits": digits, "faces": faces, "concepts": concepts}.items():
    for command in problem.registered_commands:
        assert command.callback is not None
        command.callback = reading_text(expanded(command.callback))
    app.add_typer(problem, name=name)
app.command("doctor")(reading_text(doctor))
app.command("report")(reading_text(report))


def main() -> None:
    """Entry point of the `hw2` command."""
    warnings.filterwarnings("ignore", "CUDA initialization")  # `hw2.devices` says it in one sentence
    restore_help(app, Path(__file__))
    status = run(_program, complain, _defect)
    to_file(f"exit status {status}")
    sys.exit(status)


def _program() -> None:
    fit_help(app)
    app(program_options_first(sys.argv[1:]))


def _defect(error: Exception) -> str:
    traceback.print_exception(error)
    to_file("".join(traceback.format_exception(error)))
    return "this is a defect of hw2; please report it with the lines above"


if __name__ == "__main__":
    main()
