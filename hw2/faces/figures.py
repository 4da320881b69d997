"""Problem 2's two pictures: the effect of eta, and slerp beside linear interpolation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hw2.diffusion.interpolate import angle_between, lerp, slerp
from hw2.faces.sample import FaceSampler
from hw2.figures import Panel, image_grid_png
from hw2.files.output import OutputFolder

ETAS = (0.0, 0.25, 0.5, 0.75, 1.0)
ALPHAS = tuple(i / 10 for i in range(11))
PATHS: dict[str, Callable[[Tensor, Tensor, tuple[float, ...]], Tensor]] = {"slerp": slerp, "lerp": lerp}


def eta_grid_png(sampler: FaceSampler, noises: dict[str, Tensor], folder: OutputFolder) -> bytes:
    """A PNG of the faces of all given noises (columns) at eta 0, .25, .5, .75 and 1 (rows).

    folder: keeps the single faces, named as `eta_grid_names` lists them.
    """
    for eta in ETAS:
        sampler.write(folder, noises, eta, prefix=f"eta {eta:g} noise ")
    return image_grid_png(
        [[folder.read(f"eta {eta:g} noise {name}.png") for name in noises] for eta in ETAS],
        row_labels=[f"eta {eta:g}" for eta in ETAS],
        column_labels=[f"noise {name}" for name in noises],
        title=f"DDIM, {sampler.num_inference_steps} steps",
    )


def eta_grid_names(noises: dict[str, Tensor]) -> list[str]:
    """File names of the single faces in the eta grid."""
    return [f"eta {eta:g} noise {name}.png" for eta in ETAS for name in noises]


def interpolation_png(
    sampler: FaceSampler, start: tuple[str, Tensor], end: tuple[str, Tensor], folder: OutputFolder
) -> bytes:
    """A PNG of 11 faces along slerp above 11 along lerp, and below them the norm and the angle along both paths.

    start, end: (name, noise). folder: keeps the single faces, named as `interpolation_names` lists them.
    Raises ValueError as `slerp` does.
    """
    norms, angles = {}, {}
    for name, interpolate in PATHS.items():
        path = interpolate(start[1], end[1], ALPHAS)  # (11, 1, 3, H, W)
        sampler.write(folder, {f"{alpha:g}": x for alpha, x in zip(ALPHAS, path, strict=True)}, prefix=f"{name} ")
        norms[name] = [float(noise.double().norm()) for noise in path]
        angles[name] = [angle_between(path[0], noise) * 180 / torch.pi for noise in path]
    norms["noise as in training"] = [start[1].numel() ** 0.5] * len(ALPHAS)
    return image_grid_png(
        [[folder.read(f"{name} {alpha:g}.png") for alpha in ALPHAS] for name in PATHS],
        row_labels=list(PATHS),
        column_labels=[f"{alpha:g}" for alpha in ALPHAS],
        title=f"From noise {start[0]} (alpha = 0) to noise {end[0]} (alpha = 1)",
        panels=[
            Panel(ALPHAS, norms, "alpha", "norm of the noise"),
            Panel(ALPHAS, angles, "alpha", "degrees from the start"),
        ],
    )


def interpolation_names() -> list[str]:
    """File names of the single faces along the two paths."""
    return [f"{name} {alpha:g}.png" for name in PATHS for alpha in ALPHAS]
