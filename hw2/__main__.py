"""The homework's reference solution: images from noises, labels and prompts."""

from __future__ import annotations

import sys

import typer

from hw2.cli import Commands
from hw2.concepts.commands import app as concepts
from hw2.digits.commands import app as digits
from hw2.faces.commands import app as faces

app = typer.Typer(
    cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__
)
app.add_typer(digits, name="digits")
app.add_typer(faces, name="faces")
app.add_typer(concepts, name="concepts")


def main() -> None:
    """Entry point of the `hw2` command."""
    sys.exit(app())


if __name__ == "__main__":
    main()
