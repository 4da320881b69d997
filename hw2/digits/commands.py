"""`hw2 digits`: Problem 1 on the command line."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hw2.cli import (
    Group,
    check_at_least,
    check_guidance_scale,
    check_picture_name,
    checking_steps,
    when_stopped,
    when_training_stopped,
)
from hw2.diffusion.table import pixel_steps
from hw2.errors import InputError
from hw2.files.bundled import DIGIT_RECOGNIZER, DIGIT_STUDENT, DIGIT_UNET
from hw2.options import (
    AccumulationOption,
    BatchOption,
    CompileOption,
    DeterministicOption,
    DeviceOption,
    DtypeOption,
    RecipeOptions,
    ResumeOption,
    samplers_help,
    steps_help,
)

if TYPE_CHECKING:
    from hw2.digits.sample import DigitSampler

    SamplerName = str
else:
    SamplerName = Literal[tuple(pixel_steps())]

app = typer.Typer(
    cls=Group, no_args_is_help=True, help="Problem 1: MNIST-M and SVHN digits by one conditional diffusion model."
)

CheckpointOption = Annotated[
    Path | None, typer.Option(help="A model.safetensors of `hw2 digits train`. Default: the bundled model.")
]


@dataclass(frozen=True)
class GuidanceOptions:
    """What every drawing depends on."""

    checkpoint: CheckpointOption = None
    guidance_scale: Annotated[
        float | None,
        typer.Option(help="uncond + scale * (cond - uncond): 1 is off, more is clearer. Default: 4; 1 if distilled."),
    ] = None
    guidance_interval: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Timesteps that are guided: from the first number to before the second. Default: all."),
    ] = None
    seed: Annotated[
        int, typer.Option(help="Seed. A digit depends on this, the weights and its own name, nothing else.")
    ] = 0
    device: DeviceOption = "auto"
    dtype: DtypeOption = "float32"


@dataclass(frozen=True)
class DrawingOptions(GuidanceOptions):
    """The same, and the walk that draws."""

    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="A model.safetensors of `hw2 digits train` or `distill`. Default: the bundled model that is distilled "
            "for 3 evaluations; with a sampler, steps or guidance of your own, the model that it was distilled from."
        ),
    ] = None
    recognizer: Annotated[
        Path | None,
        typer.Option(
            help="A recognizer.safetensors of `hw2 digits train`: a digit that it does not recognize is drawn again, "
            "at most 7 times. Default: the bundled one for the bundled distilled model, none for any other."
        ),
    ] = None
    sampler: Annotated[
        SamplerName | None,
        typer.Option(help=f"{samplers_help(pixel_steps())} Default: dpm++; what the checkpoint is distilled for."),
    ] = None
    num_inference_steps: Annotated[int | None, typer.Option(help=steps_help(pixel_steps()))] = None
    batch_size: BatchOption = 100


@app.command("sample")
def sample(
    *,
    output: Annotated[Path, typer.Option(help="Folder for mnistm/ and svhn/, each with 0_001.png ..")],
    per_digit: Annotated[int, typer.Option(help="Images of each digit in each data set.")] = 50,
    drawing: DrawingOptions,
) -> None:
    """Draw the homework's 1000 digits. Under `accelerate launch`, several processes share the work."""
    from hw2.devices.choose import start_processes
    from hw2.digits.sample import official_names
    from hw2.drawing import draw_folder

    check_at_least("--per-digit", per_digit)
    if per_digit > 999:
        raise InputError(f"--per-digit is {per_digit}; expected at most 999, because names are such as 0_001.png")
    processes = start_processes(drawing.device)
    sampler, settings = _own_sampler(drawing, str(processes.device))
    with when_stopped():
        steps = sampler.num_inference_steps
        draw_folder(output, official_names(per_digit), settings, sampler.pixels, steps, "digits", processes)


@app.command("grid")
def grid(output: Annotated[Path, typer.Option(help="PNG file to write.")], drawing: DrawingOptions) -> None:
    """Picture: ten noises of each digit, a 10x10 grid for each data set."""
    from hw2.devices.choose import start_processes
    from hw2.digits.figures import digit_grid_png
    from hw2.files.output import write_file

    check_picture_name(output)
    processes = start_processes(drawing.device)
    if not processes.is_main_process:
        return
    sampler, _ = _own_sampler(drawing, str(processes.device))
    write_file(output, digit_grid_png(sampler))


@app.command("reverse")
def reverse(
    output: Annotated[Path, typer.Option(help="PNG file to write.")],
    guidance: GuidanceOptions,
    num_inference_steps: Annotated[
        int, typer.Option(help="DDPM steps, a multiple of 5. The homework's slides show 1000.")
    ] = 1000,
) -> None:
    """Picture: the first "0" of each data set after each fifth of DDPM's steps: 0, 200, .., 1000."""
    from hw2.devices.choose import start_processes
    from hw2.digits.figures import reverse_png
    from hw2.files.output import write_file

    check_picture_name(output)
    if num_inference_steps not in range(5, 1001, 5):
        raise InputError(f"--num-inference-steps is {num_inference_steps}; expected a multiple of 5, from 5 to 1000")
    processes = start_processes(guidance.device)
    if not processes.is_main_process:
        return
    sampler, _ = _sampler(guidance, "ddpm", num_inference_steps, batch_size=2, device=str(processes.device))
    write_file(output, reverse_png(sampler))


@dataclass(frozen=True)
class DigitRecipeOptions(RecipeOptions):
    """What a person may change in a recipe for digits."""

    prediction_type: Annotated[
        Literal["epsilon", "v_prediction"] | None, typer.Option(help="What is predicted, instead of the preset's.")
    ] = None
    min_snr_gamma: Annotated[
        float | None, typer.Option(help="Weight timesteps by min(SNR, this number); 5 is usual.")
    ] = None
    house_numbers: Annotated[
        int | None, typer.Option(help="Number of house numbers to draw from fonts as further SVHN images.")
    ] = None


@app.command("train")
def train(
    *,
    data: Annotated[Path, typer.Option(help="The homework's hw2_data, with digits/{mnistm,svhn}/.")],
    output: Annotated[Path, typer.Option(help="Folder for the model, its checkpoints and TensorBoard logs.")],
    preset: Annotated[
        Literal["default", "report", "bundled"],
        typer.Option(help="Recipe: ours, the report's (1000 epochs of epsilon), or that of the bundled model."),
    ] = "default",
    changes: DigitRecipeOptions,
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 500,
    pictures_every: Annotated[int, typer.Option(help="Steps between pictures in TensorBoard; 0: none.")] = 2000,
    compile_network: CompileOption = None,
    deterministic: DeterministicOption = False,
    accumulation: AccumulationOption = 1,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded images. Default: ~/.cache/hw2.")] = None,
) -> None:
    """Train the model. `accelerate launch -m hw2 digits train ..` uses several GPUs or machines."""
    from hw2.devices.choose import start_processes
    from hw2.devices.memory import remedies
    from hw2.digits.data import load_digits
    from hw2.digits.train import preset as recipe
    from hw2.digits.train import train_digits
    from hw2.training import MORE_PARTS

    check_at_least("--save-every", save_every)
    check_at_least("--accumulation", accumulation)
    check_at_least("--pictures-every", pictures_every, 0)
    processes = start_processes(device)
    images = load_digits(data, cache)
    config = changes.applied_to(recipe(preset, len(images)))
    watch: dict[str, Any] = {}
    if processes.is_main_process and pictures_every:
        from hw2.digits.watch import Watcher

        watch = {"watch": Watcher(output, config, str(processes.device), pictures_every)}
    with when_training_stopped(output / "checkpoint.pt"), remedies(*MORE_PARTS):
        train_digits(
            images, config, output, device=device, resume=resume,
            compile_network=compile_network, deterministic=deterministic, accumulation=accumulation,
            save_every=save_every, **watch,
        )  # fmt: skip


@dataclass(frozen=True)
class DistillRecipeOptions(RecipeOptions):
    """What a person may change in a recipe of a distillation."""

    num_steps: Annotated[int | None, typer.Option(help="Number of steps of each stage, instead of the preset's.")] = (
        None
    )
    guidance_scale: Annotated[
        float | None, typer.Option(help="Guidance that the student learns, instead of the preset's.")
    ] = None
    guidance_interval: Annotated[
        tuple[int, int] | None, typer.Option(help="Timesteps that are guided, instead of the preset's.")
    ] = None
    first_steps: Annotated[
        int | None, typer.Option(help="DDIM steps of the first student; each later one takes half as many.")
    ] = None
    num_inference_steps: Annotated[int | None, typer.Option(help="DDIM steps of the last student.")] = None


@app.command("distill")
def distill(
    *,
    data: Annotated[Path, typer.Option(help="The homework's hw2_data, with digits/{mnistm,svhn}/.")],
    output: Annotated[Path, typer.Option(help="Folder for the model, its checkpoints and TensorBoard logs.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="The teacher, a model.safetensors of `hw2 digits train`. Default: the bundled one."),
    ] = None,
    preset: Annotated[
        Literal["default", "bundled"], typer.Option(help="Recipe: ours, or that of the bundled model.")
    ] = "default",
    changes: DistillRecipeOptions,
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 500,
    pictures_every: Annotated[int, typer.Option(help="Steps between pictures in TensorBoard; 0: none.")] = 2000,
    compile_network: CompileOption = None,
    deterministic: DeterministicOption = False,
    accumulation: AccumulationOption = 1,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded images. Default: ~/.cache/hw2.")] = None,
) -> None:
    """Distill a model: a student that draws in few evaluations what its teacher draws with guidance in many."""
    from hw2.devices.choose import start_processes
    from hw2.devices.memory import remedies
    from hw2.digits.checkpoint import load_digit_model
    from hw2.digits.data import load_digits
    from hw2.digits.distill import distill_digits, distill_preset
    from hw2.training import MORE_PARTS

    check_at_least("--save-every", save_every)
    check_at_least("--accumulation", accumulation)
    check_at_least("--pictures-every", pictures_every, 0)
    check_guidance(changes.guidance_scale, changes.guidance_interval)
    processes = start_processes(device)
    teacher = load_digit_model(checkpoint or DIGIT_UNET)
    images = load_digits(data, cache)
    config = changes.applied_to(distill_preset(preset, len(images)))
    watch: dict[str, Any] = {}
    if processes.is_main_process and pictures_every:
        from hw2.digits.watch import Watcher

        recognizer = output / "recognizer.safetensors"
        watch["watch_stage"] = lambda folder: Watcher(folder, config, str(processes.device), pictures_every, recognizer)
    with when_training_stopped(output / f"{config.first_steps}_steps" / "checkpoint.pt"), remedies(*MORE_PARTS):
        distill_digits(
            images, teacher, config, output, device=device, resume=resume,
            compile_network=compile_network, deterministic=deterministic, accumulation=accumulation,
            save_every=save_every, **watch,
        )  # fmt: skip


@app.command("info")
def info(checkpoint: CheckpointOption = None) -> None:
    """Show what the network costs, part by part, and what other designs would cost."""
    from rich.console import Console
    from rich.table import Table

    from hw2.digits.checkpoint import load_digit_model
    from hw2.digits.info import alternatives, cost

    config = load_digit_model(checkpoint or DIGIT_UNET).network.config
    console = Console()
    spent = cost(config)
    parts = Table("part", "MFLOP an image", "share", title="One forward pass at 28x28", title_justify="left")
    for name, operations in spent.parts.items():
        parts.add_row(name, f"{operations / 1e6:.1f}", f"{operations / spent.operations:.0%}")
    parts.add_row("all", f"{spent.operations / 1e6:.1f}", "100%")
    console.print(parts)
    others = Table("network", "parameters", "MFLOP an image", "of this", title="Other designs", title_justify="left")
    for name, other in alternatives(config).items():
        c = cost(other)
        others.add_row(
            name, f"{c.parameters:,}", f"{c.operations / 1e6:.1f}", f"{c.operations / spent.operations:.2f}x"
        )
    console.print(others)


@app.command("prepare")
def prepare(
    output: Annotated[Path, typer.Option(help="Folder for digits/mnistm and digits/svhn.")],
    photographs: Annotated[Path, typer.Option(help="Folder of natural photographs, e.g. BSDS500's images.")],
    downloads: Annotated[Path, typer.Option(help="Folder where torchvision keeps MNIST and SVHN.")] = Path("downloads"),
    seed: Annotated[int, typer.Option(help="Seed that pairs patches of photographs with digits.")] = 0,
) -> None:
    """Build the homework's layout from MNIST, SVHN (torchvision downloads them) and photographs."""
    from hw2.digits.prepare import prepare_digits

    prepare_digits(output, photographs, downloads, seed)


def _own_sampler(options: DrawingOptions, device: str) -> tuple[DigitSampler, object]:
    """`_sampler` with the options' own walk, and with their recognizer."""
    return _sampler(
        options, options.sampler, options.num_inference_steps, options.batch_size, device, options.recognizer
    )


def _sampler(
    options: GuidanceOptions,
    sampler: str | None,
    num_inference_steps: int | None,
    batch_size: int,
    device: str,
    recognizer: Path | None = None,
) -> tuple[DigitSampler, object]:
    """(sampler, everything that its digits depend on); every option is checked before the long work starts."""
    from hw2.devices.arithmetic import chosen_dtype
    from hw2.diffusion.schedule import timestep_pairs
    from hw2.digits.checkpoint import load_digit_model
    from hw2.digits.recognizer import load_recognizer
    from hw2.digits.sample import DigitSampler

    if num_inference_steps is not None:
        with checking_steps():
            timestep_pairs("trailing", num_inference_steps)
    check_guidance(options.guidance_scale, options.guidance_interval)
    check_at_least("--batch-size", batch_size)
    dtype = chosen_dtype(options.dtype, device)
    # Only what a model was distilled for can be drawn with it. For anything else there is its teacher.
    asked = (sampler, num_inference_steps, options.guidance_scale, options.guidance_interval)
    path = options.checkpoint or (DIGIT_STUDENT if asked == (None,) * 4 else DIGIT_UNET)
    if options.checkpoint is None and path == DIGIT_STUDENT:
        recognizer = recognizer or DIGIT_RECOGNIZER
    drawing = DigitSampler(
        load_digit_model(path, device=device, dtype=dtype), sampler, num_inference_steps, options.guidance_scale,
        options.guidance_interval, options.seed, batch_size, device,
        recognizer=load_recognizer(recognizer, device) if recognizer else None,
    )  # fmt: skip
    files = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (path, recognizer) if file]
    guided = (drawing.guidance_scale, drawing.guidance_interval, drawing.seed)
    settings = (*files, drawing.sampler, drawing.num_inference_steps, *guided, device.split(":")[0], dtype)
    return drawing, settings


def check_guidance(scale: float | None, interval: tuple[int, int] | None) -> None:
    """Raises InputError for a scale that is no number, or an interval that is none of timesteps. None is fine."""
    if scale is not None:
        check_guidance_scale(scale)
    low, high = interval or (0, 1000)
    if not 0 <= low <= high <= 1000:
        raise InputError(f"--guidance-interval is {low} {high}; expected two timesteps from 0 to 1000 in order")
