"""`hw2 faces`: Problem 2 on the command line."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hw2.cli import (
    Group,
    check_at_least,
    check_picture_name,
    checking_steps,
    when_stopped,
    when_training_stopped,
)
from hw2.errors import InputError
from hw2.options import (
    AccumulationOption,
    BatchOption,
    CompileOption,
    DeterministicOption,
    DeviceOption,
    DtypeOption,
    RecipeOptions,
    ResumeOption,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from hw2.faces.sample import FaceSampler
    from hw2.figures import ImageU8
    from hw2.progress import OnStep

app = typer.Typer(cls=Group, no_args_is_help=True, help="Problem 2: faces from given noise by DDIM.")


@dataclass(frozen=True)
class NoiseOptions:
    """The files of noise and weights."""

    noise: Annotated[Path, typer.Option(help="Folder of noise files 00.pt, 01.pt, .., each (1, 3, H, W) float32.")]
    checkpoint: Annotated[
        Path, typer.Option(help="Weights: the official UNet.pt, or the model.safetensors of `hw2 faces train`.")
    ]


@dataclass(frozen=True)
class DrawingOptions:
    """How faces are drawn."""

    num_inference_steps: Annotated[int, typer.Option(help="DDIM steps. The homework's ground truth used 50.")] = 50
    device: DeviceOption = "auto"
    dtype: DtypeOption = "float32"
    batch_size: BatchOption = 5


SeedOption = Annotated[int, typer.Option(help="Seed of the fresh noise that eta > 0 adds.")]


@app.command("sample")
def sample(
    *,
    given: NoiseOptions,
    output: Annotated[Path, typer.Option(help="Folder for the faces: NN.png for each NN.pt.")],
    eta: Annotated[float, typer.Option(help="Share of fresh noise in each step, 0 (none) to 1 (as DDPM).")] = 0.0,
    drawing: DrawingOptions,
    seed: SeedOption = 0,
) -> None:
    """Draw one face for each noise file."""
    from hw2.devices.choose import start_processes
    from hw2.drawing import draw_folder

    if not 0 <= eta <= 1:
        raise InputError(f"--eta is {eta:g}; expected a number from 0 to 1")
    processes = start_processes(drawing.device)
    sampler, noises, settings = _load_faces(given, drawing, seed, str(processes.device))
    of_file = {f"{name}.png": noise for name, noise in noises.items()}

    def draw(files: list[str], on_step: OnStep) -> Iterator[tuple[str, ImageU8]]:
        found = sampler.pixels({file.removesuffix(".png"): of_file[file] for file in files}, eta, on_step)
        return ((f"{name}.png", face_u8) for name, face_u8 in found)

    with when_stopped():
        draw_folder(output, list(of_file), (settings, eta), draw, sampler.num_inference_steps, "faces", processes)


@app.command("eta-grid")
def eta_grid(
    given: NoiseOptions,
    output: Annotated[Path, typer.Option(help="PNG file to write.")],
    drawing: DrawingOptions,
    seed: SeedOption = 0,
) -> None:
    """Picture: the first four noise files (columns) at eta 0, .25, .5, .75 and 1 (rows)."""
    from hw2.devices.choose import start_processes
    from hw2.faces.figures import eta_grid_names, eta_grid_png
    from hw2.files.output import OutputFolder, write_file

    processes = start_processes(drawing.device)
    if not processes.is_main_process:
        return
    sampler, noises, settings = _load_faces(given, drawing, seed, str(processes.device))
    first_four = dict(list(noises.items())[:4])
    folder = OutputFolder(_beside(output), eta_grid_names(first_four), settings)
    with when_stopped():
        write_file(output, eta_grid_png(sampler, first_four, folder))
    folder.discard()


@app.command("interpolate")
def interpolate(
    given: NoiseOptions,
    output: Annotated[Path, typer.Option(help="PNG file to write.")],
    drawing: DrawingOptions,
    start: Annotated[str, typer.Option(help="Name of the noise at alpha 0.")] = "00",
    end: Annotated[str, typer.Option(help="Name of the noise at alpha 1.")] = "01",
) -> None:
    """Picture: 11 faces between one noise and another, by slerp and by linear interpolation."""
    from hw2.devices.choose import start_processes
    from hw2.faces.figures import interpolation_names, interpolation_png
    from hw2.files.output import OutputFolder, write_file
    from hw2.wording import shortened

    processes = start_processes(drawing.device)
    if not processes.is_main_process:
        return
    sampler, noises, settings = _load_faces(given, drawing, seed=0, device=str(processes.device))
    for name in (start, end):
        if name not in noises:
            raise InputError(f"{given.noise} has no noise {name}.pt; it has {shortened(list(noises), 10)}")
    folder = OutputFolder(_beside(output), interpolation_names(), (settings, start, end))
    try:
        with when_stopped():
            png = interpolation_png(sampler, (start, noises[start]), (end, noises[end]), folder)
    except ValueError as error:
        folder.discard()
        raise InputError(f"{start}.pt and {end}.pt in {given.noise} cannot be interpolated: {error}") from None
    write_file(output, png)
    folder.discard()


@dataclass(frozen=True)
class FaceRecipeOptions(RecipeOptions):
    """What a person may change in a recipe for faces."""

    image_size: Annotated[int | None, typer.Option(help="Height and width of the faces, instead of the preset's.")] = (
        None
    )


@app.command("train")
def train(
    *,
    images: Annotated[Path, typer.Option(help="Folder with photographs of faces; the middle square of each is used.")],
    output: Annotated[Path, typer.Option(help="Folder for the model, its checkpoints and TensorBoard logs.")],
    preset: Annotated[
        Literal["official", "bundled"],
        typer.Option(help="Recipe: the official network at 256x256 (a GPU), or that of the bundled model."),
    ] = "official",
    changes: FaceRecipeOptions,
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 500,
    pictures_every: Annotated[int, typer.Option(help="Steps between pictures in TensorBoard; 0: none.")] = 2000,
    compile_network: CompileOption = None,
    deterministic: DeterministicOption = False,
    accumulation: AccumulationOption = 1,
) -> None:
    """Train a face network. `accelerate launch -m hw2 faces train ..` uses several GPUs or machines."""
    from hw2.devices.choose import start_processes
    from hw2.devices.memory import remedies
    from hw2.faces.train import preset as recipe
    from hw2.faces.train import train_faces
    from hw2.files.pictures import read_images
    from hw2.training import MORE_PARTS

    check_at_least("--save-every", save_every)
    check_at_least("--accumulation", accumulation)
    check_at_least("--pictures-every", pictures_every, 0)
    processes = start_processes(device)
    config = changes.applied_to(recipe(preset))
    faces = read_images(images, config.image_size, "photographs of faces")
    watch: dict[str, Any] = {}
    if processes.is_main_process and pictures_every:
        from hw2.faces.watch import Watcher

        watch = {"watch": Watcher(output, config.image_size, str(processes.device), pictures_every)}
    with when_training_stopped(output / "checkpoint.pt"), remedies(*MORE_PARTS):
        train_faces(
            faces, config, output, device=device, resume=resume,
            compile_network=compile_network, deterministic=deterministic, accumulation=accumulation,
            save_every=save_every, **watch,
        )  # fmt: skip


def _load_faces(
    given: NoiseOptions, drawing: DrawingOptions, seed: int, device: str
) -> tuple[FaceSampler, dict[str, Tensor], object]:
    """(sampler, noises, everything that the faces depend on); every option is checked before the long work starts."""
    from hw2.devices.arithmetic import chosen_dtype
    from hw2.diffusion.schedule import timestep_pairs
    from hw2.faces.checkpoint import load_face_unet
    from hw2.faces.sample import FaceSampler, batch_invariant, load_noises

    steps = drawing.num_inference_steps
    with checking_steps():
        timestep_pairs("homework", steps)
    check_at_least("--batch-size", drawing.batch_size)
    dtype = chosen_dtype(drawing.dtype, device)
    network = load_face_unet(given.checkpoint, device=device, dtype=dtype)
    noises = load_noises(given.noise, network.config.downsampling)
    sampler = FaceSampler(batch_invariant(network, dtype), steps, seed, drawing.batch_size, device)
    with given.checkpoint.open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    inputs = [(name, hashlib.sha256(tensor.numpy().tobytes()).hexdigest()) for name, tensor in noises.items()]
    return sampler, noises, (weights, inputs, steps, seed, device.split(":")[0], dtype)


def _beside(output: Path) -> Path:
    """The hidden folder that keeps a picture's single images until it is written."""
    check_picture_name(output)
    return output.with_name(f".{output.name}.faces")
