"""Samplers: how to walk from noise to an image. Networks are passed in as functions.

`ddim`, `ddpm` and `dpm_solver_pp_2m` are called in one way: each takes its options and returns a fresh step for one
walk. `walk` yields every state of it, `draw` its end. `ddim_step` and `ddpm_step` are the formulas of one step.

Notation, after `schedule`::

    x_t         sample               the noisy image at `timestep`
    x_s         prev_sample          the less noisy image at `prev_timestep`, s < t
    x_0         pred_original_sample the network's estimate of the clean image
    eps         noise_pred           the network's estimate of the noise
    v           sqrt(abar_t) eps - sqrt(1 - abar_t) x_0       (Salimans & Ho 2022, arXiv 2202.00512, section 4)

A step takes both timesteps as arguments. Coefficients are float64 Python numbers until they meet the
sample; bfloat16 and float16 samples are summed in float32, and every sample keeps its dtype.

A `generator` is one `torch.Generator` for the batch, or a sequence with one for each image: with the latter an image's
noise does not depend on the rest of its batch. Noise is drawn on the generator's device and moved to the sample's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from hw2.diffusion.schedule import NoiseSchedule, PredictionType

Network = Callable[[Tensor, Tensor], Any]
"""(sample (B, ...), timesteps (B,) int64 on the sample's device) -> model_output of the sample's shape.

A plain module or function returns the tensor; a U-Net of diffusers returns an object that has it as `.sample`.
"""

Generators = torch.Generator | Sequence[torch.Generator]


@dataclass(frozen=True)
class StepOutput:
    """The state of a walk after one step, all tensors of the sample's shape and dtype.

    timestep: of the sample after the step (the step's prev_timestep).
    """

    timestep: int
    sample: Tensor
    pred_original_sample: Tensor


def randn(shape: Sequence[int], generator: Generators | None, *, device: torch.device | str = "cpu") -> Tensor:
    """Standard normal float32 of `shape` (B, ...), drawn image by image if `generator` is a sequence.

    Raises ValueError if the sequence does not have one generator for each of the B images.
    """
    if generator is None or isinstance(generator, torch.Generator):
        source = generator.device if generator is not None else device
        return torch.randn(tuple(shape), generator=generator, device=source).to(device)
    if len(generator) != shape[0]:
        raise ValueError(f"need one generator for each of the {shape[0]} images, got {len(generator)}")
    return torch.stack([torch.randn(tuple(shape[1:]), generator=g, device=g.device) for g in generator]).to(device)


def predict(
    schedule: NoiseSchedule,
    model_output: Tensor,
    timestep: int,
    sample: Tensor,
    *,
    prediction_type: PredictionType | None = None,
    clip_sample: float | None = None,
) -> tuple[Tensor, Tensor]:
    """(pred_original_sample, noise_pred) from the network's output; both of the sample's shape, at least float32.

    prediction_type: what model_output is. clip_sample: clamp pred_original_sample to [-clip_sample, clip_sample];
    noise_pred is not recomputed after it. None, for both: as the schedule has it.
    Raises ValueError if model_output has another shape than sample, or prediction_type is unknown.
    """
    if model_output.shape != sample.shape:
        raise ValueError(
            f"the network's output is {tuple(model_output.shape)} for a sample of {tuple(sample.shape)}; both must be "
            "equal, and a network that also predicts a variance is not supported"
        )
    prediction_type = schedule.prediction_type if prediction_type is None else prediction_type
    clip_sample = schedule.clip_sample if clip_sample is None else clip_sample
    abar = schedule.alpha_cumprod(timestep)
    signal, sigma = abar**0.5, (1 - abar) ** 0.5
    dtype = torch.promote_types(sample.dtype, torch.float32)
    sample, model_output = sample.to(dtype), model_output.to(dtype)
    if prediction_type == "epsilon":
        noise_pred = model_output
        pred_original_sample = (sample - sigma * model_output) / signal  # DDPM equation 15
    elif prediction_type == "v_prediction":
        noise_pred = signal * model_output + sigma * sample
        pred_original_sample = signal * sample - sigma * model_output
    else:
        raise ValueError(f"prediction_type must be 'epsilon' or 'v_prediction', got {prediction_type!r}")
    if clip_sample is not None:
        pred_original_sample = pred_original_sample.clamp(-clip_sample, clip_sample)
    return pred_original_sample, noise_pred


def ddim_sigma(schedule: NoiseSchedule, timestep: int, prev_timestep: int, eta: float) -> float:
    """Standard deviation of the fresh noise in one DDIM step (DDIM equation 16); eta = 1 is DDPM's posterior."""
    abar_t, abar_s = schedule.alpha_cumprod(timestep), schedule.alpha_cumprod(prev_timestep)
    return float(eta * ((1 - abar_s) / (1 - abar_t)) ** 0.5 * (1 - abar_t / abar_s) ** 0.5)


def ddim_step(
    schedule: NoiseSchedule,
    model_output: Tensor,
    timestep: int,
    prev_timestep: int,
    sample: Tensor,
    *,
    eta: float = 0.0,
    prediction_type: PredictionType | None = None,
    clip_sample: float | None = None,
    generator: Generators | None = None,
) -> StepOutput:
    """One step of DDIM (Song et al. 2021, arXiv 2010.02502, equation 12).

    model_output, sample: (B, ...), one shape. eta in [0, 1]: 0 is deterministic and draws nothing from `generator`.
    prev_timestep: below timestep; -1 is the clean image. Raises ValueError for any other eta or order.
    """
    _check_order(timestep, prev_timestep)
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], got {eta}")
    # 1. estimate the clean image and the noise
    x0, eps = predict(
        schedule, model_output, timestep, sample, prediction_type=prediction_type, clip_sample=clip_sample
    )
    # 2. move to prev_timestep along the same noise, "direction pointing to x_t", keeping room for sigma
    abar_s = schedule.alpha_cumprod(prev_timestep)
    sigma = ddim_sigma(schedule, timestep, prev_timestep, eta)
    prev_sample = abar_s**0.5 * x0 + max(1 - abar_s - sigma**2, 0.0) ** 0.5 * eps
    # 3. fresh noise
    if sigma > 0:
        prev_sample = prev_sample + sigma * randn(sample.shape, generator, device=sample.device).to(x0.dtype)
    return StepOutput(prev_timestep, prev_sample.to(sample.dtype), x0.to(sample.dtype))


def ddpm_step(
    schedule: NoiseSchedule,
    model_output: Tensor,
    timestep: int,
    prev_timestep: int,
    sample: Tensor,
    *,
    variance_type: Literal["fixed_small", "fixed_large"] = "fixed_small",
    prediction_type: PredictionType | None = None,
    clip_sample: float | None = None,
    generator: Generators | None = None,
) -> StepOutput:
    """One step of ancestral sampling (DDPM equations 6 and 7, algorithm 2), over any stride.

    variance_type: "fixed_small" is the posterior's own variance, "fixed_large" is beta (DDPM section 3.2).
    No noise is added by the step that ends at the clean image (prev_timestep -1). Arguments otherwise as `ddim_step`.
    """
    _check_order(timestep, prev_timestep)
    if variance_type not in ("fixed_small", "fixed_large"):
        raise ValueError(f"variance_type must be 'fixed_small' or 'fixed_large', got {variance_type!r}")
    abar_t, abar_s = schedule.alpha_cumprod(timestep), schedule.alpha_cumprod(prev_timestep)
    alpha = abar_t / abar_s  # of the whole stride
    beta = 1 - alpha
    # 1. estimate the clean image
    x0, _ = predict(schedule, model_output, timestep, sample, prediction_type=prediction_type, clip_sample=clip_sample)
    # 2. the mean of q(x_s | x_t, x_0), equation 7
    prev_sample = abar_s**0.5 * beta / (1 - abar_t) * x0 + alpha**0.5 * (1 - abar_s) / (1 - abar_t) * sample.to(
        x0.dtype
    )
    # 3. fresh noise
    variance = beta if variance_type == "fixed_large" else (1 - abar_s) / (1 - abar_t) * beta
    if prev_timestep >= 0 and variance > 0:
        prev_sample = prev_sample + variance**0.5 * randn(sample.shape, generator, device=sample.device).to(x0.dtype)
    return StepOutput(prev_timestep, prev_sample.to(sample.dtype), x0.to(sample.dtype))


Step = Callable[[NoiseSchedule, Tensor, int, int, Tensor], StepOutput]
"""(schedule, model_output, timestep, prev_timestep, sample) -> the state at prev_timestep."""


def ddim(
    *,
    eta: float = 0.0,
    prediction_type: PredictionType | None = None,
    clip_sample: float | None = None,
    generator: Generators | None = None,
) -> Step:
    """DDIM for one walk; options as `ddim_step`, and eta 0 draws nothing from `generator`."""
    return partial(ddim_step, eta=eta, prediction_type=prediction_type, clip_sample=clip_sample, generator=generator)


def ddpm(
    *,
    variance_type: Literal["fixed_small", "fixed_large"] = "fixed_small",
    prediction_type: PredictionType | None = None,
    clip_sample: float | None = None,
    generator: Generators | None = None,
) -> Step:
    """Ancestral sampling for one walk; options as `ddpm_step`."""
    return partial(
        ddpm_step,
        variance_type=variance_type,
        prediction_type=prediction_type,
        clip_sample=clip_sample,
        generator=generator,
    )


def dpm_solver_pp_2m(
    *,
    prediction_type: PredictionType | None = None,
    clip_sample: float | None = None,
    generator: Generators | None = None,  # noqa: ARG001 - one way to call every sampler
) -> Step:
    """A second-order multistep solver for one walk, DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2).

    It keeps pred_original_sample of the previous step. It is first-order in the first step and in the step to the clean
    image (no noise is left, and lambda is infinite). Deterministic: it takes a generator, as the other samplers do, and
    draws nothing from it.
    With lambda_t = log(signal / sigma) at t::

        h = lambda_s - lambda_t,   r = h_last / h,   D = (1 + 1 / 2r) x_0 - 1 / 2r x_0_last
        x_s = sigma_s / sigma_t x_t - signal_s (exp(-h) - 1) D
    """
    last: tuple[int, float, Tensor] | None = None  # of the previous step: its end, its h, its pred_original_sample

    def step(
        schedule: NoiseSchedule, model_output: Tensor, timestep: int, prev_timestep: int, sample: Tensor
    ) -> StepOutput:
        nonlocal last
        _check_order(timestep, prev_timestep)
        x0, _ = predict(
            schedule, model_output, timestep, sample, prediction_type=prediction_type, clip_sample=clip_sample
        )
        abar_t, abar_s = schedule.alpha_cumprod(timestep), schedule.alpha_cumprod(prev_timestep)
        h = _log_snr_half(abar_s) - _log_snr_half(abar_t)
        d = x0
        if last is not None and math.isfinite(h):
            ended_at, h_last, x0_last = last
            if ended_at != timestep or x0_last.shape != x0.shape:
                raise ValueError(
                    f"this solver is at timestep {ended_at} of its walk; make a new solver for another walk"
                )
            d = x0 + h / (2 * h_last) * (x0 - x0_last)
        prev_sample = ((1 - abar_s) / (1 - abar_t)) ** 0.5 * sample.to(x0.dtype) - abar_s**0.5 * math.expm1(-h) * d
        last = (prev_timestep, h, x0)
        return StepOutput(prev_timestep, prev_sample.to(sample.dtype), x0.to(sample.dtype))

    return step


def _log_snr_half(abar: float) -> float:
    """lambda = log(signal / sigma); infinite for the clean image."""
    return math.inf if abar == 1 else 0.5 * math.log(abar / (1 - abar))


def classifier_free_guidance(conditional: Tensor, unconditional: Tensor, guidance_scale: float) -> Tensor:
    """unconditional + guidance_scale * (conditional - unconditional) (Ho & Salimans 2022, arXiv 2207.12598).

    1 is the conditional prediction alone. The paper's w (equation 6) is guidance_scale - 1.
    """
    return unconditional + guidance_scale * (conditional - unconditional)


def with_guidance(conditional: Network, unconditional: Network, guidance_scale: float) -> Network:
    """Both networks as one, by `classifier_free_guidance`.

    They are often one network with other arguments bound: `partial(unet, class_labels=labels)`.
    """

    def network(sample: Tensor, timesteps: Tensor) -> Tensor:
        with_condition, without = (output_of(each(sample, timesteps)) for each in (conditional, unconditional))
        return classifier_free_guidance(with_condition, without, guidance_scale)

    return network


def output_of(returned: Any) -> Tensor:
    """The tensor that a network returned, by itself or as `.sample`. Raises TypeError for anything else."""
    output = returned if isinstance(returned, Tensor) else getattr(returned, "sample", None)
    if not isinstance(output, Tensor):
        raise TypeError(f"the network returned a {type(returned).__name__}; it must return a tensor, or one as .sample")
    return output


@torch.no_grad()
def walk(
    step: Step,
    network: Network,
    sample: Tensor,
    schedule: NoiseSchedule,
    steps: int | Iterable[tuple[int, int]],
) -> Iterator[StepOutput]:
    """Yield the state after each step, from noise to image.

    step: of one walk, e.g. `ddim(eta=0.5, generator=generators)`. sample: (B, ...) noise at the first timestep.
    steps: how many, at the timesteps of `schedule.timestep_pairs`; or pairs (timestep, prev_timestep).
    """
    for timestep, prev_timestep in schedule.timestep_pairs(steps) if isinstance(steps, int) else steps:
        timesteps = torch.full((len(sample),), timestep, dtype=torch.int64, device=sample.device)
        state = step(schedule, output_of(network(sample, timesteps)), timestep, prev_timestep, sample)
        sample = state.sample
        yield state


def draw(
    step: Step,
    network: Network,
    sample: Tensor,
    schedule: NoiseSchedule,
    steps: int | Iterable[tuple[int, int]],
) -> Tensor:
    """The sample at the end of a `walk`, whose arguments it takes."""
    for state in walk(step, network, sample, schedule, steps):  # not kept: a long walk of large images needs memory
        sample = state.sample
    return sample


def _check_order(timestep: int, prev_timestep: int) -> None:
    if not prev_timestep < timestep:
        raise ValueError(f"prev_timestep must be below timestep, got {prev_timestep} after {timestep}")
