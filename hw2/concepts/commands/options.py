"""Options that several verbs share, and the model and sampler made from them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hw2.cli import check_at_least, check_guidance_scale, checking_steps
from hw2.diffusion.table import latent_steps
from hw2.errors import InputError
from hw2.files.bundled import SMALL_SD
from hw2.options import DeviceOption, DtypeOption, samplers_help, steps_help

if TYPE_CHECKING:
    from torch import Tensor

    from hw2.concepts.generate import ConceptSampler
    from hw2.concepts.stable_diffusion import StableDiffusion

    SamplerName = str
else:
    SamplerName = Literal[tuple(latent_steps())]

ModelOption = Annotated[
    Path | None,
    typer.Option(help="sd-v1-4.ckpt, the same as .safetensors, or a folder of diffusers. Default: the bundled model."),
]

GUIDANCE_SCALE, BUNDLED_GUIDANCE_SCALE = 7.5, 3.0
"""At the 7.5 of Stable Diffusion the small model's colours overflow."""


@dataclass(frozen=True)
class WordOptions:
    """The files of learned words."""

    embeddings: Annotated[
        list[str], typer.Option(help="File of learned words, or several. If one names no token: '<new1>=FILE'.")
    ]
    more_embeddings: Annotated[
        list[str] | None, typer.Argument(help="Further files of learned words.", metavar="FILE")
    ] = None


@dataclass(frozen=True)
class DrawingOptions:
    """How pictures are drawn."""

    model: ModelOption = None
    sampler: Annotated[SamplerName, typer.Option(help=samplers_help(latent_steps()))] = "dpm++"
    num_inference_steps: Annotated[int | None, typer.Option(help=steps_help(latent_steps()))] = None
    guidance_scale: Annotated[
        float | None,
        typer.Option(
            help="uncond + scale * (cond - uncond): 1 is off, more is closer to the prompt. "
            f"Default: {GUIDANCE_SCALE:g}, or {BUNDLED_GUIDANCE_SCALE:g} for the bundled model."
        ),
    ] = None
    seed: Annotated[
        int, typer.Option(help="Seed. A picture depends on this, the weights, its prompt and its own name.")
    ] = 0
    device: DeviceOption = "auto"
    dtype: DtypeOption = "auto"
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Batch size. It changes speed and memory, never the pictures. Default: what fits the GPU's memory."
        ),
    ] = None


def default_guidance_scale(model: Path | None) -> float:
    """The scale for a model, if the user gives none."""
    return BUNDLED_GUIDANCE_SCALE if model is None else GUIDANCE_SCALE


def load_model(model: Path | None, device: str, dtype: str) -> StableDiffusion:
    """The model of `--model`, or the bundled one, on a chosen device."""
    from hw2.concepts.stable_diffusion import load_stable_diffusion
    from hw2.devices.arithmetic import chosen_dtype

    return load_stable_diffusion(model or SMALL_SD, device=device, dtype=chosen_dtype(dtype, device))


def assigned(option: str, text: str) -> tuple[str, str]:
    """("<new1>", "dog") of '<new1>=dog'. Raises InputError for another form."""
    from hw2.concepts.embeddings import TOKEN

    token, _, value = text.partition("=")
    if not (TOKEN.fullmatch(token) and value.strip()):
        raise InputError(f"{option} is {text!r}; expected a token, = and a value, such as '<new1>=dog'")
    return token, value


def read_words(embeddings: Sequence[str]) -> dict[str, Tensor]:
    """token -> vectors (n, D) of all files. Raises InputError for a token that comes twice."""
    from hw2.concepts.embeddings import read_embeddings

    learned: dict[str, Tensor] = {}
    for text in embeddings:
        token, file = assigned("--embeddings", text) if text.startswith("<") else (None, text)
        for name, vectors in read_embeddings(Path(file), token).items():
            if name in learned:
                raise InputError(f"{file} has {name} again; give each token once, or rename it: '<other>={file}'")
            learned[name] = vectors
    return learned


def load_sampler(words: WordOptions, options: DrawingOptions, device: str) -> tuple[ConceptSampler, object]:
    """(sampler with the learned words, everything that its pictures depend on); every option is checked."""
    from hw2.concepts.generate import ConceptSampler

    if options.batch_size is not None:
        check_at_least("--batch-size", options.batch_size)
    scale = default_guidance_scale(options.model) if options.guidance_scale is None else options.guidance_scale
    check_guidance_scale(scale)
    learned = read_words([*words.embeddings, *(words.more_embeddings or [])])
    loaded = load_model(options.model, device, options.dtype)
    weights = loaded.fingerprint()
    loaded.add_words(learned)
    sampler = options.sampler
    steps = latent_steps()[sampler] if options.num_inference_steps is None else options.num_inference_steps
    drawing = ConceptSampler(loaded, sampler, steps, scale, options.seed)
    if options.batch_size is not None:
        drawing = dataclasses.replace(drawing, batch_size=options.batch_size)
    with checking_steps():
        drawing.pairs()
    digests = sorted((name, hashlib.sha256(v.numpy().tobytes()).hexdigest()) for name, v in learned.items())
    settings = (weights, digests, sampler, steps, scale, options.seed, loaded.dtype, loaded.device.type)
    return drawing, settings
