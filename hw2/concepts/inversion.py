"""Textual inversion (Gal et al. 2023, arXiv 2208.01618): a new word is found, everything else stays as it is.

A step is a function of (seed, its number): a training can stop anywhere and goes on to the same vectors.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from hw2.concepts import templates
from hw2.concepts.embeddings import save_embeddings
from hw2.concepts.stable_diffusion import StableDiffusion
from hw2.diffusion.seeding import image_generator
from hw2.errors import InputError
from hw2.files.small_file import read_json
from hw2.files.training_run import TrainingRun
from hw2.progress import progress_bar

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
MAX_PIXELS = 2**27
"""A file can claim billions in a few bytes; a large camera's photographs have half as many."""
VALIDATION = 16
"""Fixed (image, noise, timestep, sentence) tuples behind the validation loss."""
PAIRS_OF_EACH = 6
"""Pictures of an image beside itself, each of another size."""


@dataclass(frozen=True)
class InversionConfig:
    """What to learn and how.

    vectors: how many positions the token takes. kind: which sentences surround it. num_steps: at most; batch_size: of a
    step over all processes, worked off in `accumulation` parts. learning_rate: of AdamW (no weight decay: it
    would pull the word to zero). flip: mirror half of the images. keep_norm: hold each vector at its initializer's
    length and learn its direction; free vectors grow to many times any word's length, which drowns the rest of the
    prompt (Kim et al. 2025, arXiv 2512.13672). validate_every, patience: stop when the validation loss, which is the
    same few losses each time (Voronov et al. 2023, arXiv 2302.04841), has not improved in so many validations.
    pairs: half of each batch shows the object twice, side by side and smaller, for prompts with more than one thing in
    them: a word learned from single objects in the middle is weak in a corner (after the cut and mixed pictures of
    SVDiff, Han et al. 2023, arXiv 2303.11305). lr_scheduler: "cosine" lets the learning rate fall to 0 at num_steps;
    such a run is not ended early, and its last vectors are the ones to keep.
    Raises ValueError for numbers that no training can use.
    """

    token: str
    initializer: str
    vectors: int = 1
    kind: Literal["object", "style"] = "object"
    num_steps: int = 2000
    learning_rate: float = 5e-3
    batch_size: int = 4
    accumulation: int = 1
    flip: bool = True
    keep_norm: bool = True
    validate_every: int = 50
    patience: int = 6
    seed: int = 0
    pairs: bool = False
    lr_scheduler: Literal["constant", "cosine"] = "constant"

    def __post_init__(self) -> None:
        for name in ("vectors", "num_steps", "batch_size", "accumulation", "validate_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.batch_size % self.accumulation:
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of accumulation {self.accumulation}")
        if not 0 < self.learning_rate <= 1000:
            raise ValueError(f"learning_rate must be a positive number, at most 1000, got {self.learning_rate}")
        if self.vectors > 75:
            raise ValueError(f"vectors must be 75 or fewer, as many as a prompt has room for, got {self.vectors}")
        if self.pairs and self.kind == "style":
            raise ValueError("pairs show an object beside itself, a style has none")
        if self.pairs and self.batch_size < 2:
            raise ValueError("pairs are every second picture of a batch, batch_size must be 2 or more")

    def learning_rate_at(self, step: int) -> float:
        """Of the step with this number, from 0."""
        if self.lr_scheduler == "constant":
            return self.learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * step / self.num_steps)) / 2


@dataclass(frozen=True)
class Progress:
    """What a watcher sees: losses of the last steps and of the fixed validation, and the vectors so far."""

    step: int
    loss: float
    validation_loss: float
    vectors: Tensor


def image_paths(folder: Path) -> list[Path]:
    """The images of a folder, in order of their names. Raises InputError if there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected one with a few images of the concept")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if odd := [path for path in paths if not path.is_file()]:
        raise InputError(f"{odd[0]} is no file; expected an image, remove it")
    if not paths:
        raise InputError(f"{folder} has no images ({', '.join(sorted(SUFFIXES))}); expected a few of the concept")
    return paths


def read_images(folder: Path, size: int) -> Tensor:
    """(N, 3, size, size) in [-1, 1]: all images of a folder, upright, the middle square, in order of their names.

    Raises InputError if there is none or one cannot be read.
    """
    images = []
    for path in image_paths(folder):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PIL's advice on odd files; what matters is checked here
                with Image.open(path, formats=FORMATS) as image:
                    if image.width * image.height > MAX_PIXELS:
                        raise InputError(f"{path} claims {image.width}x{image.height} pixels; make it smaller")
                    if image.mode not in MODES:
                        raise InputError(f"{path} has the mode {image.mode}; expected 8 bits a channel, convert it")
                    upright = ImageOps.exif_transpose(image).convert("RGB")
        except InputError:
            raise
        except Exception as error:  # fed with foreign bytes, PIL raises nearly everything that Python has
            raise InputError(f"{path} is not a readable image ({error}); remove or replace it") from None
        square = ImageOps.fit(upright, (size, size), Image.Resampling.LANCZOS)
        images.append(torch.from_numpy(np.asarray(square, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1)
    return torch.stack(images)


def read_captions(path: Path, folder: Path, token: str) -> list[str | None]:
    """For each image of a folder, in order, what a JSON object says of it, {} filled with token; None: nothing.

    Raises InputError if it is no object of image names and sentences, or a sentence has no place for the token.
    """
    expected = 'expected an object of image names and sentences, {"00.jpg": "a tree in the style of {}"}'
    content = read_json(path, expected)
    if not isinstance(content, dict) or not all(isinstance(sentence, str) for sentence in content.values()):
        raise InputError(f"{path} holds something else; {expected}")
    names = [image.name for image in image_paths(folder)]
    if unknown := sorted(set(content) - set(names)):
        raise InputError(f"{path} has a sentence for {unknown[0]}, which is not in {folder} ({', '.join(names[:5])})")
    said = {name: sentence.replace("{}", token) for name, sentence in content.items()}
    if without := [name for name, sentence in said.items() if token not in sentence]:
        raise InputError(f"{path} says {content[without[0]]!r} of {without[0]}; expected {{}} where {token} goes")
    return [said.get(name) for name in names]


def paired_images(images_pm1: Tensor, cell: int, generator: torch.Generator, mirror: bool) -> tuple[Tensor, Tensor]:
    """(N, 3, H, W) with every image twice, side by side, and the share (N, 1, H / cell, W / cell) of it to learn from.

    An image is made smaller to between 0.66 and 0.76 of its size, its middle half as wide as the picture; both stand
    on the lower edge. What fills the rest above them is not to be learned from: 0 there, else such that the mean is 1.
    cell: pixels that make one latent. mirror: the right one is mirrored in half of the pictures.
    """
    H, W = images_pm1.shape[-2:]
    pictures, shares = [], []
    for image in images_pm1:
        size, turned = torch.rand(2, generator=generator).tolist()
        side = round((0.66 + 0.1 * size) * H / cell) * cell
        small = F.interpolate(image[None], size=(side, side), mode="area")
        cut = (side - W // 2) // 2
        left = small[..., cut : cut + W // 2]
        right = left.flip(-1) if mirror and turned < 0.5 else left
        pictures.append(F.pad(torch.cat([left, right], -1), (0, 0, H - side, 0), mode="replicate"))
        share = torch.zeros(1, 1, H // cell, W // cell)
        share[:, :, (H - side) // cell :] = H / side
        shares.append(share)
    return torch.cat(pictures), torch.cat(shares)


class Inversion:
    """The new word's vectors inside a frozen model, and the loss that they are learned by."""

    def __init__(
        self,
        model: StableDiffusion,
        images_pm1: Tensor,
        config: InversionConfig,
        captions: Sequence[str | None] | None = None,
    ) -> None:
        """images_pm1: (N, 3, H, W), as `read_images` gives them. Adds the token to the model.

        captions: for each image a sentence with the token that is said of it half of the time, or None; the rest of
        the time it is one of `templates`.
        Raises InputError if the initializer is no single word of the vocabulary, or the token is a word already.
        """
        self.model, self.config = model, config
        start = _initial_vector(model, config.initializer)
        model.add_words({config.token: start.repeat(config.vectors, 1)})
        first = len(model.words.vectors) - config.vectors
        if first:
            raise ValueError("learn one word at a time: the model has learned words already")
        self.vectors = model.words.vectors.requires_grad_(True)
        self._norm = start.norm()
        sides = [images_pm1, images_pm1.flip(-1)] if config.flip else [images_pm1]
        distributions = [model.latent_distribution(side) for side in sides]  # once: (N, 4, h, w) each
        sentences: Sequence[str] = templates.OBJECT if config.kind == "object" else templates.STYLE
        self._singles = len(sides) * len(images_pm1), len(sentences)
        shares = [torch.ones(self._singles[0], 1, *model.latent_shape[1:])]
        if config.pairs:
            pixels, share = paired_images(
                torch.cat(sides).repeat(PAIRS_OF_EACH, 1, 1, 1),
                model.image_size // model.latent_shape[1],
                image_generator(config.seed, "pairs"),
                config.flip,
            )
            distributions.append(model.latent_distribution(pixels))
            shares.append(share)
            sentences = [*sentences, *templates.PAIR]
        self._mean, self._std = (torch.cat(parts) for parts in zip(*distributions, strict=True))
        self._share = torch.cat(shares).to(model.device)
        said = [sentence.format(config.token) for sentence in sentences]
        self._general, self._captioned = len(said), bool(captions)
        own = [-1] * len(images_pm1)  # which sentence is the image's own
        for i, caption in enumerate(captions or ()):
            if caption is not None:
                own[i] = len(said)
                said.append(caption)
        self._own = torch.tensor([*own * len(sides), *[-1] * (len(self._mean) - self._singles[0])])
        self._ids = model.tokenize(said)

    def loss(self, generator: torch.Generator, count: int, part: slice) -> Tensor:
        """Mean squared error of what the network says about `part` of `count` noisy latents drawn from generator."""
        model, T = self.model, self.model.schedule.num_train_timesteps
        images, sentences = self._singles
        index = torch.randint(images, (count,), generator=generator)
        said = torch.randint(sentences, (count,), generator=generator)
        if self.config.pairs:
            index[1::2] = torch.randint(images, len(self._mean), (count // 2,), generator=generator)
            said[1::2] = torch.randint(sentences, self._general, (count // 2,), generator=generator)
        own = self._own[index]
        if self._captioned:  # half of the time: a word that never stands for itself alone stays weak
            own[torch.rand(count, generator=generator) < 0.5] = -1
        index, said = index[part], torch.where(own < 0, said, own)[part]
        order = torch.randperm(count, generator=generator)  # one timestep from each of `count` equal parts
        timesteps = ((order + torch.rand(count, generator=generator)) / count * T).long().clamp(max=T - 1)[part]
        shape = (count, *model.latent_shape)
        spread, noise = (torch.randn(shape, generator=generator)[part].to(model.device) for _ in range(2))
        latents = self._mean[index] + self._std[index] * spread
        timesteps = timesteps.to(model.device)
        noisy = model.schedule.add_noise(latents, noise, timesteps)
        output = model.predict(noisy, timesteps, model.encode_tokens(self._ids[said]))
        target = noise
        if model.prediction_type == "v_prediction":
            abar = model.schedule.alphas_cumprod.to(model.device)[timesteps].float().view(-1, 1, 1, 1)
            target = abar.sqrt() * noise - (1 - abar).sqrt() * latents
        return ((output - target).square() * self._share[index]).mean()

    @torch.no_grad()
    def validation_loss(self) -> float:
        """The loss of the same VALIDATION tuples each time: differences are the vectors' alone."""
        generator = image_generator(self.config.seed, "validation")
        return float(self.loss(generator, VALIDATION, slice(None)))

    @torch.no_grad()
    def hold_norm(self) -> None:
        """Bring every vector back to its initializer's length."""
        self.vectors.mul_(self._norm / self.vectors.norm(dim=1, keepdim=True))


def _initial_vector(model: StableDiffusion, word: str) -> Tensor:
    """(1, D) of one word of the vocabulary."""
    ids = model.tokenizer(word, add_special_tokens=False).input_ids
    if len(ids) != 1:
        pieces = ", ".join(model.tokenizer.convert_ids_to_tokens(ids))
        raise InputError(
            f"--initializer is {word!r}, which the model spells in {len(ids)} pieces ({pieces}); "
            "expected one word that it knows, such as dog or painting"
        )
    return model.words.weight[ids].float().clone()


def learn_word(
    model: StableDiffusion,
    images_pm1: Tensor,
    config: InversionConfig,
    output: Path,
    *,
    captions: Sequence[str | None] | None = None,
    resume: bool = False,
    save_every: int = 50,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Tensor:
    """Learn `config.token` and write it to `output`; returns its vectors (n, D). captions: as `Inversion` has them.

    They are those with the best validation loss, or the last of a run whose learning rate falls. Checkpoints lie
    beside the output, in a folder of its name that ends in .training. watch: called at validations.
    Raises InputError as `Inversion` does, if there is an earlier run that was not asked to be resumed, and if numbers
    overflow; what was saved before that stays.
    """
    accelerator = Accelerator(mixed_precision="no", cpu=model.device.type == "cpu")
    processes, rank = accelerator.num_processes, accelerator.process_index
    if config.batch_size % (config.accumulation * processes):
        raise InputError(
            f"--batch-size is {config.batch_size}; expected a multiple of {config.accumulation * processes}, "
            f"for {config.accumulation} parts on each of {processes} processes"
        )
    inputs = {
        "images": hashlib.sha256(images_pm1.numpy().tobytes()).hexdigest(),
        "captions": hashlib.sha256(repr(list(captions or ())).encode()).hexdigest(),
        "model weights": model.fingerprint(),
    }
    keys = {"vectors", "optimizer", "done", "losses", "best", "best_at", "best_vectors"}
    run = TrainingRun(training_folder(output) / "checkpoint.pt", "hw2 concepts learn", keys, config, inputs)
    if found := run.load(resume):
        _check_recipe(run, found[1], config)
    inversion = Inversion(model, images_pm1, config, captions)
    vectors = inversion.vectors
    optimizer = torch.optim.AdamW([vectors], config.learning_rate, weight_decay=0.0)
    done, losses = 0, list[float]()
    best, best_at, best_vectors = float("inf"), 0, vectors.detach().clone()
    if found:
        done, losses, best, best_at, best_vectors = _restore(run, found[0], config, vectors, optimizer)
    stride = config.accumulation * processes
    parts = [slice(i, None, stride) for i in range(rank, stride, processes)]
    stopped = done - best_at >= config.patience * config.validate_every
    with progress_bar(f"learning {config.token}", config.num_steps, done, quiet=not accelerator.is_main_process) as bar:
        for step in range(done, done if stopped else config.num_steps):
            total = 0.0
            for part in parts:
                generator = image_generator(config.seed, f"step {step}")
                loss = inversion.loss(generator, config.batch_size, part) / len(parts)
                loss.backward()
                total += float(loss.detach())
            if processes > 1:
                assert vectors.grad is not None
                vectors.grad = accelerator.reduce(vectors.grad, "mean")
                total = float(accelerator.reduce(torch.tensor(total, device=accelerator.device), "mean"))
            optimizer.param_groups[0]["lr"] = config.learning_rate_at(step)
            optimizer.step()
            optimizer.zero_grad()
            if config.keep_norm:
                inversion.hold_norm()
            losses.append(total)
            bar(f"loss {np.mean(losses[-50:]):.4f}")
            if not math.isfinite(total):
                raise InputError(_diverged(step + 1, config))
            last = step + 1 == config.num_steps
            if (step + 1) % config.validate_every == 0 or last:
                validation_loss = inversion.validation_loss()
                lengths = vectors.detach().norm(dim=1)
                if not (math.isfinite(validation_loss) and bool((lengths.isfinite() & (lengths > 0)).all())):
                    raise InputError(_diverged(step + 1, config))
                if validation_loss < best or config.lr_scheduler == "cosine":
                    best, best_at, best_vectors = validation_loss, step + 1, vectors.detach().clone()
                last = last or step + 1 - best_at >= config.patience * config.validate_every
                if accelerator.is_main_process:
                    recent = float(np.mean(losses[-config.validate_every :]))
                    watch(Progress(step + 1, recent, validation_loss, vectors.detach().clone()))
            if accelerator.is_main_process and ((step + 1) % save_every == 0 or last):
                run.save(
                    vectors=vectors.detach().clone(),
                    optimizer=optimizer.state_dict(),
                    done=step + 1,
                    losses=losses,
                    best=best,
                    best_at=best_at,
                    best_vectors=best_vectors,
                )
            if last:
                if step + 1 < config.num_steps:
                    bar(f"ended early: none since step {best_at} was better, and that one is kept", 0)
                break
    if accelerator.is_main_process:
        save_embeddings(output, {config.token: best_vectors})
    accelerator.wait_for_everyone()
    return best_vectors


def training_folder(output: Path) -> Path:
    """Where checkpoints and logs of a run lie."""
    return output.with_name(f"{output.stem}.training")


def _check_recipe(run: TrainingRun, before: dict[str, Any], config: InversionConfig) -> None:
    """Raises InputError if a run had other options than these; it may be made longer, unless its rate falls."""
    free = {"num_steps"} if config.lr_scheduler == "constant" else set()
    if changed := sorted(key for key in run.config if key not in free and before.get(key) != run.config[key]):
        raise InputError(
            f"{run.path} was trained with other options ({', '.join(changed)}); "
            "resume with the same, or use another --output"
        )


def _restore(
    run: TrainingRun,
    saved: dict[str, Any],
    config: InversionConfig,
    vectors: Tensor,
    optimizer: torch.optim.Optimizer,
) -> tuple[int, list[float], float, int, Tensor]:
    """(done, losses, best, best_at, best_vectors) of a checkpoint, whose vectors and optimizer are put in place.

    Raises InputError if they are no such things, or if more steps are done than are asked for.
    """
    try:
        done, losses, best, best_at = int(saved["done"]), list(saved["losses"]), float(saved["best"]), saved["best_at"]
        both = torch.stack([saved["vectors"], saved["best_vectors"]])
        if not (0 < best_at + 1 <= done + 1 == len(losses) + 1 and bool(both.isfinite().all())):
            raise ValueError("numbers that cannot be")
        vectors.data.copy_(both[0].view_as(vectors))
        optimizer.load_state_dict(saved["optimizer"])
        if optimizer.state and optimizer.state[vectors]["exp_avg"].shape != vectors.shape:
            raise ValueError("another optimizer")
    except (TypeError, ValueError, KeyError, RuntimeError, AttributeError):
        raise InputError(f"{run.path} is no checkpoint of `hw2 concepts learn`; use another --output") from None
    if done > config.num_steps:
        raise InputError(f"{run.path} has {done} steps already; expected --num-steps of as many or more")
    return done, losses, best, best_at, both[1].to(vectors.device)


def _diverged(step: int, config: InversionConfig) -> str:
    return (
        f"the numbers overflowed at step {step}; use a smaller --learning-rate than {config.learning_rate:g}, "
        "and another --output"
    )
