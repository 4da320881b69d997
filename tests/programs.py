"""Every command of `hw2` and `hw2-grade`, as their own parsers have it."""

from typer.main import get_command

from grading.cli.app import app as grade
from hw2.__main__ import app as solve

APPS = {"hw2": solve, "hw2-grade": grade}


def every_command() -> list[tuple[str, list[str], list[str]]]:
    """(program, words, names of the options) of each command."""

    def below(program, command, words):
        yield program, words, [name for each in command.params for name in [*each.opts, *each.secondary_opts]]
        for name, each in getattr(command, "commands", {}).items():
            yield from below(program, each, [*words, name])

    return [each for program, app in APPS.items() for each in below(program, get_command(app), [])]
