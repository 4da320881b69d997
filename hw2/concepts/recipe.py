"""What textual inversion is to learn, and how: one field for each option of `hw2 concepts learn`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from hw2.options import AccumulationOption


@dataclass(frozen=True)
class InversionConfig:
    """A recipe.

    vectors: how many positions of a prompt the token takes. num_steps: at most. batch_size: of a step over all
    processes, computed in `accumulation` parts. learning_rate: of AdamW (without weight decay, which would pull the
    word to zero). keep_norm: keep each vector at its initializer's norm and learn its direction; free vectors grow to
    many times the norm of any word and dominate the prompt (Kim et al. 2025, arXiv 2512.13672). validate_every,
    patience: stop when the validation loss, computed on the same few examples each time (Voronov et al. 2023, arXiv
    2302.04841), has not improved in `patience` validations.
    pairs: half of each batch shows the object twice, side by side and smaller, for prompts with more than one thing: a
    word trained on single objects in the middle is weak in a corner (after the cut and mixed pictures of SVDiff, Han et
    al. 2023, arXiv 2303.11305). lr_scheduler: "cosine" lowers the learning rate to 0 at num_steps; such a run is not
    stopped early, and its last vectors are the ones to keep.
    Raises ValueError for numbers that no training can use.
    """

    token: Annotated[str, typer.Option(help="The new word, in angle brackets: '<new1>'.")]
    initializer: Annotated[str, typer.Option(help="A word that the model knows and that is close in meaning: dog.")]
    vectors: Annotated[int, typer.Option(help="Number of positions in a prompt that the word takes.")] = 1
    kind: Annotated[
        Literal["object", "style"], typer.Option(help="Kind of concept; it chooses the sentences around the word.")
    ] = "object"
    num_steps: Annotated[
        int, typer.Option("--num-steps", "--steps", help="Number of steps, at most; see --patience.")
    ] = 2000
    learning_rate: Annotated[float, typer.Option("--learning-rate", "--lr", help="Learning rate of AdamW.")] = 5e-3
    batch_size: Annotated[int, typer.Option(help="Batch size over all processes.")] = 4
    accumulation: AccumulationOption = 1
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Mirror half of the pictures.")] = True
    keep_norm: Annotated[
        bool,
        typer.Option(
            "--keep-norm/--free-norm",
            help="Keep the embedding's norm at its initializer's, so that it does not dominate other words.",
        ),
    ] = True
    validate_every: Annotated[int, typer.Option(help="Steps between validations.")] = 50
    patience: Annotated[int, typer.Option(help="Stop after this many validations without an improvement.")] = 6
    seed: Annotated[int, typer.Option(help="Seed for everything random in the training.")] = 0
    pairs: Annotated[
        bool,
        typer.Option(
            "--pairs",
            help="Train for prompts with several things: half of each batch then shows the object twice, smaller.",
        ),
    ] = False
    lr_scheduler: Annotated[
        Literal["constant", "cosine"],
        typer.Option(help="Learning rate over the steps; cosine lowers it to 0 at the last step."),
    ] = "constant"

    def __post_init__(self) -> None:
        for name in ("vectors", "num_steps", "batch_size", "accumulation", "validate_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.batch_size % self.accumulation:
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of accumulation {self.accumulation}")
        if not 0 < self.learning_rate <= 1000:
            raise ValueError(f"learning_rate must be a positive number, at most 1000, got {self.learning_rate}")
        if self.vectors > 75:
            raise ValueError(f"vectors must be 75 or fewer, as many as fit in a prompt, got {self.vectors}")
        if self.pairs and self.kind == "style":
            raise ValueError("pairs show an object twice, which a style does not have; leave pairs out")
        if self.pairs and self.batch_size < 2:
            raise ValueError("pairs need a batch_size of 2 or more, because every second picture of a batch is a pair")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if self.lr_scheduler == "constant":
            return self.learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * step / self.num_steps)) / 2
