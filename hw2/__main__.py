"""The homework's reference solution: images from noise, labels and prompts."""

from __future__ import annotations

import io
import sys
import warnings
from typing import Annotated

import typer

from hw2.cli import Commands, print_version, reading_text
from hw2.concepts.commands import app as concepts
from hw2.digits.commands import app as digits
from hw2.doctor.commands import doctor
from hw2.faces.commands import app as faces
from hw2.options import expanded

app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the versions that a bug report needs.", callback=print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


for name, problem in {"digits": digits, "faces": faces, "concepts": concepts}.items():
    for command in problem.registered_commands:
        assert command.callback is not None
        command.callback = reading_text(expanded(command.callback))
    app.add_typer(problem, name=name)
app.command("doctor")(reading_text(doctor))


def main() -> None:
    """Entry point of the `hw2` command."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # the name of a file may have bytes that are not text
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", "CUDA initialization")  # `hw2.devices` says it in one sentence
    sys.exit(app())


if __name__ == "__main__":
    main()
