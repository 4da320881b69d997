"""`hw2 faces`: Problem 2 on the command line."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hw2.cli import (
    BatchOption,
    DeviceOption,
    DtypeOption,
    check_at_least,
    check_picture_name,
    chosen_device,
    chosen_dtype,
    when_stopped,
)
from hw2.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from hw2.faces.sample import FaceSampler

app = typer.Typer(no_args_is_help=True, help="Problem 2: faces from given noises by DDIM.")

NoiseOption = Annotated[Path, typer.Option(help="Folder of noises 00.pt, 01.pt, .., each (1, 3, H, W) float32.")]
CheckpointOption = Annotated[Path, typer.Option(help="Weights: the official UNet.pt, or safetensors.")]
StepsOption = Annotated[int, typer.Option(help="DDIM steps; the homework's ground truth took 50.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the fresh noise that eta > 0 adds.")]


@app.command("sample")
def faces_sample(
    noise: NoiseOption,
    output: Annotated[Path, typer.Option(help="Folder for the faces: NN.png for each NN.pt.")],
    checkpoint: CheckpointOption,
    eta: Annotated[float, typer.Option(help="Share of fresh noise in each step, 0 (none) to 1 (as DDPM).")] = 0.0,
    num_inference_steps: StepsOption = 50,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    batch_size: BatchOption = 5,
) -> None:
    """Draw one face for each noise."""
    from hw2.files.output import OutputFolder

    if not 0 <= eta <= 1:
        raise InputError(f"--eta is {eta:g}; expected a number from 0 to 1")
    sampler, noises, settings = _load_faces(noise, checkpoint, num_inference_steps, seed, device, dtype, batch_size)
    folder = OutputFolder(output, [f"{name}.png" for name in noises], (settings, eta))
    with when_stopped():
        sampler.write(folder, noises, eta)
    folder.finish()


@app.command("eta-grid")
def faces_eta_grid(
    noise: NoiseOption,
    output: Annotated[Path, typer.Option(help="PNG file to write.")],
    checkpoint: CheckpointOption,
    num_inference_steps: StepsOption = 50,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    batch_size: BatchOption = 5,
) -> None:
    """Picture: the first four noises (columns) at eta 0, .25, .5, .75 and 1 (rows)."""
    from hw2.faces.figures import eta_grid_names, eta_grid_png
    from hw2.files.output import OutputFolder, write_file

    sampler, noises, settings = _load_faces(noise, checkpoint, num_inference_steps, seed, device, dtype, batch_size)
    first_four = dict(list(noises.items())[:4])
    folder = OutputFolder(_beside(output), eta_grid_names(first_four), settings)
    with when_stopped():
        write_file(output, eta_grid_png(sampler, first_four, folder))
    folder.discard()


@app.command("interpolate")
def faces_interpolate(
    noise: NoiseOption,
    output: Annotated[Path, typer.Option(help="PNG file to write.")],
    checkpoint: CheckpointOption,
    start: Annotated[str, typer.Option(help="Name of the noise at alpha 0.")] = "00",
    end: Annotated[str, typer.Option(help="Name of the noise at alpha 1.")] = "01",
    num_inference_steps: StepsOption = 50,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    batch_size: BatchOption = 5,
) -> None:
    """Picture: 11 faces on the way from one noise to another, by slerp and by linear interpolation."""
    from hw2.faces.figures import interpolation_names, interpolation_png
    from hw2.files.output import OutputFolder, write_file

    sampler, noises, settings = _load_faces(noise, checkpoint, num_inference_steps, 0, device, dtype, batch_size)
    for name in (start, end):
        if name not in noises:
            raise InputError(f"{noise} has no noise {name}.pt; it has {', '.join(noises)}")
    folder = OutputFolder(_beside(output), interpolation_names(), (settings, start, end))
    try:
        with when_stopped():
            png = interpolation_png(sampler, (start, noises[start]), (end, noises[end]), folder)
    except ValueError as error:
        folder.discard()
        raise InputError(f"no path leads from {start}.pt to {end}.pt in {noise}: {error}") from None
    write_file(output, png)
    folder.discard()


def _load_faces(
    noise: Path, checkpoint: Path, num_inference_steps: int, seed: int, device: str, dtype: str, batch_size: int
) -> tuple[FaceSampler, dict[str, Tensor], object]:
    """(sampler, noises, all that the faces depend on), every option checked before the long work starts."""
    from hw2.diffusion.schedule import timestep_pairs
    from hw2.faces.checkpoint import load_face_unet
    from hw2.faces.sample import FaceSampler, batch_invariant, load_noises

    try:
        timestep_pairs("homework", num_inference_steps)
    except ValueError as error:
        raise InputError(f"--num-inference-steps cannot be used: {error}") from None
    check_at_least("--batch-size", batch_size)
    arithmetic, device = chosen_dtype(dtype), chosen_device(device)
    network = load_face_unet(checkpoint, device=device, dtype=arithmetic)
    noises = load_noises(noise, network.config.downsampling)
    sampler = FaceSampler(batch_invariant(network, arithmetic), num_inference_steps, seed, batch_size, device)
    with checkpoint.open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    inputs = [(name, hashlib.sha256(tensor.numpy().tobytes()).hexdigest()) for name, tensor in noises.items()]
    return sampler, noises, (weights, inputs, num_inference_steps, seed, device, dtype)


def _beside(output: Path) -> Path:
    """The hidden folder that keeps a picture's single images until it is written."""
    check_picture_name(output)
    return output.with_name(f".{output.name}.faces")
