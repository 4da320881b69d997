"""`hw2 digits`: Problem 1 on the command line."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    when_training_stopped,
)
from hw2.errors import InputError

if TYPE_CHECKING:
    from hw2.digits.sample import DigitSampler

app = typer.Typer(no_args_is_help=True, help="Problem 1: MNIST-M and SVHN digits by one conditional diffusion model.")

BUNDLED = Path(__file__).parents[1] / "models" / "digit_unet.safetensors"

CheckpointOption = Annotated[
    Path | None, typer.Option(help="A model.safetensors of `hw2 digits train`; the bundled one if not given.")
]
SamplerOption = Annotated[
    Literal["ddpm", "ddim", "dpm++"], typer.Option(help="ddpm is the 1000-step reference, dpm++ the fast default.")
]
StepsOption = Annotated[
    int | None, typer.Option(help="Steps from noise to image: 1000 for ddpm, 50 for ddim, 15 for dpm++ if not given.")
]
GuidanceOption = Annotated[float, typer.Option(help="uncond + scale * (cond - uncond): 1 is off, more is clearer.")]
IntervalOption = Annotated[
    tuple[int, int], typer.Option(help="Guide at timesteps from the first number up to before the second.")
]
SeedOption = Annotated[int, typer.Option(help="A digit depends on this, the weights and its own name, nothing else.")]

DEFAULT_STEPS = {"ddpm": 1000, "ddim": 50, "dpm++": 15}
GUIDANCE_SCALE = 5.0
GUIDANCE_INTERVAL = (0, 1000)


@app.command("sample")
def sample(
    output: Annotated[Path, typer.Option(help="Folder for mnistm/ and svhn/, each with 0_001.png ..")],
    checkpoint: CheckpointOption = None,
    per_digit: Annotated[int, typer.Option(help="Images of each digit in each data set.")] = 50,
    sampler: SamplerOption = "dpm++",
    num_inference_steps: StepsOption = None,
    guidance_scale: GuidanceOption = GUIDANCE_SCALE,
    guidance_interval: IntervalOption = GUIDANCE_INTERVAL,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    batch_size: BatchOption = 100,
) -> None:
    """Draw the homework's 1000 digits. Under `accelerate launch`, several processes share the work."""
    from accelerate import PartialState

    from hw2.digits.sample import digit_to_u8, official_names
    from hw2.files.output import OutputFolder, png_bytes
    from hw2.progress import progress_bar

    check_at_least("--per-digit", per_digit)
    if per_digit > 999:
        raise InputError(f"--per-digit is {per_digit}; names such as 0_001.png have room for 999")
    drawing, settings = _sampler(
        checkpoint, sampler, num_inference_steps, guidance_scale, guidance_interval, seed, device, dtype, batch_size
    )
    processes = PartialState(cpu=drawing.device == "cpu")
    with processes.main_process_first():
        folder = OutputFolder(output, official_names(per_digit), settings, claim=processes.is_main_process)
    mine = folder.names[processes.process_index :: processes.num_processes]
    missing = set(folder.missing())
    mine = [name for name in mine if name in missing]
    quiet = not processes.is_main_process
    with when_stopped(), progress_bar("digits", drawing.network_calls(len(mine)), quiet=quiet) as advance:
        try:
            for name, digit in drawing.sample(mine, advance):
                folder.write(name, png_bytes(digit_to_u8(digit)))
        except InputError:
            folder.discard_if_empty()
            raise
    processes.wait_for_everyone()
    if processes.is_main_process:
        folder.finish()


@app.command("grid")
def grid(
    output: Annotated[Path, typer.Option(help="PNG file to write.")],
    checkpoint: CheckpointOption = None,
    sampler: SamplerOption = "dpm++",
    num_inference_steps: StepsOption = None,
    guidance_scale: GuidanceOption = GUIDANCE_SCALE,
    guidance_interval: IntervalOption = GUIDANCE_INTERVAL,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    batch_size: BatchOption = 100,
) -> None:
    """Picture: ten noises of each digit, a 10x10 grid for each data set."""
    from hw2.digits.figures import digit_grid_png
    from hw2.files.output import write_file

    check_picture_name(output)
    drawing, _ = _sampler(
        checkpoint, sampler, num_inference_steps, guidance_scale, guidance_interval, seed, device, dtype, batch_size
    )
    write_file(output, digit_grid_png(drawing))


@app.command("reverse")
def reverse(
    output: Annotated[Path, typer.Option(help="PNG file to write.")],
    checkpoint: CheckpointOption = None,
    guidance_scale: GuidanceOption = GUIDANCE_SCALE,
    guidance_interval: IntervalOption = GUIDANCE_INTERVAL,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
) -> None:
    """Picture: the first "0" of each data set after 0, 200, .., 1000 of DDPM's 1000 steps."""
    from hw2.digits.figures import reverse_png
    from hw2.files.output import write_file

    check_picture_name(output)
    drawing, _ = _sampler(checkpoint, "ddpm", 1000, guidance_scale, guidance_interval, seed, device, dtype, 2)
    write_file(output, reverse_png(drawing))


@app.command("train")
def train(
    data: Annotated[Path, typer.Option(help="The homework's hw2_data, with digits/{mnistm,svhn}/.")],
    output: Annotated[Path, typer.Option(help="Folder for the model, its checkpoints and TensorBoard's logs.")],
    preset: Annotated[
        Literal["default", "report", "bundled"],
        typer.Option(help="Recipe: ours, the report's (1000 epochs of epsilon), or that of the bundled model."),
    ] = "default",
    num_steps: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Over all processes, instead of the recipe's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Instead of the recipe's.")] = None,
    prediction_type: Annotated[
        Literal["epsilon", "v_prediction"] | None, typer.Option(help="Instead of the recipe's.")
    ] = None,
    min_snr_gamma: Annotated[float | None, typer.Option(help="Weigh timesteps by min(SNR, this); 5 is usual.")] = None,
    house_numbers: Annotated[
        int | None, typer.Option(help="Draw so many house numbers from fonts as further SVHN images.")
    ] = None,
    mixed_precision: Annotated[Literal["no", "bf16"] | None, typer.Option(help="Instead of the recipe's.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random in the training.")] = 0,
    device: DeviceOption = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in the output.")] = False,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 500,
    pictures_every: Annotated[int, typer.Option(help="Steps between pictures in TensorBoard; 0 for none.")] = 2000,
    compile_network: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="torch.compile; by default on a GPU only.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Where decoded images are kept, if not in ~/.cache/hw2.")] = None,
) -> None:
    """Train the model; `accelerate launch -m hw2 digits train ..` does it on several GPUs or machines."""
    import dataclasses

    from accelerate import PartialState

    from hw2.digits.data import load_digits
    from hw2.digits.train import preset as recipe
    from hw2.digits.train import train_digits

    check_at_least("--save-every", save_every)
    check_at_least("--pictures-every", pictures_every, 0)
    device = chosen_device(device)
    images = load_digits(data, cache)
    changes: dict[str, Any] = {
        "num_steps": num_steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "prediction_type": prediction_type,
        "min_snr_gamma": min_snr_gamma,
        "house_numbers": house_numbers,
        "mixed_precision": mixed_precision,
    }
    try:
        config = dataclasses.replace(
            recipe(preset, len(images)), seed=seed, **{k: v for k, v in changes.items() if v is not None}
        )
    except ValueError as error:
        raise InputError(f"this recipe cannot be trained: {error}") from None
    on = "cpu" if device == "cpu" else "auto"
    processes = PartialState(cpu=on == "cpu")
    watch: dict[str, Any] = {}
    if processes.is_main_process and pictures_every:
        from hw2.digits.watch import Watcher

        watch = {"watch": Watcher(output, config, str(processes.device), pictures_every)}
    with when_training_stopped(output / "checkpoint.pt"):
        train_digits(
            images,
            config,
            output,
            device=on,
            resume=resume,
            compile_network=compile_network,
            save_every=save_every,
            **watch,
        )


@app.command("info")
def info(checkpoint: CheckpointOption = None) -> None:
    """What the network costs, part by part, and what other choices would."""
    from rich.console import Console
    from rich.table import Table

    from hw2.digits.checkpoint import load_digit_model
    from hw2.digits.info import alternatives, cost

    config = load_digit_model(checkpoint or BUNDLED).network.config
    console = Console()
    spent = cost(config)
    parts = Table("part", "MFLOP an image", "share", title="One forward pass at 28x28", title_justify="left")
    for name, operations in spent.parts.items():
        parts.add_row(name, f"{operations / 1e6:.1f}", f"{operations / spent.operations:.0%}")
    parts.add_row("all", f"{spent.operations / 1e6:.1f}", "100%")
    console.print(parts)
    others = Table("network", "parameters", "MFLOP an image", "of this", title="And otherwise", title_justify="left")
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
    downloads: Annotated[Path, typer.Option(help="Where torchvision keeps MNIST and SVHN.")] = Path("downloads"),
    seed: Annotated[int, typer.Option(help="Which patch goes with which digit.")] = 0,
) -> None:
    """Build the homework's layout from MNIST, SVHN (torchvision downloads them) and photographs."""
    from hw2.digits.prepare import prepare_digits

    prepare_digits(output, photographs, downloads, seed)


def _sampler(
    checkpoint: Path | None,
    sampler: Literal["ddpm", "ddim", "dpm++"],
    num_inference_steps: int | None,
    guidance_scale: float,
    guidance_interval: tuple[int, int],
    seed: int,
    device: str,
    dtype: str,
    batch_size: int,
) -> tuple[DigitSampler, object]:
    """(sampler, all that its digits depend on), every option checked before the long work starts."""
    import math

    from hw2.diffusion.schedule import timestep_pairs
    from hw2.digits.checkpoint import load_digit_model
    from hw2.digits.sample import DigitSampler

    steps = DEFAULT_STEPS[sampler] if num_inference_steps is None else num_inference_steps
    try:
        timestep_pairs("trailing", steps)
    except ValueError as error:
        raise InputError(f"--num-inference-steps cannot be used: {error}") from None
    if not math.isfinite(guidance_scale):
        raise InputError(f"--guidance-scale is {guidance_scale}; expected a finite number")
    low, high = guidance_interval
    if not 0 <= low <= high <= 1000:
        raise InputError(f"--guidance-interval is {low} {high}; expected two timesteps from 0 to 1000 in order")
    check_at_least("--batch-size", batch_size)
    arithmetic, device = chosen_dtype(dtype), chosen_device(device)
    path = checkpoint or BUNDLED
    model = load_digit_model(path, device=device, dtype=arithmetic)
    weights = hashlib.sha256(path.read_bytes()).hexdigest()
    settings = (weights, sampler, steps, guidance_scale, guidance_interval, seed, device, dtype)
    return DigitSampler(model, sampler, steps, guidance_scale, guidance_interval, seed, batch_size, device), settings
