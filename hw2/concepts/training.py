"""The training of a word: it can stop at any step and resumes to the same vectors."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from hw2.concepts.embeddings import save_embeddings
from hw2.concepts.inversion import VALIDATION, Inversion
from hw2.concepts.recipe import InversionConfig
from hw2.concepts.stable_diffusion import StableDiffusion
from hw2.devices import estimate
from hw2.devices.arithmetic import training_arithmetic
from hw2.devices.memory import tell_need
from hw2.diffusion.seeding import image_generator
from hw2.errors import InputError
from hw2.files.training_run import TrainingRun
from hw2.progress import progress_bar
from hw2.training import NOT_OURS, check_shares, load_optimizer

KEYS = {"vectors", "optimizer", "done", "losses", "best", "best_at", "best_vectors"}
"""What a checkpoint keeps."""


@dataclass(frozen=True)
class Progress:
    """What a run reports at each validation: losses of the last steps and of the validation, and the vectors."""

    step: int
    loss: float
    validation_loss: float
    vectors: Tensor


def learn_word(
    model: StableDiffusion,
    images_pm1: Tensor,
    config: InversionConfig,
    output: Path,
    *,
    captions: Sequence[str | None] | None = None,
    resume: bool = False,
    save_every: int = 50,
    deterministic: bool = False,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Tensor:
    """Learn `config.token` and write it to `output`; returns its vectors (n, D). captions: as `Inversion` takes them.

    They are those with the best validation loss, or the last of a run whose learning rate falls. Checkpoints are
    written to `training_folder(output)`. deterministic: see `training_arithmetic`. watch: called at every validation.
    Raises InputError as `Inversion` does, if there is an earlier run that was not asked to be resumed, and if numbers
    overflow; what was saved before that stays.
    """
    accelerator = Accelerator(mixed_precision="no", cpu=model.device.type == "cpu")
    check_shares(config.batch_size, accelerator.num_processes, config.accumulation)
    inputs = {
        "images": hashlib.sha256(images_pm1.numpy().tobytes()).hexdigest(),
        "captions": hashlib.sha256(repr(list(captions or ())).encode()).hexdigest(),
        "model weights": model.fingerprint(),
    }
    run = TrainingRun(training_folder(output) / "checkpoint.pt", "hw2 concepts learn", KEYS, config, inputs)
    if found := run.load(resume):
        _check_recipe(run, found[1], config)
    learning = _Learning(Inversion(model, images_pm1, config, captions), run, accelerator)
    if found:
        learning.restore(found[0])
    with training_arithmetic(deterministic):
        learning.learn(save_every, watch)
    if accelerator.is_main_process:
        save_embeddings(output, {config.token: learning.best_vectors})
    accelerator.wait_for_everyone()
    return learning.best_vectors


class _Learning:
    """One run, and the steps done."""

    def __init__(self, inversion: Inversion, run: TrainingRun, accelerator: Accelerator) -> None:
        self.inversion, self.config, self.run, self.accelerator = inversion, inversion.config, run, accelerator
        self.vectors = inversion.vectors
        self.optimizer = torch.optim.AdamW([self.vectors], self.config.learning_rate, weight_decay=0.0)
        self.done, self.losses = 0, list[float]()
        self.best, self.best_at, self.best_vectors = float("inf"), 0, self.vectors.detach().clone()

    def learn(self, save_every: int, watch: Callable[[Progress], None]) -> None:
        """Run the remaining steps. Raises InputError if numbers overflow."""
        config, main = self.config, self.accelerator.is_main_process
        with progress_bar(f"learning {config.token}", config.num_steps, self.done, quiet=not main) as bar:
            stopped = self.done % config.validate_every == 0 and self._out_of_patience()
            first = self.done
            while self.done < config.num_steps and not stopped:
                self._step()
                if main and self.done == first + 1:
                    tell_need("a step", self.inversion.model.device)
                bar(f"loss {np.mean(self.losses[-50:]):.4f}")
                self._check_finite(self.losses[-1])
                if self.done % config.validate_every == 0 or self.done == config.num_steps:
                    self._validate(watch)
                    stopped = self.done == config.num_steps or self._out_of_patience()
                if main and (self.done % save_every == 0 or stopped):
                    self._save()
            if self.done < config.num_steps:
                bar(f"stopped early: no step since {self.best_at} was better, and that one is kept", 0)

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises InputError if it is not one of this command, or if more steps are done than are asked for.
        """
        try:
            done, losses, best_at = int(saved["done"]), list(saved["losses"]), saved["best_at"]
            both = torch.stack([saved["vectors"], saved["best_vectors"]])
            if not (0 < best_at + 1 <= done + 1 == len(losses) + 1 and bool(both.isfinite().all())):
                raise ValueError("impossible numbers")
            self.best = float(saved["best"])
            self.vectors.data.copy_(both[0].view_as(self.vectors))
            load_optimizer(self.optimizer, saved["optimizer"])
        except NOT_OURS:
            raise self.run.refusal() from None
        if done > self.config.num_steps:
            raise InputError(f"{self.run.path} has {done} steps already; ask for as many or more", "num_steps")
        self.done, self.losses, self.best_at, self.best_vectors = done, losses, best_at, both[1].to(self.vectors.device)

    def _out_of_patience(self) -> bool:
        """Whether too many validations have passed without an improvement."""
        return self.done - self.best_at >= self.config.patience * self.config.validate_every

    def _step(self) -> None:
        """One step, of which every process computes its parts."""
        config, processes = self.config, self.accelerator.num_processes
        stride, total = config.accumulation * processes, 0.0
        for i in range(self.accelerator.process_index, stride, processes):
            generator = image_generator(config.seed, f"step {self.done}")
            part = slice(i, None, stride)
            loss = self.inversion.loss(generator, config.batch_size, part) / config.accumulation
            loss.backward()
            total += float(loss.detach())
        if processes > 1:
            assert self.vectors.grad is not None
            self.vectors.grad = self.accelerator.reduce(self.vectors.grad, "mean")
            total = float(self.accelerator.reduce(torch.tensor(total, device=self.vectors.device), "mean"))
        self.optimizer.param_groups[0]["lr"] = config.learning_rate_at(self.done)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if config.keep_norm:
            self.inversion.hold_norm()
        self.losses.append(total)
        self.done += 1

    def _validate(self, watch: Callable[[Progress], None]) -> None:
        config, vectors = self.config, self.vectors.detach()
        validation_loss = self.inversion.validation_loss()
        self._check_finite(validation_loss)
        lengths = vectors.norm(dim=1)
        if not bool((lengths.isfinite() & (lengths > 0)).all()):
            self._check_finite(math.nan)
        if validation_loss < self.best or config.lr_scheduler == "cosine":
            self.best, self.best_at, self.best_vectors = validation_loss, self.done, vectors.clone()
        if self.accelerator.is_main_process:
            recent = float(np.mean(self.losses[-config.validate_every :]))
            watch(Progress(self.done, recent, validation_loss, vectors.clone()))

    def _check_finite(self, number: float) -> None:
        if not math.isfinite(number):
            raise InputError(
                f"the numbers overflowed at step {self.done}; use a smaller learning rate than "
                f"{self.config.learning_rate:g}, and another output",
                "learning_rate",
            )

    def _save(self) -> None:
        self.run.save(
            vectors=self.vectors.detach().clone(),
            optimizer=self.optimizer.state_dict(),
            done=self.done,
            losses=self.losses,
            best=self.best,
            best_at=self.best_at,
            best_vectors=self.best_vectors,
        )


def announce(model: StableDiffusion, config: InversionConfig, processes: int) -> None:
    """Say how long the training takes at least, if that is long.

    A step is a forward and a backward pass of the U-Net, which costs as much: only the activations have gradients.
    """
    each = model.operations()[0]
    validations = config.num_steps // config.validate_every
    total = each * (2 * config.num_steps * config.batch_size / processes + VALIDATION * validations)
    estimate.announce(f"{config.num_steps} steps", total, model.device, model.dtype)


def training_folder(output: Path) -> Path:
    """The folder of a run's checkpoints and logs: beside the output, with its name and the ending .training."""
    return output.with_name(f"{output.stem}.training")


def _check_recipe(run: TrainingRun, before: dict[str, Any], config: InversionConfig) -> None:
    """Raises InputError if a run had other options than these; it may be made longer, unless its rate falls."""
    free = {"num_steps"} if config.lr_scheduler == "constant" else set()
    if changed := sorted(key for key in run.config if key not in free and before.get(key) != run.config[key]):
        raise InputError(
            f"{run.path} was trained with other options ({', '.join(changed)}); "
            "resume with the same, or choose another output",
            "output",
        )
