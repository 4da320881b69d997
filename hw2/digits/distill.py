"""Distillation of a digit model: a student that draws in a few evaluations what its teacher draws in many.

The first stage puts guidance into the network (Meng et al. 2023, arXiv 2210.03142, section 3): one evaluation of the
student gives the teacher's guided prediction. Each further stage halves the steps (Salimans & Ho 2022, arXiv
2202.00512, section 3): one DDIM step of the student ends where two steps of the student before it end. Every stage is
trained at the timesteps that its sampler visits, and at no others.

Notation, after `samplers`: timesteps t > u > s, and prediction v throughout.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from hw2.devices.choose import start_accelerator
from hw2.diffusion.samplers import classifier_free_guidance
from hw2.diffusion.schedule import NoiseSchedule, timestep_pairs
from hw2.digits.checkpoint import DigitModel, Distilled, save_digit_model
from hw2.digits.data import DigitImages
from hw2.digits.network import NULL_DIGIT, DigitUNet
from hw2.digits.train import Batch, BatchSource, Progress, TrainConfig, digest, preset, with_source
from hw2.errors import InputError
from hw2.files.training_run import TrainingRun
from hw2.training import KEYS, Schedule, Training, autocast, supported

Predict = Callable[[Tensor, Tensor], Tensor]
"""(sample (B, 3, 28, 28), timesteps (B,)) -> v of the sample's shape, of a batch whose labels are known."""


@dataclass(frozen=True)
class DistillConfig(TrainConfig):
    """A recipe of a distillation; `TrainConfig` has the rest. num_steps is the length of every stage.

    guidance_scale, guidance_interval: the teacher's guidance, which the student learns. first_steps: DDIM steps of the
    stage that learns it. num_inference_steps: of the last stage, first_steps halved a number of times.
    Raises ValueError for numbers that no distillation can use.
    """

    num_steps: int = 10_000
    learning_rate: float = 3e-4
    warmup_steps: int = 100
    decay_fraction: float = 1.0
    ema_decay: float = 0.995
    digit_dropout: float = 0.0
    dataset_dropout: float = 0.0
    guidance_scale: float = 3.0
    guidance_interval: tuple[int, int] = (0, 1000)
    first_steps: int = 16
    num_inference_steps: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.guidance_scale):
            raise ValueError(f"guidance_scale must be a finite number, got {self.guidance_scale}")
        few, many = self.num_inference_steps, self.first_steps
        if not (0 < few <= many <= 500 and few * 2 ** (len(self.stages) - 1) == many):
            raise ValueError(
                f"first_steps must be num_inference_steps doubled a number of times, and at most 500; "
                f"got {many} and {few}"
            )

    @property
    def stages(self) -> tuple[int, ...]:
        """DDIM steps of each stage, such as 16, 8, 4."""
        halvings = round(math.log2(self.first_steps / self.num_inference_steps))
        return tuple(self.first_steps // 2**i for i in range(halvings + 1))


def distill_preset(name: str, images: int) -> DistillConfig:
    """A recipe by name, with the training images of the preset of that name. Raises ValueError for an unknown name.

    "default": for the homework's full data on one GPU. "bundled": the bundled model's, which learns less guidance
    than its teacher is drawn with, because a recognizer has unclear digits drawn again.
    """
    if name == "default":
        return DistillConfig()
    if name == "bundled":
        of_teacher = preset(name, images)
        return DistillConfig(
            num_steps=800,
            batch_size=of_teacher.batch_size,
            learning_rate=5e-4,
            warmup_steps=50,
            ema_decay=0.99,
            guidance_scale=2.5,
            first_steps=12,
            num_inference_steps=3,
            house_numbers=of_teacher.house_numbers,
            house_number_look=of_teacher.house_number_look,
            drawn_share=of_teacher.drawn_share,
            augment_svhn=of_teacher.augment_svhn,
        )
    raise ValueError(f"preset must be default or bundled, got {name!r}")


def levels(schedule: NoiseSchedule, device: torch.device | str = "cpu") -> Tensor:
    """abar of timesteps 0 .. T-1 and then, where index -1 finds it, of the clean image: (T + 1,) float64."""
    return torch.cat([schedule.alphas_cumprod, torch.tensor([schedule.final_alpha_cumprod])]).double().to(device)


def signal_and_sigma(abar: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(abar) and sqrt(1 - abar) of timesteps (B,), -1 included, each (B, 1, 1, 1) float32. abar: all `levels`."""
    chosen = abar[timesteps][:, None, None, None]
    return chosen.sqrt().float(), (1 - chosen).sqrt().float()


def ddim_at(abar: Tensor, v: Tensor, timesteps: Tensor, ends: Tensor, sample: Tensor) -> Tensor:
    """`ddim_step` of each image at a timestep of its own, to an end of its own; pred_original_sample in [-1, 1]."""
    signal, sigma = signal_and_sigma(abar, timesteps)
    signal_s, sigma_s = signal_and_sigma(abar, ends)
    x0 = (signal * sample - sigma * v).clamp(-1, 1)
    return signal_s * x0 + sigma_s * (signal * v + sigma * sample)


def v_between(abar: Tensor, sample: Tensor, timesteps: Tensor, reached: Tensor, ends: Tensor) -> Tensor:
    """The v with which one DDIM step, without a clamp, takes `sample` at its timesteps to `reached` at its ends.

    With x_0 and eps of v put into DDIM's equation 12, x_s = cos x_t - sin v for the angle between the two timesteps.
    """
    signal, sigma = signal_and_sigma(abar, timesteps)
    signal_s, sigma_s = signal_and_sigma(abar, ends)
    cos, sin = signal_s * signal + sigma_s * sigma, signal_s * sigma - sigma_s * signal
    return (cos * sample - reached) / sin


def guided_v(
    network: nn.Module, batch: Batch, scale: float, interval: tuple[int, int], sample: Tensor, timesteps: Tensor
) -> Tensor:
    """The prediction of `guided` for images that each have a timestep of their own."""
    both = torch.cat([batch.digits, torch.full_like(batch.digits, NULL_DIGIT)])
    output = network(sample.repeat(2, 1, 1, 1), timesteps.repeat(2), both, batch.datasets.repeat(2)).float()
    conditional, unconditional = output.chunk(2)
    inside = (timesteps >= interval[0]) & (timesteps < interval[1])
    guided = classifier_free_guidance(conditional, unconditional, scale)
    return torch.where(inside[:, None, None, None], guided, conditional)


def guidance_target(abar: Tensor, predict: Predict, sample: Tensor, timesteps: Tensor) -> Tensor:
    """The guided v of the first stage, of an image that is clamped to [-1, 1] as the sampler clamps it.

    A student of such targets predicts images in this range. No later stage has to clamp what it can learn.
    """
    signal, sigma = signal_and_sigma(abar, timesteps)
    x0 = (signal * sample - sigma * predict(sample, timesteps)).clamp(-1, 1)
    return (signal * sample - x0) / sigma


def halving_target(
    abar: Tensor, predict: Predict, sample: Tensor, timesteps: Tensor, between: Tensor, ends: Tensor
) -> Tensor:
    """The v whose one DDIM step from timesteps to ends goes where two steps of `predict` go, by way of `between`."""
    middle = ddim_at(abar, predict(sample, timesteps), timesteps, between, sample)
    reached = ddim_at(abar, predict(middle, between), between, ends, middle)
    return v_between(abar, sample, timesteps, reached, ends)


def visits(steps: int, device: torch.device | str = "cpu") -> Tensor:
    """(steps, 3): timestep, the stop between of twice as many steps, and end of each step, the last step first."""
    finer = timestep_pairs("trailing", 2 * steps)
    rows = [(t, u, s) for (t, u), (_, s) in zip(finer[::2], finer[1::2], strict=True)]
    return torch.tensor(rows[::-1], device=device)


class Stage:
    """One stage of a distillation: its teacher, and the loss of its student."""

    def __init__(
        self, teacher: DigitUNet, steps: int, config: DistillConfig, device: torch.device | str = "cpu"
    ) -> None:
        """steps: of the student. The teacher of the first stage is guided; every other is the student before."""
        self.steps, self.config = steps, config
        self._first = steps == config.first_steps
        on_gpu = torch.device(device).type == "cuda"
        teacher = copy.deepcopy(teacher).eval().requires_grad_(False).to(device)
        self._teacher = teacher.to(memory_format=torch.channels_last) if on_gpu else teacher
        self._abar, self._visits = levels(config.schedule(), device), visits(steps, device)

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Mean over the batch of the squared error of x_0, weighted by the truncated SNR, max(SNR, 1).

        In v that weight is max(abar, 1 - abar) (Salimans & Ho 2022, section 4). Timesteps that are drawn evenly from
        all become those that the student visits, evenly too.
        """
        place = batch.timesteps * self.steps // (len(self._abar) - 1)
        visited = self._visits[place].unbind(1)
        signal, sigma = signal_and_sigma(self._abar, visited[0])
        sample = signal * batch.images_pm1 + sigma * batch.noise
        with autocast(self.config, sample.device):
            with torch.no_grad():
                target = self._target(batch, sample, *visited)
            output = network(sample, visited[0], batch.digits, batch.datasets).float()
        loss: Tensor = (torch.maximum(signal, sigma) * (output - target)).square().mean()
        return loss

    def _target(self, batch: Batch, sample: Tensor, timesteps: Tensor, between: Tensor, ends: Tensor) -> Tensor:
        config = self.config
        if self._first:
            predict = partial(guided_v, self._teacher, batch, config.guidance_scale, config.guidance_interval)
            return guidance_target(self._abar, predict, sample, timesteps)

        def plain(sample: Tensor, timesteps: Tensor) -> Tensor:
            output: Tensor = self._teacher(sample, timesteps, batch.digits, batch.datasets)
            return output.float()

        return halving_target(self._abar, plain, sample, timesteps, between, ends)

    def student(self, network: DigitUNet) -> DigitModel:
        """What the network of this stage is: a model for so many steps."""
        config = self.config
        timesteps = tuple(t for t, _ in timestep_pairs("trailing", self.steps))
        distilled = Distilled(timesteps, config.guidance_scale, config.guidance_interval)
        return DigitModel(network, config.prediction_type, config.beta_schedule, distilled)


def distill_digits(
    data: DigitImages,
    teacher: DigitModel,
    config: DistillConfig,
    output: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    compile_network: bool | None = None,
    deterministic: bool = False,
    accumulation: int = 1,
    save_every: int = 500,
    report_every: int = 50,
    watch_stage: Callable[[Path], Callable[[Progress], None]] = lambda folder: lambda progress: None,
) -> list[Tensor]:
    """Distill, and write `output/model.safetensors`. Returns the losses of each stage, (num_steps,) float32.

    Each stage has a folder of its own in output, such as 16_steps, with its checkpoint and its student, which draws in
    so many steps. watch_stage: folder -> what is called with that stage's reports. Other options as for
    `train_digits`; a resumed distillation continues with the stage that was stopped.
    Raises InputError as `train_digits` does, and for a teacher that is distilled itself or does not predict v.
    """
    if teacher.distilled or teacher.prediction_type != "v_prediction":
        what = "is distilled itself" if teacher.distilled else f"predicts {teacher.prediction_type}"
        raise InputError(f"the teacher {what}; expected a model that `hw2 digits train` trained for v", "checkpoint")
    accelerator = start_accelerator(device)
    config = dataclasses.replace(config, network=teacher.network.config, beta_schedule=teacher.beta_schedule)
    config = supported(config, accelerator.device)
    source = BatchSource(data, config, accelerator.device)
    options = Schedule(resume, save_every, report_every, compile_network, deterministic, accumulation)
    data_digest, model, losses = digest(data), teacher, []
    for i, steps in enumerate(config.stages):
        folder = output / f"{steps}_steps"
        inputs = {"data": data_digest, "teacher": _digest(model.network)}
        run = TrainingRun(folder / "checkpoint.pt", "hw2 digits distill", KEYS, config, inputs)
        begun = resume and (i == 0 or run.path.exists())
        training = Training(
            partial(_trainable, model.network), config, run, accelerator, dataclasses.replace(options, resume=begun)
        )
        stage = Stage(model.network, steps, config, accelerator.device)
        losses.append(_train(training, stage, source, i * config.num_steps, watch_stage(folder)))
        model = stage.student(training.averaged_network())
    if accelerator.is_main_process:
        save_digit_model(model, output / "model.safetensors")
    return losses


def _train(
    training: Training[DigitUNet], stage: Stage, source: BatchSource, first: int, watch: Callable[[Progress], None]
) -> Tensor:
    """Run one stage; its batches are those of the steps from `first`."""
    batch_of = lru_cache(maxsize=1)(source.batch)  # of a step with several parts
    return training.train(
        lambda network, step, part: stage.loss(network, batch_of(first + step).part(part)),
        lambda network: save_digit_model(stage.student(network), training.run.path.with_name("model.safetensors")),
        lambda progress: watch(with_source(progress, source, stage.student)),
    )


def _trainable(network: DigitUNet) -> DigitUNet:
    """A copy on the CPU whose weights can be trained."""
    return copy.deepcopy(network).cpu().train().requires_grad_(True)


def _digest(network: nn.Module) -> str:
    """SHA-256 of the weights, by which a resumed stage knows its teacher."""
    sha256 = hashlib.sha256()
    for name, value in network.state_dict().items():
        sha256.update(name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
    return sha256.hexdigest()
