"""`hw2 concepts`: Problem 3 on the command line."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hw2.cli import (
    BatchOption,
    DeviceOption,
    DtypeOption,
    check_at_least,
    check_picture_name,
    check_target,
    chosen_device,
    chosen_dtype,
    err,
    when_stopped,
    when_training_stopped,
)
from hw2.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from hw2.concepts.compose import Box
    from hw2.concepts.generate import ConceptSampler
    from hw2.concepts.stable_diffusion import StableDiffusion

app = typer.Typer(no_args_is_help=True, help="Problem 3: new words for Stable Diffusion, and CLIP's zero-shot guesses.")

MODELS = Path(__file__).parents[1] / "models"
BUNDLED_SD, BUNDLED_CLIP = MODELS / "small_sd", MODELS / "small_clip"
TEMPLATE = "A photo of {object}."

ModelOption = Annotated[
    Path | None,
    typer.Option(
        help="sd-v1-4.ckpt, the same as .safetensors, or a folder of diffusers; the bundled one if not given."
    ),
]
EmbeddingsOption = Annotated[
    list[str],
    typer.Option(help="File of learned words, or several of them. If one names no token: '<new1>=FILE'."),
]
MoreEmbeddings = Annotated[list[str] | None, typer.Argument(help="Further files of learned words.", metavar="FILE")]
SamplerOption = Annotated[Literal["ddim", "dpm++"], typer.Option(help="DDIM (eta 0), or DPM-Solver++ 2M.")]
StepsOption = Annotated[
    int | None, typer.Option(help="Steps from noise to picture: 50 for ddim, 25 for dpm++ if not given.")
]
ImagesAtOnceOption = Annotated[
    int | None,
    typer.Option(help="Pictures drawn at once; they do not depend on it. By default what fits a GPU's free memory."),
]
GuidanceOption = Annotated[
    float | None,
    typer.Option(
        help="uncond + scale * (cond - uncond): 1 is off, more is closer. 7.5 if not given, 3 for the bundled model."
    ),
]
SeedOption = Annotated[int, typer.Option(help="A picture depends on this, the weights, its prompt and its own name.")]

DEFAULT_STEPS = {"ddim": 50, "dpm++": 25}
GUIDANCE_SCALE, BUNDLED_GUIDANCE_SCALE = 7.5, 3.0
"""At the 7.5 of Stable Diffusion the small model's colours overflow."""


@app.command("learn")
def learn(
    images: Annotated[Path, typer.Option(help="Folder with a few pictures of the concept.")],
    token: Annotated[str, typer.Option(help="The new word, in angle brackets: '<new1>'.")],
    initializer: Annotated[str, typer.Option(help="A word that the model knows and that comes near: dog.")],
    output: Annotated[Path, typer.Option(help="File to write: learned_embeds.safetensors.")],
    model: ModelOption = None,
    kind: Annotated[Literal["object", "style"], typer.Option(help="Which sentences surround the word.")] = "object",
    captions: Annotated[
        Path | None,
        typer.Option(
            help="JSON with a sentence for each picture, {} for the new word: 'a tree in the style of {}'. It is said "
            "half of the time; what it says need not be learned."
        ),
    ] = None,
    vectors: Annotated[int, typer.Option(help="How many places of a prompt the word takes.")] = 1,
    num_steps: Annotated[int, typer.Option("--num-steps", "--steps", help="At most; see --patience.")] = 2000,
    learning_rate: Annotated[float, typer.Option("--learning-rate", "--lr", help="Of AdamW.")] = 5e-3,
    lr_scheduler: Annotated[
        Literal["constant", "cosine"], typer.Option(help="cosine: it falls to 0 at the last step.")
    ] = "constant",
    batch_size: Annotated[int, typer.Option(help="Pictures in a step, over all processes.")] = 4,
    accumulation: Annotated[int, typer.Option(help="Parts that a step is worked off in, to save memory.")] = 1,
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Mirror half of the pictures.")] = True,
    pairs: Annotated[
        bool,
        typer.Option(
            "--pairs", help="Half of each batch shows the object twice, smaller: for prompts with two things."
        ),
    ] = False,
    keep_norm: Annotated[
        bool,
        typer.Option(
            "--keep-norm/--free-norm", help="Hold the word at its initializer's length, so that it drowns none."
        ),
    ] = True,
    validate_every: Annotated[int, typer.Option(help="Steps between validations.")] = 50,
    patience: Annotated[int, typer.Option(help="Stop after so many validations without a better one.")] = 6,
    seed: Annotated[int, typer.Option(help="Of everything random in the training.")] = 0,
    device: DeviceOption = "auto",
    dtype: Annotated[str, typer.Option(help="Of the frozen networks: float32, or bfloat16 on a GPU.")] = "float32",
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory for a third more time.")
    ] = False,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 50,
    pictures_every: Annotated[int, typer.Option(help="Validations between pictures in TensorBoard; 0: none.")] = 4,
    clip: Annotated[
        str | None, typer.Option(help="Also log CLIP scores of these pictures; a model as in `zero-shot`.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint beside the output.")] = False,
) -> None:
    """Teach the model a new word by textual inversion; nothing else changes. `accelerate launch -m` works."""
    from accelerate import PartialState

    from hw2.concepts.embeddings import check_token
    from hw2.concepts.inversion import InversionConfig, learn_word, read_captions, read_images, training_folder

    check_token(token, "--token")
    check_at_least("--save-every", save_every)
    check_at_least("--pictures-every", pictures_every, 0)
    check_target(output)
    checkpoint = training_folder(output) / "checkpoint.pt"
    if output.exists() and not checkpoint.exists():
        raise InputError(f"{output} is there already, and no training of it; choose another --output or move it away")
    if output.suffix != ".safetensors":
        raise InputError(f"{output} would be a safetensors file; give it a name that ends in .safetensors")
    if dtype not in ("float32", "bfloat16"):
        raise InputError(f"--dtype is {dtype!r}; expected float32 or bfloat16, others lose small gradients")
    try:
        config = InversionConfig(
            token, initializer, vectors, kind, num_steps, learning_rate, batch_size, accumulation, flip, keep_norm,
            validate_every, patience, seed, pairs, lr_scheduler,
        )  # fmt: skip
    except ValueError as error:
        raise InputError(f"these options cannot be trained with: {error}") from None
    said = None if captions is None else read_captions(captions, images, token)
    chosen = chosen_device(device)
    processes = PartialState(cpu=chosen == "cpu")
    loaded = _load(model, "cpu" if chosen == "cpu" else str(processes.device), dtype)  # not "cpu:0" of several
    if gradient_checkpointing:
        loaded.unet.enable_gradient_checkpointing()
    pictures = read_images(images, loaded.image_size)
    watch: dict[str, Any] = {}
    if processes.is_main_process:
        from hw2.concepts.clip import load_clip
        from hw2.concepts.watch import Watcher

        scorer = None if clip is None else load_clip(clip, str(processes.device))
        watcher = Watcher(
            training_folder(output), loaded, config, pictures_every, pictures, scorer, _guidance_scale(model)
        )
        watch = {"watch": watcher}
    with when_training_stopped(checkpoint):
        learn_word(loaded, pictures, config, output, captions=said, resume=resume, save_every=save_every, **watch)


@app.command("generate")
def generate(
    json: Annotated[Path, typer.Option(help="The homework's input.json.")],
    output: Annotated[Path, typer.Option(help="Folder for 0/0/source0_prompt0_0.png and so on.")],
    embeddings: EmbeddingsOption,
    more_embeddings: MoreEmbeddings = None,
    model: ModelOption = None,
    per_prompt: Annotated[int, typer.Option(help="Pictures of each prompt; the homework wants 25.")] = 25,
    sampler: SamplerOption = "dpm++",
    num_inference_steps: StepsOption = None,
    guidance_scale: GuidanceOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    batch_size: ImagesAtOnceOption = None,
) -> None:
    """Draw every prompt of an input.json with learned words, in the official layout."""
    from hw2.concepts.generate import fitting_batch_size, image_to_u8, official_names
    from hw2.concepts.prompts import read_prompts
    from hw2.files.output import OutputFolder, png_bytes
    from hw2.progress import progress_bar

    check_at_least("--per-prompt", per_prompt)
    prompts = read_prompts(json)
    drawing, settings = _sampler(
        model, [*embeddings, *(more_embeddings or [])], sampler, num_inference_steps, guidance_scale, seed, device,
        dtype, batch_size,
    )  # fmt: skip
    for concept in prompts.values():
        drawing.model.tokenize(concept.prompts)
    if batch_size is None:
        drawing = dataclasses.replace(drawing, batch_size=fitting_batch_size(drawing.model))
    names = official_names({key: concept.prompts for key, concept in prompts.items()}, per_prompt)
    folder = OutputFolder(output, list(names), (settings, sorted(names.items())))
    missing = {name: names[name] for name in folder.missing()}
    steps = -(-len(missing) // drawing.batch_size) * drawing.num_inference_steps
    with when_stopped(), progress_bar("pictures", steps) as advance:
        try:
            for name, image in drawing.sample(missing, advance):
                folder.write(name, png_bytes(image_to_u8(image)))
        except InputError:
            folder.discard_if_empty()
            raise
    folder.finish()


@app.command("compose")
def compose(
    prompt: Annotated[str, typer.Option(help="With two or more learned words: 'a <new1> and a <new2> on the beach'.")],
    word: Annotated[list[str], typer.Option(help="What stands for each while the layout is fixed: '<new1>=dog'.")],
    embeddings: EmbeddingsOption,
    output: Annotated[Path, typer.Option(help="PNG to write: a row of naive pictures above one of blended ones.")],
    more_embeddings: MoreEmbeddings = None,
    model: ModelOption = None,
    box: Annotated[
        list[str] | None,
        typer.Option(help="Region of a word, left,top,right,bottom from 0 to 1: '<new1>=0,0,0.5,1'. None: found."),
    ] = None,
    hold: Annotated[float, typer.Option(help="Share of the steps that keep the layout's attention.")] = 0.4,
    count: Annotated[int, typer.Option(help="Pictures in a row.")] = 8,
    sampler: SamplerOption = "dpm++",
    num_inference_steps: StepsOption = None,
    guidance_scale: GuidanceOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    batch_size: ImagesAtOnceOption = None,
) -> None:
    """Picture: several learned words in one prompt as they are, and blended by regions (after OMG, ECCV 2024)."""
    from hw2.concepts.compose import Composition, check_boxes, draw_blended, fitting_batch_size
    from hw2.concepts.generate import image_to_u8
    from hw2.figures import image_grid_png
    from hw2.files.output import OutputFolder, png_bytes, write_file
    from hw2.progress import progress_bar

    check_picture_name(output)
    check_target(output)
    check_at_least("--count", count)
    words = _each_once("--word", word)
    boxes = {token: _box(token, text) for token, text in _each_once("--box", box).items()} if box else None
    composition = Composition(prompt, words, boxes, hold)
    drawing, settings = _sampler(
        model, [*embeddings, *(more_embeddings or [])], sampler, num_inference_steps, guidance_scale, seed, device,
        dtype, batch_size,
    )  # fmt: skip
    drawing.model.tokenize([prompt, *composition.prompts()])
    check_boxes(drawing, composition)
    if batch_size is None:
        drawing = dataclasses.replace(drawing, batch_size=fitting_batch_size(drawing, composition))
    names = [f"compose {i}" for i in range(count)]
    ways: dict[str, Callable[..., Iterator[tuple[str, Tensor]]]] = {
        "one prompt": lambda missing, advance: drawing.sample(dict.fromkeys(missing, prompt), advance),
        "blended": lambda missing, advance: draw_blended(drawing, composition, missing, advance),
    }
    files = [f"{way} {name}.png" for way in ways for name in names]
    folder = OutputFolder(output.with_name(f".{output.name}.pictures"), files, (settings, composition))
    try:
        with when_stopped():
            for way, draw in ways.items():
                missing = [name for name in names if f"{way} {name}.png" in folder.missing()]
                walks = 1 if way == "one prompt" else 2
                steps = walks * -(-len(missing) // drawing.batch_size) * drawing.num_inference_steps
                with progress_bar(way, steps) as advance:
                    for name, image in draw(missing, advance):
                        folder.write(f"{way} {name}.png", png_bytes(image_to_u8(image)))
    except InputError:
        folder.discard_if_empty()
        raise
    rows = [[folder.read(f"{way} {name}.png") for name in names] for way in ways]
    columns = [str(i) for i in range(count)]
    write_file(output, image_grid_png(rows, row_labels=list(ways), column_labels=columns, title=prompt))
    folder.discard()


@app.command("inspect")
def inspect(
    file: Annotated[Path, typer.Argument(help="File of learned words, in any of the forms that people save.")],
    model: ModelOption = None,
    token: Annotated[str | None, typer.Option(help="For a file that names no token.")] = None,
    nearest: Annotated[int, typer.Option(help="How many of the vocabulary's nearest words to show.")] = 5,
) -> None:
    """What is in a file of learned words: tokens, vectors, width, length beside the vocabulary's, nearest words."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from hw2.concepts.embeddings import check_token, nearest_words, read_embeddings

    check_at_least("--nearest", nearest)
    if token is not None:
        check_token(token, "--token")
    learned = read_embeddings(file, token) if token else _read_named(file)
    loaded = _load(model, "cpu", "float32")
    vocabulary = loaded.words.weight
    lengths = vocabulary.norm(dim=1)
    console = Console(highlight=False)
    columns = "token", "vector", "width", "length", "cosine to the nearest words"
    table = Table(*columns, title=Text(file.name), title_justify="left")
    for name, vectors in learned.items():
        fits = vectors.shape[1] == vocabulary.shape[1]
        for i, vector in enumerate(vectors):
            words = nearest_words(vector, loaded.tokenizer, vocabulary, nearest) if fits else []
            near = ", ".join(f"{word} {cosine:.2f}" for word, cosine in words) or "- (another model's width)"
            table.add_row(Text(name), str(i), str(len(vector)), f"{vector.norm():.3f}", Text(near))
    console.print(table)
    console.print(
        f"This model's words are {vocabulary.shape[1]} wide and {lengths.min():.3f} .. {lengths.max():.3f} long, "
        f"{lengths.mean():.3f} on average."
    )


@app.command("zero-shot")
def zero_shot(
    images: Annotated[Path, typer.Option(help="Folder of images {class id}_{image id}.png.")],
    labels: Annotated[Path, typer.Option(help="The homework's id2label.json: class ids and names.")],
    output: Annotated[Path, typer.Option(help="Folder for predictions.csv, results.json and cases.png.")],
    clip: Annotated[
        str,
        typer.Option(
            help="A transformers folder, or open_clip's ARCHITECTURE/TAG (ViT-B-32/openai) or ARCHITECTURE:FILE "
            "(ViT-B-32-quickgelu:FILE for OpenAI's weights), or a model of the Hugging Face hub."
        ),
    ] = str(BUNDLED_CLIP),
    template: Annotated[
        str,
        typer.Option(help='What is said of an image, with {object} in it; or "openai80", the mean of 80 sentences.'),
    ] = TEMPLATE,
    device: DeviceOption = "auto",
    batch_size: BatchOption = 100,
) -> None:
    """Classify images by CLIP, which was never trained for their classes."""
    import json

    from hw2.concepts.zero_shot import (
        OBJECT,
        class_features,
        classify,
        list_images,
        predictions_csv,
        read_class_names,
        results,
    )
    from hw2.files.output import OutputFolder
    from hw2.progress import progress_bar

    check_at_least("--batch-size", batch_size)
    if template != "openai80" and OBJECT not in template:
        raise InputError(f"--template is {template!r}; expected a sentence with {OBJECT} in it, or openai80")
    device = chosen_device(device)
    names = read_class_names(labels)
    paths, others = list_images(images, names)
    folder = OutputFolder(output, ["predictions.csv", "results.json", "cases.png"], settings=None)
    try:
        from hw2.concepts.clip import load_clip, openai_templates
        from hw2.concepts.figures import cases_png

        model = load_clip(clip, device)
        templates = openai_templates() if template == "openai80" else [template]
        with progress_bar("sentences", len(names) * len(templates)) as advance:
            features = class_features(model, list(names.values()), templates, advance)
        predictions = []
        with progress_bar("images", len(paths)) as advance:
            for prediction in classify(model, paths, names, features, batch_size):
                predictions.append(prediction)
                advance("")
        found = results(predictions, names)
        low, high = found["interval"]
        sentence = f"accuracy {found['accuracy']:.2%} ({found['correct']} of {found['total']} images)"
        summary = {"clip": clip, "template": template, "ignored_files": len(others), **found}
        folder.write("predictions.csv", predictions_csv(predictions, names))
        folder.write(
            "results.json", json.dumps(summary, indent=1, ensure_ascii=False).encode(errors="backslashreplace")
        )
        folder.write("cases.png", cases_png(predictions, names, f"{template}  {sentence}"))
        folder.finish()
    finally:
        folder.discard_if_empty()
    typer.echo(f"{sentence}, 95 % interval {low:.2%} to {high:.2%}")
    if others:
        shown = ", ".join(others[:3]) + (", .." if len(others) > 3 else "")
        err.print(f"hw2: {len(others)} other files in {images} were ignored ({shown})", markup=False)


def _read_named(file: Path) -> dict[str, Any]:
    """The words of a file; one without a token is shown as <?>."""
    from hw2.concepts.embeddings import read_embeddings

    try:
        return dict(read_embeddings(file))
    except InputError as error:
        if "for which token" not in str(error):
            raise
        return dict(read_embeddings(file, "<?>"))


def _assigned(option: str, text: str) -> tuple[str, str]:
    """("<new1>", "dog") of '<new1>=dog'."""
    from hw2.concepts.embeddings import TOKEN

    token, _, value = text.partition("=")
    if not (TOKEN.fullmatch(token) and value.strip()):
        raise InputError(f"{option} is {text!r}; expected a token, = and a value, such as '<new1>=dog'")
    return token, value


def _each_once(option: str, texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for token, value in (_assigned(option, text) for text in texts):
        if token in found:
            raise InputError(f"{option} says {token} twice; expected each word once")
        found[token] = value
    return found


def _box(token: str, text: str) -> Box:
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"the box of {token} is {text!r}; expected left,top,right,bottom from 0 to 1") from None
    return left, top, right, bottom


def _guidance_scale(model: Path | None) -> float:
    """Where none is asked for."""
    return BUNDLED_GUIDANCE_SCALE if model is None else GUIDANCE_SCALE


def _load(model: Path | None, device: str, dtype: str) -> StableDiffusion:
    from hw2.concepts.stable_diffusion import load_stable_diffusion

    return load_stable_diffusion(model or BUNDLED_SD, device=chosen_device(device), dtype=chosen_dtype(dtype))


def _sampler(
    model: Path | None,
    embeddings: Sequence[str],
    sampler: Literal["ddim", "dpm++"],
    num_inference_steps: int | None,
    guidance_scale: float | None,
    seed: int,
    device: str,
    dtype: str,
    batch_size: int | None,
) -> tuple[ConceptSampler, object]:
    """(sampler with the learned words, all that its pictures depend on), every option checked before the work."""
    import math

    from hw2.concepts.embeddings import read_embeddings
    from hw2.concepts.generate import ConceptSampler

    if batch_size is not None:
        check_at_least("--batch-size", batch_size)
    if guidance_scale is None:
        guidance_scale = _guidance_scale(model)
    if not math.isfinite(guidance_scale):
        raise InputError(f"--guidance-scale is {guidance_scale}; expected a finite number")
    learned: dict[str, Any] = {}
    for text in embeddings:
        token, file = _assigned("--embeddings", text) if text.startswith("<") else (None, text)
        for name, vectors in read_embeddings(Path(file), token).items():
            if name in learned:
                raise InputError(f"{file} has {name} again; give each token once, or rename it: '<other>={file}'")
            learned[name] = vectors
    loaded = _load(model, device, dtype)
    weights = loaded.fingerprint()
    loaded.add_words(learned)
    steps = DEFAULT_STEPS[sampler] if num_inference_steps is None else num_inference_steps
    drawing = ConceptSampler(loaded, sampler, steps, guidance_scale, seed)
    if batch_size is not None:
        drawing = dataclasses.replace(drawing, batch_size=batch_size)
    try:
        drawing.pairs()
    except ValueError as error:
        raise InputError(f"--num-inference-steps cannot be used: {error}") from None
    words = sorted((name, hashlib.sha256(v.numpy().tobytes()).hexdigest()) for name, v in learned.items())
    settings = (weights, words, sampler, steps, guidance_scale, seed, dtype, loaded.device.type)
    return drawing, settings
