"""A dataclass of options becomes the options of a command, and errors become sentences with flags."""

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from hw2.cli import Commands
from hw2.errors import InputError
from hw2.options import RecipeOptions, expanded
from hw2.training import Recipe


@dataclass(frozen=True)
class Size:
    width: Annotated[int, typer.Option("--width", "-w", help="How wide.")]
    height: Annotated[int, typer.Option(help="How high.")] = 3

    def __post_init__(self):
        if self.width < 1:
            raise ValueError(f"width must be 1 or more, got {self.width}")


def draw(*, name: Annotated[str, typer.Option(help="Whose.")] = "x", size: Size, deep: bool = False) -> None:
    if name == "bad":
        raise InputError("the name is bad; choose another", "name", "size_of_it")
    typer.echo(f"{name} {size.width} {size.height} {deep}")


def run(*arguments):
    app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
    app.command("draw")(expanded(draw))
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["draw", *arguments])


def test_every_field_is_an_option_with_its_own_default_help_and_names():
    assert run("-w", "5").stdout == "x 5 3 False\n"
    assert run("--width", "5", "--height", "7", "--name", "y", "--deep").stdout == "y 5 7 True\n"
    assert run().exit_code == 2
    assert "How high." in run("--help").stdout
    assert list(inspect.signature(expanded(draw)).parameters) == ["name", "width", "height", "deep"]


def test_values_that_the_dataclass_refuses_are_one_sentence():
    refused = run("--width", "0")
    assert refused.exit_code == 2
    assert refused.stderr == "hw2: these options cannot be used: width must be 1 or more, got 0\n"


def test_the_command_adds_the_flags_of_the_parameters_that_an_error_names():
    assert run("-w", "1", "--name", "bad").stderr == "hw2: the name is bad; choose another (--name or --size-of-it)\n"


def test_an_option_that_is_not_given_keeps_the_presets_value():
    preset = Recipe(num_steps=7, batch_size=3)
    assert RecipeOptions().applied_to(preset) == preset
    assert RecipeOptions(batch_size=5, seed=2).applied_to(preset) == Recipe(num_steps=7, batch_size=5, seed=2)
    with pytest.raises(InputError, match="this recipe cannot be trained: num_steps must be 1 or more, got 0"):
        RecipeOptions(num_steps=0).applied_to(preset)
