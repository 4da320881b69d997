"""The training loop of Problems 1 and 2. Every step is a function of (seed, its number): a run can stop at any step.

All random numbers of a step are drawn for the whole batch by every process, and each process then computes its share:
the loss curve does not depend on how many processes there are, except for the rounding of sums.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hw2.devices.arithmetic import compiled, device_name, has_bfloat16, training_arithmetic
from hw2.devices.memory import tell_need
from hw2.errors import InputError
from hw2.files.training_run import TrainingRun
from hw2.log import say
from hw2.progress import progress_bar

Net = TypeVar("Net", bound=nn.Module)
Precision = Literal["no", "bf16", "fp16"]
MORE_PARTS = "divide a step into more parts, or train on more GPUs (accelerate launch)", "accumulation"
"""What helps a training that does not fit: the remedy and its parameter."""

NOT_OURS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What is raised while the state of a damaged or foreign checkpoint is restored."""

KEYS = {"network", "optimizer", "scaler", "ema", "done", "losses"}
"""What a checkpoint keeps."""


@dataclass(frozen=True)
class Recipe:
    """What every recipe has.

    num_steps: number of steps. batch_size: of the whole batch, over all processes. learning_rate: of AdamW, reached
    after warmup_steps, then constant, then lowered linearly to zero over the last decay_fraction of the steps (so that
    a longer run repeats the first steps of a shorter one). max_grad_norm: gradients are clipped to this norm.
    ema_decay: of the averaged weights, which are the ones that are saved. mixed_precision: number format of the
    network's arithmetic, for fp16 with a gradient scaler; weights stay float32. seed: for everything random.
    Raises ValueError for numbers that no training can use.
    """

    num_steps: int = 40_000
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 500
    decay_fraction: float = 0.25
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    mixed_precision: Precision = "bf16"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be a positive number, got {self.learning_rate}")


Config = TypeVar("Config", bound=Recipe)


def supported(config: Config, device: torch.device) -> Config:
    """The recipe for this device, and a sentence if it is another one.

    A device without bfloat16 computes in float16 with a gradient scaler if it is a GPU, and in float32 if it is a CPU.
    """
    if config.mixed_precision != "bf16" or has_bfloat16(device):
        return config
    on_cpu = device.type == "cpu"
    used = "float32" if on_cpu else "float16 with a gradient scaler"
    say(f"{device_name(device)} has no bfloat16; {used} is used")
    return dataclasses.replace(config, mixed_precision="no" if on_cpu else "fp16")


def autocast(config: Recipe, device: torch.device | str) -> torch.autocast:
    """The context of the network's forward pass."""
    dtype = torch.float16 if config.mixed_precision == "fp16" else torch.bfloat16
    return torch.autocast(torch.device(device).type, dtype, enabled=config.mixed_precision != "no")


def learning_rate_factor(step: int, config: Recipe) -> float:
    """The share of the learning rate that is used at a step: it rises, stays, and falls."""
    left = (config.num_steps - step) / max(1, config.decay_fraction * config.num_steps)
    return min(1.0, (step + 1) / max(1, config.warmup_steps), left)


@dataclass(frozen=True)
class Progress(Generic[Net]):
    """What a run reports to `watch`, every few steps.

    step: number of steps done. loss: mean since the last report. network: makes a network with the averaged weights, on
    the training's device.
    """

    step: int
    loss: float
    gradient_norm: float
    learning_rate: float
    images_per_second: float
    network: Callable[[], Net]


@dataclass(frozen=True)
class Schedule:
    """When a run does what.

    resume: continue from the checkpoint. On the same machine it ends with the same weights bit for bit: on a CPU
    always, on a GPU if deterministic, see `training_arithmetic`. save_every: steps between checkpoints. report_every:
    steps between calls of `watch`. compile_network: None compiles on a GPU only; on a CPU it gained nothing.
    accumulation: number of parts that a process divides its share of a step into, to save memory; the sums of the
    gradients differ by rounding.
    """

    resume: bool = False
    save_every: int = 500
    report_every: int = 50
    compile_network: bool | None = None
    deterministic: bool = False
    accumulation: int = 1


LossOf = Callable[[nn.Module, int, slice], Tensor]
"""(network, step, part) -> the mean loss of these images of that step's batch."""


class Training(Generic[Net]):
    """One run: the network, its optimizer, the averaged weights, and the steps done."""

    def __init__(
        self,
        build: Callable[[], Net],
        config: Recipe,
        run: TrainingRun,
        accelerator: Accelerator,
        schedule: Schedule,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        """build: makes the network, with random weights from config.seed. betas: of AdamW.

        Raises InputError if the batch cannot be shared by the processes, and as `TrainingRun.load` does.
        """
        check_shares(config.batch_size, accelerator.num_processes, schedule.accumulation)
        self.config, self.run, self.accelerator, self.schedule = config, run, accelerator, schedule
        on_gpu = accelerator.device.type == "cuda"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.network = build()
        optimizer = torch.optim.AdamW(
            self.network.parameters(), config.learning_rate, betas, weight_decay=config.weight_decay, fused=True
        )
        self._plain = copy.deepcopy(self.network)
        if on_gpu:
            self.network.to(memory_format=torch.channels_last)
        self.network.to(accelerator.device)
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.losses = torch.zeros(config.num_steps)
        self.done = 0
        self.scaler = torch.amp.GradScaler(accelerator.device.type, enabled=config.mixed_precision == "fp16")
        self.optimizer = optimizer
        if found := run.load(schedule.resume):
            self._restore(found)
        compiles = on_gpu if schedule.compile_network is None else schedule.compile_network
        self.prepared = accelerator.prepare(compiled(self.network, accelerator.device) if compiles else self.network)

    def averaged_network(self) -> Net:
        """A network with the averaged weights, on the training's device, ready for inference."""
        network = copy.deepcopy(self._plain).to(self.accelerator.device)
        network.load_state_dict(self.average)
        return network.eval().requires_grad_(False)

    def train(
        self,
        loss_of: LossOf,
        save_model: Callable[[Net], None],
        watch: Callable[[Progress[Net]], None],
    ) -> Tensor:
        """Run the remaining steps. Returns the losses (num_steps,) float32.

        save_model: writes the averaged network, with each checkpoint and at the end.
        """
        main, schedule, num_steps = self.accelerator.is_main_process, self.schedule, self.config.num_steps
        first, reported, reported_at = self.done, self.done, time.perf_counter()
        with (
            training_arithmetic(schedule.deterministic),
            progress_bar("training", num_steps, self.done, quiet=not main) as advance,
        ):
            for step in range(self.done, num_steps):
                loss, gradient_norm, learning_rate = self._step(step, loss_of)
                self.losses[step] = loss
                if main and step == first:
                    tell_need("a step", self.accelerator.device)
                self.done = step + 1
                advance(f"loss {self.losses[max(0, step - 99) : step + 1].mean():.4f}")
                last = step + 1 == num_steps
                if main and ((step + 1) % schedule.report_every == 0 or last):
                    images = (step + 1 - reported) * self.config.batch_size
                    rate = images / (time.perf_counter() - reported_at)
                    mean = float(self.losses[reported : step + 1].mean())
                    watch(Progress(step + 1, mean, gradient_norm, learning_rate, rate, self.averaged_network))
                    reported, reported_at = step + 1, time.perf_counter()
                if main and ((step + 1) % schedule.save_every == 0 or last):
                    self._save()
                    save_model(self.averaged_network())
        if main:
            save_model(self.averaged_network())
        self.accelerator.wait_for_everyone()
        return self.losses

    def _step(self, step: int, loss_of: LossOf) -> tuple[Tensor, float, float]:
        """(loss over all processes, gradient norm, learning rate) of one step."""
        learning_rate = self.config.learning_rate * learning_rate_factor(step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        loss = self._backward(step, loss_of)
        self.scaler.unscale_(self.optimizer)
        gradient_norm = self.accelerator.clip_grad_norm_(self.prepared.parameters(), self.config.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        decay = min(self.config.ema_decay, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(self.average.values()), list(self.network.state_dict().values()), 1 - decay)
        return self.accelerator.reduce(loss, "mean"), float(gradient_norm), learning_rate

    def _backward(self, step: int, loss_of: LossOf) -> Tensor:
        """Compute this process's share of a step, part by part, and add up the gradients. Returns its loss."""
        processes, parts = self.accelerator.num_processes, self.schedule.accumulation
        total = torch.zeros((), device=self.accelerator.device)
        for i in range(parts):
            part = slice(self.accelerator.process_index + i * processes, None, processes * parts)
            last = i == parts - 1  # the processes exchange their sums once
            with nullcontext() if last else self.accelerator.no_sync(self.prepared):
                loss = loss_of(self.prepared, step, part) / parts
                self.accelerator.backward(self.scaler.scale(loss))
            total += loss.detach()
        return total

    def _save(self) -> None:
        self.run.save(
            network=self.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
            ema=self.average,
            done=self.done,
            losses=self.losses[: self.done].clone(),
        )

    def _restore(self, found: tuple[dict[str, Any], dict[str, Any]]) -> None:
        saved, before = found
        try:
            _check_recipe(self.run, before, saved["done"], self.config)
            self.network.load_state_dict(saved["network"])
            load_optimizer(self.optimizer, saved["optimizer"])
            self.scaler.load_state_dict(saved["scaler"])
            _copy(self.average, saved["ema"])
            _copy({"losses": self.losses[: saved["done"]]}, {"losses": saved["losses"]})
        except NOT_OURS:
            raise self.run.refusal() from None
        self.done = saved["done"]


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Restore an AdamW, except for its learning rate, from its state.

    Raises one of NOT_OURS if the state is that of another optimizer or network.
    """
    own = optimizer.state_dict()["param_groups"]
    for group, before in zip(own, saved["param_groups"], strict=True):
        if any(before[key] != group[key] for key in set(group) & set(before) - {"lr"}):
            raise ValueError("another optimizer")
    optimizer.load_state_dict(saved)
    for parameter, state in optimizer.state.items():
        if state["step"].numel() != 1 or any(
            state[key].shape != parameter.shape or state[key].dtype != parameter.dtype
            for key in ("exp_avg", "exp_avg_sq")
        ):
            raise ValueError("another network")


def _copy(into: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
    """Overwrite tensors in place. Raises one of NOT_OURS if there are others, or of other shapes."""
    if into.keys() != saved.keys() or any(value.shape != saved[name].shape for name, value in into.items()):
        raise ValueError("other tensors")
    for name, value in into.items():
        value.copy_(saved[name])


def check_shares(batch_size: int, processes: int, parts: int = 1) -> None:
    """Raises InputError if a batch cannot be divided equally among processes, each of which computes it in `parts`."""
    if batch_size % (processes * parts):
        each = f"{processes} process{'' if processes == 1 else 'es'}" + (f" of {parts} parts each" if parts > 1 else "")
        raise InputError(
            f"the batch size is {batch_size}; expected a multiple of {processes * parts}, for {each}", "batch_size"
        )


def _check_recipe(run: TrainingRun, before: dict[str, Any], done: int, config: Recipe) -> None:
    """Raises InputError if a run's `done` steps were not this recipe's, one of NOT_OURS if that cannot be compared.

    A longer or shorter run has the same first steps, as long as neither has begun to lower its learning rate.
    """
    if not (isinstance(done, int) and done >= 0):
        raise ValueError("no number of steps")
    lengths = {"num_steps", "decay_fraction"}
    changed = sorted(key for key in run.config if key not in lengths and before.get(key) != run.config[key])
    then = dataclasses.replace(config, **{key: before[key] for key in lengths})
    if any(
        learning_rate_factor(i, then) != learning_rate_factor(i, config) for i in range(min(done, config.num_steps))
    ):
        changed.append("num_steps, whose decay has begun")
    if changed or done > config.num_steps:
        raise InputError(
            f"{run.path} was trained with another recipe ({', '.join(changed) or 'more steps'}); "
            "resume with the same options, or choose another output"
        )
