"""Reads the options of an assignment, the fields of `Assignment`, from the command line and from a file."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from grading.cli.assignment_file import read_assignment_file
from grading.core.errors import GradingError
from grading.core.log import say
from grading.core.results import Part
from grading.submission.assignment import OPTIONS, Assignment

FileOption = Annotated[
    Path | None,
    typer.Option("--assignment", help="TOML file with these options; options on the command line override it."),
]
PublicOnlyOption = Annotated[
    bool, typer.Option("--public-only", help="Grade no private part, even if the assignment file sets private data.")
]

DATA = Path("hw2_data")
"""The data where none are named. The course's script gives the folder this name."""

MakeAssignment = Callable[..., Assignment]
"""Makes a command's assignment from file and flags, and from defaults of the command by name.

Raises GradingError if these are invalid.
"""


def takes_assignment(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's first parameter, a `MakeAssignment`, by the options of an assignment."""
    hints = get_type_hints(Assignment, include_extras=True)
    own = inspect.signature(command, eval_str=True).parameters
    (maker, *others) = own.values()
    arguments = [each for each in others if each.default is inspect.Parameter.empty]
    after = [each for each in others if each.default is not inspect.Parameter.empty]
    keyword = inspect.Parameter.KEYWORD_ONLY
    file = [
        inspect.Parameter("assignment_file", keyword, default=None, annotation=FileOption),
        inspect.Parameter("public_only", keyword, default=False, annotation=PublicOnlyOption),
    ]
    options = [
        inspect.Parameter(name, keyword, default=_default(name), annotation=_annotation(name, hints[name]))
        for name in OPTIONS
    ]

    @functools.wraps(command)
    def run(context: typer.Context, **values: Any) -> None:
        flags = {name: values[name] for name in OPTIONS if _is_typed(context, name)}
        path, public_only = values.pop("assignment_file"), values.pop("public_only")
        make = functools.partial(make_assignment, path, flags, public_only)
        command(**{maker.name: make}, **{name: value for name, value in values.items() if name in own})

    context = [inspect.Parameter("context", keyword, annotation=typer.Context)]
    parameters = [each.replace(kind=keyword) for each in (*context, *arguments, *file, *options, *after)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def make_assignment(
    path: Path | None, flags: Mapping[str, Any], public_only: bool = False, *, for_scores: bool = False, **defaults: Any
) -> Assignment:
    """Make an assignment from a file, if any, and from the typed flags, which override the file.

    for_scores: whether a submission is graded. Then the current folder's hw2_data are the default, which stderr says,
    and no points may be left out in silence. defaults: values of options that neither sets. Raises GradingError if the
    file is invalid, no data folder is set, --public-only contradicts --private, or for_scores and neither is set
    although the homework has private points.
    """
    if public_only and "private" in flags:
        raise GradingError("--public-only and --private contradict each other; remove one of them")
    said = read_assignment_file(path) if path else {}
    values = {**defaults, **said, **flags}
    if public_only:
        values["private"] = None
    if for_scores and "data" not in values and DATA.is_dir():
        say(f"The data are those of {DATA} in this folder; --data names others.")
        values["data"] = DATA
    if "data" not in values:
        raise GradingError('no data folder is set; add --data FOLDER, or --assignment FILE with a line data = "FOLDER"')
    source = {"file": {key: _plain(value) for key, value in said.items()}} if path else {}
    source["flags"] = {key: _plain(value) for key, value in flags.items()}
    assignment = Assignment(**values, source=source)
    if for_scores and not public_only:
        _check_private(assignment)
    return assignment


def _check_private(assignment: Assignment) -> None:
    """Raises GradingError if private points would be left out unasked. The embedded homework has no private data."""
    private, every = assignment.edition.points_of(Part.PRIVATE), assignment.edition.points_of()
    if private and assignment.private is None and not assignment.embedded:
        raise GradingError(
            f"{private:g} of {every:g} points are for private inputs, but no private data are set; add --private "
            f"FOLDER, or --public-only to grade the other {every - private:g}"
        )


def _is_typed(context: typer.Context, name: str) -> bool:
    """Whether an option was typed on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _default(name: str) -> Any:
    return None if name == "data" else Assignment.__dataclass_fields__[name].default


def _annotation(name: str, hint: Any) -> Any:
    """The option's annotation. `data` is optional, because the file can set it."""
    return Annotated[Path | None, OPTIONS[name]] if name == "data" else hint


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
