"""Options that several commands share, and how a dataclass of options becomes the options of a command."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from hw2.diffusion.table import SAMPLERS
from hw2.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Config = TypeVar("Config", bound=DataclassInstance)

DeviceOption = Annotated[str, typer.Option(help="Device: cpu, cuda, cuda:1, or auto (a GPU if there is one).")]
DtypeOption = Annotated[
    str,
    typer.Option(
        help="Number format of the network: float32, bfloat16, float16, or auto (float32 on a CPU; on a GPU bfloat16, "
        "or float16 if it has no bfloat16)."
    ),
]
BatchOption = Annotated[int, typer.Option(help="Batch size. It changes speed and memory, never the images.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint of the output.")]
DeterministicOption = Annotated[
    bool,
    typer.Option(
        "--deterministic", help="Same bits each time on a GPU too, also after --resume. A step takes somewhat longer."
    ),
]
AccumulationOption = Annotated[
    int, typer.Option(help="Parts that a step is divided into, to save memory (gradient accumulation).")
]
CompileOption = Annotated[
    bool | None, typer.Option("--compile/--no-compile", help="Use torch.compile. By default on a GPU only.")
]


@dataclass(frozen=True)
class RecipeOptions:
    """What a person may change in a training recipe; None keeps the preset's value."""

    num_steps: Annotated[int | None, typer.Option(help="Number of steps, instead of the preset's.")] = None
    batch_size: Annotated[int | None, typer.Option(help="Batch size over all processes, instead of the preset's.")] = (
        None
    )
    learning_rate: Annotated[float | None, typer.Option(help="Learning rate, instead of the preset's.")] = None
    mixed_precision: Annotated[
        Literal["no", "bf16", "fp16"] | None,
        typer.Option(
            help="Number format of the training, instead of the preset's. A GPU without bfloat16 uses fp16 for bf16."
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed for everything random in the training.")] = 0

    def applied_to(self, config: Config) -> Config:
        """A recipe with these changes. Raises InputError for a recipe that cannot be trained."""
        changes = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        try:
            return dataclasses.replace(config, **changes)
        except ValueError as error:
            raise InputError(f"this recipe cannot be trained: {error}") from None


def samplers_help(names: Iterable[str]) -> str:
    """Help text about samplers."""
    return "; ".join(f"{name}: {SAMPLERS[name].help}" for name in names) + "."


def steps_help(default_steps: Mapping[str, int]) -> str:
    """Help text about default numbers of steps."""
    return (
        "Steps from noise to image. Default: " + ", ".join(f"{n} for {name}" for name, n in default_steps.items()) + "."
    )


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with one option for each field of every parameter whose type is a dataclass.

    A field is annotated as a parameter would be: `Annotated[int, typer.Option(help=..)]`. Raises InputError when it is
    called with values that the dataclass refuses with a ValueError.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            parameters += _parameters(groups[name])
        else:
            parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        for name, kind in groups.items():
            fields = {field.name: values.pop(field.name) for field in dataclasses.fields(kind)}
            try:
                values[name] = kind(**fields)
            except ValueError as error:
                raise InputError(f"these options cannot be used: {error}") from None
        command(**values)

    vars(with_options)["__signature__"] = inspect.Signature(parameters)
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


def _parameters(kind: Any) -> list[inspect.Parameter]:
    """A keyword parameter for each field of a dataclass."""
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(kind)
    ]
