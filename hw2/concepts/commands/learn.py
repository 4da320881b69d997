"""`hw2 concepts learn`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hw2.cli import check_at_least, check_target, when_training_stopped
from hw2.concepts.commands.options import ModelOption, default_guidance_scale, load_model
from hw2.concepts.recipe import InversionConfig
from hw2.errors import InputError
from hw2.options import DeterministicOption, DeviceOption, ResumeOption


def learn(
    images: Annotated[Path, typer.Option(help="Folder with a few pictures of the concept.")],
    output: Annotated[Path, typer.Option(help="File to write: learned_embeds.safetensors.")],
    config: InversionConfig,
    model: ModelOption = None,
    captions: Annotated[
        Path | None,
        typer.Option(
            help="JSON with a sentence for each picture, {} for the new word: 'a tree in the style of {}'. It is used "
            "half of the time. What the sentence describes is then not learned by the word."
        ),
    ] = None,
    device: DeviceOption = "auto",
    dtype: Annotated[
        str, typer.Option(help="Number format of the frozen networks: float32, or bfloat16 on a GPU.")
    ] = "float32",
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Save memory; a step takes a third longer.")
    ] = False,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 50,
    pictures_every: Annotated[int, typer.Option(help="Validations between pictures in TensorBoard; 0: none.")] = 4,
    clip: Annotated[
        str | None, typer.Option(help="Also log CLIP scores of these pictures by this model, as in `zero-shot`.")
    ] = None,
    resume: ResumeOption = False,
    deterministic: DeterministicOption = False,
) -> None:
    """Teach the model a new word by textual inversion; nothing else changes. `accelerate launch -m` works."""
    from hw2.concepts.inversion import EXPECTED, read_captions
    from hw2.concepts.training import announce, learn_word, training_folder
    from hw2.devices.choose import start_processes
    from hw2.devices.memory import remedies
    from hw2.files.pictures import read_images

    check_at_least("--save-every", save_every)
    check_at_least("--pictures-every", pictures_every, 0)
    _check(config.token, output, dtype)
    sentences = None if captions is None else read_captions(captions, images, config.token)
    processes = start_processes(device)
    loaded = load_model(model, str(processes.device), dtype)
    if gradient_checkpointing:
        loaded.unet.enable_gradient_checkpointing()
    pictures = read_images(images, loaded.image_size, EXPECTED)
    watch: dict[str, Any] = {}
    if processes.is_main_process:
        from hw2.concepts.clip import load_clip
        from hw2.concepts.watch import Watcher

        scorer = None if clip is None else load_clip(clip, str(processes.device))
        folder, scale = training_folder(output), default_guidance_scale(model)
        watch = {"watch": Watcher(folder, loaded, config, pictures_every, pictures, scorer, scale)}
        if model is not None:
            announce(loaded, config, processes.num_processes)
    with when_training_stopped(training_folder(output) / "checkpoint.pt"), remedies(*_remedy(gradient_checkpointing)):
        learn_word(
            loaded, pictures, config, output,
            captions=sentences, resume=resume, save_every=save_every, deterministic=deterministic, **watch,
        )  # fmt: skip


def _remedy(checkpointing: bool) -> tuple[str, ...]:
    """What helps if the training does not fit, and the parameters for it."""
    if checkpointing:
        return "divide a step into more parts", "accumulation"
    return "divide a step into more parts, or keep fewer activations", "accumulation", "gradient_checkpointing"


def _check(token: str, output: Path, dtype: str) -> None:
    """Raises InputError for options that can be refused before anything is loaded."""
    from hw2.concepts.embeddings import check_token
    from hw2.concepts.training import training_folder

    check_token(token, "--token")
    check_target(output)
    if output.exists() and not (training_folder(output) / "checkpoint.pt").exists():
        raise InputError(f"{output} exists, and there is no training of it; choose another --output or move it away")
    if output.suffix != ".safetensors":
        raise InputError(f"{output} would be a safetensors file; give it a name that ends in .safetensors")
    if dtype not in ("float32", "bfloat16"):
        raise InputError(f"--dtype is {dtype!r}; expected float32 or bfloat16, others lose small gradients")
