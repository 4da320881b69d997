"""What all commands share: how they fail, and the checks of their options."""

from __future__ import annotations

import difflib
import functools
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from hw2 import log
from hw2.errors import InputError
from hw2.extras import package_problem
from hw2.log import say
from hw2.surroundings import stopped_status


def complain(sentence: str) -> None:
    """Print a sentence on stderr."""
    log.complain(sentence)


class Group(TyperGroup):
    """Answers an unknown command with those that may be meant."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] in self.commands or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        root = ctx.find_root()
        raise InputError(unknown_command(args[0], list(_paths(root.command, root.info_name)), ctx.command_path))


def _paths(command: Any, path: str) -> Iterator[str]:
    """What is typed for each command of a group and of the groups in it, such as "hw2 digits sample"."""
    for name, each in getattr(command, "commands", {}).items():
        yield from _paths(each, f"{path} {name}")
    if not hasattr(command, "commands"):
        yield path


def unknown_command(name: str, known: list[str], group: str) -> str:
    """The sentence about a name that is no command: the commands of that name elsewhere, else near ones, else all."""
    last = {path.rpartition(" ")[2] for path in known}
    near = difflib.get_close_matches(name, last, n=3)
    found = [path for path in known if path.endswith(f" {name}")]
    found = found or [path for path in known if path.rpartition(" ")[2] in near]
    found = found or [path for path in known if path.startswith(f"{group} ")]
    return f"there is no command {name}; there {'is' if len(found) == 1 else 'are'}: {', '.join(found)}"


class Commands(Group):
    """Turns an error that the user can correct into one sentence and exit status 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.Exit:  # a RuntimeError, e.g. after --help, which must not load PyTorch
            raise
        except InputError as error:
            complain(_with_flags(error))
            raise typer.Exit(2) from None
        except KeyboardInterrupt as stop:
            say(f"stopped; {stop or 'nothing was written'}")
            raise typer.Exit(stopped_status()) from None
        except Exception as error:
            if not (sentence := _of_this_machine(error)):
                log.refused(error)
                raise
            complain(sentence)
            raise typer.Exit(2) from None


def _of_this_machine(error: Exception) -> str:
    """What is wrong with this machine's packages, files or memory, and what to do; empty for every other exception."""
    if problem := package_problem(error):
        return problem
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'} could not be used: {error.strerror}"
    if isinstance(error, MemoryError | RuntimeError):
        from hw2.devices.memory import NO_MEMORY, is_out_of_memory

        if is_out_of_memory(error):
            return f"{NO_MEMORY}; close other programs, or use another device (--device)"
    return ""


def _with_flags(error: InputError) -> str:
    """The sentence, with the flags of the parameters to change behind it: ".. use float32 (--dtype)"."""
    flags = " or ".join(flag(name) for name in error.parameters)
    return f"{error} ({flags})" if flags else str(error)


def flag(parameter: str) -> str:
    """How a parameter is written on the command line: "--batch-size" for batch_size."""
    return f"--{parameter.replace('_', '-')}"


RESUMES = "run the same command again to resume"


@contextmanager
def when_stopped(sentence: Callable[[], str] = lambda: RESUMES) -> Iterator[None]:
    """Around long work: after Ctrl-C, tell the user what is kept and how to resume."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(sentence()) from None


def when_training_stopped(checkpoint: Path) -> AbstractContextManager[None]:
    """As `when_stopped`, around a training that saves `checkpoint`."""

    def sentence() -> str:
        if not checkpoint.exists():
            return "no checkpoint was saved yet"
        return "run the same command with --resume to continue from the last checkpoint"

    return when_stopped(sentence)


def check_target(output: Path) -> None:
    """Raises InputError if no file can be written there, before any work is done for it."""
    try:
        if output.exists() and not output.is_file():
            raise InputError(f"{output} is not a file; expected the name of a file to write")
        nearest = next(folder for folder in output.absolute().parents if folder.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(f"{output} cannot be written, because {nearest} takes no files; choose another place")
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise InputError(f"{output} cannot be written ({error.strerror}); choose another place") from None


NAMES_OF_FILES = {"embeddings", "more_embeddings", "clip", "start", "end"}
"""Text parameters that may name a file. A file's name may have any bytes; a Path parameter always may."""


def reading_text(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command, which raises InputError before it starts if an option of text is not UTF-8."""

    @functools.wraps(command)
    def checked(**options: Any) -> Any:
        for name, value in options.items():
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str) and name not in NAMES_OF_FILES:
                    try:
                        text.encode()
                    except UnicodeEncodeError:
                        raise InputError(f"{flag(name)} is {text!r}, which is not UTF-8; expected text") from None
        return command(**options)

    return checked


def check_at_least(option: str, value: int, least: int = 1) -> None:
    """Raises InputError if an option's value is too small."""
    if value < least:
        raise InputError(f"{option} is {value}; expected {least} or more")


def check_guidance_scale(scale: float) -> None:
    """Raises InputError if images cannot be guided with this scale."""
    if not math.isfinite(scale):
        raise InputError(f"--guidance-scale is {scale}; expected a finite number")


@contextmanager
def checking_steps() -> Iterator[None]:
    """Around the choice of timesteps: a refused number of steps becomes an InputError that names its option."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"--num-inference-steps cannot be used: {error}") from None


def check_picture_name(output: Path) -> None:
    """Raises InputError if output cannot become a PNG file."""
    if output.is_dir():
        raise InputError(f"{output} is a folder; expected the name of a PNG file")
    if output.suffix.lower() != ".png":
        raise InputError(f"{output} would be a PNG picture; give it a name that ends in .png")
