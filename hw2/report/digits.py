"""Problem 1's data: the network, its digits, the way from noise to them, and what guidance and steps change."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hw2.diffusion.table import SAMPLERS
from hw2.digits.figures import REVERSE_STEPS, frames, reverse_states
from hw2.digits.network import IMAGE_CHANNELS, IMAGE_SIZE, NUM_DIGITS, DigitUNet, DigitUNetConfig
from hw2.digits.sample import GUIDANCE_SCALE, DigitSampler, digit_to_u8, official_names
from hw2.digits.train import preset
from hw2.progress import OnStep
from hw2.report.inputs import SEED, Inputs
from hw2.report.judge import judged
from hw2.report.part import Row

Pixels = npt.NDArray[np.uint8]
SCALE, NUM_STEPS = GUIDANCE_SCALE, SAMPLERS["dpm++"].pixel_steps
"""The settings of `hw2 digits sample`."""


# --- the network


@dataclass(frozen=True)
class Network:
    """parameters and operations (multiplications and additions of one image, forward) of the whole network.

    patch: side of the squares that are folded. deepest: side of the smallest feature map. parts: the rows of the table,
    each name, modules, output shape, parameters and millions of operations.
    """

    parameters: int
    operations: float
    patch: int
    deepest: int
    deepest_share: float
    prediction_type: str
    parts: list[list[str | int | float]]


def network(inputs: Inputs, on_step: OnStep) -> Network:
    """Counted on the network itself, on the meta device, where nothing is computed."""
    model = inputs.digit_model
    parts, sides, total = _counted(model.network.config)
    deepest = min(sides.values())
    on_step("", 1)
    return Network(
        parameters=sum(p.numel() for p in model.network.parameters()),
        operations=total / 1e6,
        patch=model.network.config.patch_size,
        deepest=deepest,
        deepest_share=sum(float(row[4]) for row in parts if sides.get(str(row[0])) == deepest) * 1e6 / total,
        prediction_type=model.prediction_type,
        parts=parts,
    )


def _counted(config: DigitUNetConfig) -> tuple[list[list[str | int | float]], dict[str, int], int]:
    """(rows, side of each part's feature map, all operations), the parts in the order in which they are called."""
    shapes: dict[str, list[int]] = {}
    kinds: dict[str, list[str]] = {}

    def note(name: str, module: torch.nn.Module, output: Tensor) -> None:
        shapes[name] = list(output.shape[1:])
        kinds.setdefault(name, []).append(type(module).__name__)

    with torch.device("meta"):
        unet = DigitUNet(config)
        modules = dict(_parts(unet))
        for name, module in modules.items():
            group = _group(name)
            module.register_forward_hook(lambda m, given, output, group=group: note(group, m, output))
        labels = torch.zeros(1, dtype=torch.int64)
        sample = torch.empty(1, IMAGE_CHANNELS, IMAGE_SIZE, IMAGE_SIZE).expand(2, -1, -1, -1)
        with FlopCounterMode(display=False) as counter:
            unet(sample, labels.expand(2), labels.expand(2), labels.expand(2))
    operations = {name: sum(ops.values()) // len(sample) for name, ops in counter.get_flop_counts().items()}
    rows: list[list[str | int | float]] = []
    for group, shape in shapes.items():
        own = {name: module for name, module in modules.items() if _group(name) == group}
        spent = sum(operations.get(f"DigitUNet.{name}", 0) for name in own)
        count = sum(p.numel() for module in own.values() for p in module.parameters())
        modules_text = f"{len(own)} × {kinds[group][0]}" if len(own) > 1 else kinds[group][0]
        rows.append([group, modules_text, " × ".join(map(str, shape)), count, spent / 1e6])
    return rows, {name: shape[-1] for name, shape in shapes.items() if len(shape) == 3}, operations["Global"]


def _parts(unet: DigitUNet) -> Iterator[tuple[str, torch.nn.Module]]:
    """(name, module) of the modules that the network's forward pass calls."""
    for name, module in unet.named_children():
        if not isinstance(module, torch.nn.ModuleList):
            yield name, module
            continue
        for i, inner in enumerate(module):
            if isinstance(inner, torch.nn.ModuleList):
                yield from ((f"{name}.{i}.{j}", each) for j, each in enumerate(inner))
            else:
                yield f"{name}.{i}", inner


def _group(name: str) -> str:
    """A row's name: modules of one list and level share it."""
    return ".".join(name.split(".")[:2])


def network_rows(data: Network) -> list[Row]:
    """A row for each part."""
    return [Row(str(name), cells) for name, *cells in data.parts]


# --- recipes


@dataclass(frozen=True)
class Recipes:
    """The bundled model's recipe and that of the report which this project started from, where they differ.

    choices: name, bundled, report.
    """

    bundled_steps: int
    bundled_batch: int
    choices: list[list[str]]


OF_A_DATASET = 135_431
"""Training images of both official data sets, from which the report's epochs become steps."""


def recipes(inputs: Inputs, on_step: OnStep) -> Recipes:  # noqa: ARG001
    """Both recipes, from the presets that the trainings use."""
    bundled, seed = (dataclasses.asdict(preset(name, OF_A_DATASET)) for name in ("bundled", "report"))
    rows = [[name, _said(bundled[name]), _said(seed[name])] for name in bundled if bundled[name] != seed[name]]
    on_step("", 1)
    return Recipes(bundled["num_steps"], bundled["batch_size"], rows)


def _said(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def recipe_rows(data: Recipes) -> list[Row]:
    """A row for each choice."""
    return [Row(name, cells) for name, *cells in data.choices]


# --- digits


@dataclass(frozen=True)
class Grids:
    """Ten noises of each digit. Lists have a number for each data set. images: (200, 28, 28, 3), `official_names(10)`.

    wrong: how many of both data sets are taken for another digit.
    """

    accuracy: list[float]
    interval: list[list[float]]
    confusion: list[list[list[int]]]
    images_each: int
    wrong: int
    images: Pixels


def grids(inputs: Inputs, on_step: OnStep) -> Grids:
    """Both grids, judged."""
    names = official_names(10)
    drawn = dict(sampler(inputs).pixels(names, on_step))
    verdict = judged(drawn)
    right = sum(counts[digit][digit] for counts in verdict.confusion for digit in range(NUM_DIGITS))
    return Grids(
        verdict.accuracy, verdict.interval, verdict.confusion, len(names) // 2, len(names) - right,
        np.stack([drawn[name] for name in names]),
    )  # fmt: skip


def sampler(
    inputs: Inputs, guidance_scale: float = SCALE, num_steps: int = NUM_STEPS, name: str = "dpm++"
) -> DigitSampler:
    """A sampler of the digit model."""
    return DigitSampler(inputs.digit_model, name, num_steps, guidance_scale, seed=SEED, device=inputs.device)


@dataclass(frozen=True)
class Reverse:
    """The first "0" of each data set on its way. steps: done at each of the frames.

    apart: of each data set and frame, the root mean square between the predicted clean image and the last image, in
    levels of 255. images: (4, frames, 28, 28, 3): of each data set the sample and the prediction.
    """

    steps: list[int]
    apart: list[list[float]]
    images: Pixels


def reverse(inputs: Inputs, on_step: OnStep) -> Reverse:
    """DDPM's 1000 steps."""
    samples, predictions = reverse_states(sampler(inputs, num_steps=REVERSE_STEPS, name="ddpm"), on_step)
    shown = [
        np.stack([digit_to_u8(frame) for frame in states[:, i]]) for i in range(2) for states in (samples, predictions)
    ]
    apart = [[_rms(frame, shown[2 * i + 1][-1]) for frame in shown[2 * i + 1]] for i in range(2)]
    return Reverse(list(frames(REVERSE_STEPS)), apart, np.stack(shown))


def _rms(a: Pixels, b: Pixels) -> float:
    return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2)))
