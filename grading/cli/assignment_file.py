"""Reads an assignment from a TOML file, checking every key, and makes a commented file to start from."""

from __future__ import annotations

import dataclasses
import sys
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    create_model,
)

from grading.core.errors import GradingError
from grading.core.text import printable
from grading.files.leftovers import described
from grading.files.staff_files import read_bytes
from grading.homeworks import DEFAULT, chosen_homework
from grading.judges import JUDGES
from grading.judges.sources import NAMED
from grading.sandbox.run import Limits
from grading.submission.assignment import MAX_TIME_SCALE, OPTIONS, Assignment

NOT_IN_FILE = ("trust",)
"""Options for the command line only. A file must not turn off the sandbox for untrusted code."""

_JUDGES = {"judges": "all"} | {kind.option: name for name, kind in JUDGES.items()}
"""Keys of the table judges, by their options."""

_JUDGE_OPTIONS = {key: option for option, key in _JUDGES.items()}


def read_assignment_file(path: Path) -> dict[str, Any]:
    """Values for `Assignment`, by its fields. Relative paths are relative to the file's folder.

    Raises GradingError, which names the key, for an unknown key or a value of the wrong type.
    """
    shown = printable(str(path))
    try:
        text = read_bytes(path, "an assignment as TOML")
        content = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:  # of invalid TOML or UTF-8, or tables that are nested too deep
        if what := described(text, path.name):
            raise GradingError(f"{shown} {what}; expected an assignment as TOML") from None
        raise GradingError(f"{shown} is not a valid TOML file ({printable(str(error))}); correct it") from None
    try:
        checked = _MODEL.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        known = "" if first["type"] != "extra_forbidden" else f"; known keys are {', '.join(_known(first['loc'][:-1]))}"
        raise GradingError(f"{shown}: the key {printable(key)} is invalid ({first['msg']}){known}") from None
    said = checked.model_dump(exclude_unset=True)
    for name, choice in said.pop("judges", {}).items():
        said[_JUDGE_OPTIONS[name]] = _beside(path, choice)
    for name, value in said.items():
        if isinstance(value, Path):
            said[name] = path.parent / value
    chosen_homework(said.get("homework", DEFAULT)).with_points(said.get("points", {}))
    return said


def _beside(path: Path, choice: str) -> str:
    """The path of a judge's file or folder beside the assignment file; the name unchanged if there is none."""
    named = choice in ("", *NAMED) or not (path.parent / choice).exists()
    return choice if named else str(path.parent / choice)


def _numbers(value: Any) -> Any:
    """The problems to grade, such as "1,3". A list of numbers is converted."""
    return ",".join(map(str, value)) if isinstance(value, list) else value


def _judges(value: Any) -> Any:
    """The table judges; a name alone is that of all judges."""
    return {"all": value} if isinstance(value, str) else value


class _Closed(BaseModel):
    """A table that allows no unknown keys."""

    model_config = ConfigDict(extra="forbid")


class _Points(BaseModel):
    """Changes to the points of the homework."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, dict[str, NonNegativeFloat]] = Field(init=False)

    report: NonNegativeFloat | None = None
    late_share_per_day: Annotated[float, Field(ge=0, le=1)] | None = None
    staff_fixed_share: Annotated[float, Field(ge=0, le=1)] | None = None


def _model() -> type[BaseModel]:
    """A table of the options, with the tables judges, limits and points."""
    hints = get_type_hints(Assignment)
    options: dict[str, Any] = {name: hints[name] for name in OPTIONS if name not in NOT_IN_FILE and name not in _JUDGES}
    options["problems"] = Annotated[str, BeforeValidator(_numbers)]
    whole: dict[str, Any] = {each.name: PositiveInt for each in dataclasses.fields(Limits)}
    options["time_scale"] = Annotated[float, Field(gt=0, le=MAX_TIME_SCALE)]
    judges = _table("Judges", dict.fromkeys(JUDGES, str) | {"all": hints["judges"]})
    options["judges"] = Annotated[judges, BeforeValidator(_judges)]
    options["limits"] = _table("Limits", whole | {"seconds": PositiveFloat})
    options["points"] = _Points
    return _table("AssignmentFile", options)


def _table(name: str, kinds: Mapping[str, Any]) -> type[BaseModel]:
    """A table whose keys are all optional. It allows no other keys."""
    fields: dict[str, Any] = {key: (kind, None) for key, kind in kinds.items()}
    return create_model(name, __base__=_Closed, **fields)


_MODEL = _model()


def _known(place: tuple[int | str, ...]) -> list[str]:
    """The keys of a table of the file."""
    model: Any = _MODEL
    for key in place:
        model = model.model_fields[str(key)].annotation
    return sorted(model.model_fields)


def commented_file() -> str:
    """An assignment file to start from. Every key is explained, and all keys but `data` are commented out."""
    lines = [
        "# Configuration of a grading. Use: hw2-grade submission FOLDER --assignment THIS-FILE --output RESULTS",
        "# Options on the command line override this file. Relative paths are relative to the folder of this file.",
    ]
    for name in OPTIONS:
        if name in NOT_IN_FILE or name in _JUDGES:
            continue
        lines += ["", *_comment(OPTIONS[name].help or ""), f"{'' if name == 'data' else '# '}{name} = {_example(name)}"]
    lines += ["", "[judges]"]
    for option, name in _JUDGES.items():
        lines += [*_comment(OPTIONS[option].help or ""), f"# {name} = {_toml(_default(option))}"]
    lines += ["", "[limits]", "# Limits of each script. A problem's official time limit always applies as well."]
    lines += [f"# {each.name} = {_toml(each.default)}" for each in dataclasses.fields(Limits)]
    lines += ["", "[points]", *_points_lines()]
    return "\n".join(lines) + "\n"


def _points_lines() -> list[str]:
    homework = chosen_homework(DEFAULT)
    lines = [
        f"# Changes to the points of {homework.name}.",
        f"# late_share_per_day = {homework.late_share_per_day}",
        f"# staff_fixed_share = {homework.staff_fixed_share}",
        f"# report = {max(homework.report.values()):g}",
    ]
    for problem in homework.problems:
        inner = ", ".join(f"{key} = {points:g}" for key, points in problem.points.items())
        lines.append(f"# problem_{problem.number} = {{ {inner} }}")
    return lines


def _example(name: str) -> str:
    examples: Mapping[str, Any] = MappingProxyType(
        {
            "data": "hw2_data", "private": "hw2_private", "problems": [1, 2, 3], "unet": "hw2_data/face/UNet.pt",
            "stable_diffusion": "model.ckpt", "python": sys.prefix, "staff": "staff.csv",
        }
    )  # fmt: skip
    return _toml(examples[name] if name in examples else _default(name))


def _default(name: str) -> Any:
    return Assignment.__dataclass_fields__[name].default


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | list):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 118, initial_indent="# ", subsequent_indent="# ")
