"""`hw2 concepts`: Problem 3 on the command line, a file for each verb."""

from __future__ import annotations

from collections.abc import Callable

import typer

from hw2.cli import Group
from hw2.concepts.commands.compose import compose
from hw2.concepts.commands.generate import generate
from hw2.concepts.commands.inspect import inspect
from hw2.concepts.commands.learn import learn
from hw2.concepts.commands.zero_shot import zero_shot

app = typer.Typer(
    cls=Group, no_args_is_help=True, help="Problem 3: new words for Stable Diffusion, and CLIP's zero-shot guesses."
)
VERBS: dict[str, Callable[..., None]] = {
    "learn": learn,
    "generate": generate,
    "compose": compose,
    "inspect": inspect,
    "zero-shot": zero_shot,
}
for name, command in VERBS.items():
    app.command(name)(command)
