"""Schedules out of diffusers' configurations, compared with `DDIMScheduler`, which reads them all."""

import dataclasses
import json

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, PNDMScheduler

from hw2.diffusion.samplers import ddim, walk
from hw2.diffusion.schedule import NoiseSchedule, cosine_betas, linear_betas, scaled_linear_betas
from tests.hw2.diffusion.test_samplers import dummy_network, noise_batch

STABLE_DIFFUSION = {
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.7.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "beta_start": 0.00085, "clip_sample": False, "num_train_timesteps": 1000, "set_alpha_to_one": False,
    "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
}  # fmt: skip
"""The scheduler_config.json of Stable Diffusion v1.4."""

CONFIGS = {
    "nothing said": {},
    "Stable Diffusion": STABLE_DIFFUSION,
    "v, trailing": {**STABLE_DIFFUSION, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
    "linspace": {**STABLE_DIFFUSION, "timestep_spacing": "linspace"},
    "linear": {"beta_schedule": "linear", "beta_start": 0.0015, "beta_end": 0.0195, "clip_sample_range": 2.0},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "cosine of 4000": {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 4000},
    "cosine of 50": {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 50},
    "trained": {"trained_betas": [0.001 * 1.01**i for i in range(100)], "num_train_timesteps": 100},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_alphas_cumprod_are_those_of_diffusers_bit_for_bit(name, tmp_path):
    path = tmp_path / "scheduler_config.json"
    path.write_text(json.dumps(CONFIGS[name]))
    theirs = DDIMScheduler.from_config(json.loads(path.read_text()))
    for config in (path, str(path), CONFIGS[name]):
        ours = NoiseSchedule.from_config(config)
        assert ours.alphas_cumprod.dtype == torch.float32
        assert torch.equal(ours.betas, theirs.betas)
        assert torch.equal(ours.alphas_cumprod, theirs.alphas_cumprod)
        assert ours.alpha_cumprod(-1) == float(theirs.final_alpha_cumprod)


@pytest.mark.parametrize("steps", [10, 25])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_timesteps_are_those_of_diffusers(name, steps):
    theirs = DDIMScheduler.from_config(CONFIGS[name])
    theirs.set_timesteps(steps)
    assert [t for t, _ in NoiseSchedule.from_config(CONFIGS[name]).timestep_pairs(steps)] == theirs.timesteps.tolist()


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"linspace"}))  # diffusers' prev_timestep is another one there
def test_a_walk_of_nothing_but_the_configuration_is_that_of_diffusers(name):
    theirs = DDIMScheduler.from_config(CONFIGS[name])
    theirs.set_timesteps(10)
    sample = noise_batch(torch.float32)
    states = walk(ddim(), dummy_network, sample, NoiseSchedule.from_config(CONFIGS[name]), 10)
    for t, state in zip(theirs.timesteps, states, strict=True):
        sample = theirs.step(dummy_network(sample, t.expand(3)), t, sample).prev_sample
        torch.testing.assert_close(state.sample, sample, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scheduler", [DDIMScheduler, DDPMScheduler, PNDMScheduler, DPMSolverMultistepScheduler])
def test_the_config_in_memory_of_any_scheduler_is_read_as_diffusers_reads_it(scheduler):
    config = scheduler(beta_schedule="scaled_linear", beta_start=0.001).config
    ours, theirs = NoiseSchedule.from_config(config), DDIMScheduler.from_config(config)
    assert torch.equal(ours.alphas_cumprod, theirs.alphas_cumprod)
    assert ours.alpha_cumprod(-1) == float(theirs.final_alpha_cumprod)
    assert ours.clip_sample == (theirs.config.clip_sample_range if theirs.config.clip_sample else None)
    assert ours.timestep_spacing == theirs.config.timestep_spacing


@pytest.mark.parametrize(
    ("kind", "betas"),
    [("linear", linear_betas), ("scaled_linear", scaled_linear_betas), ("squaredcos_cap_v2", cosine_betas)],
)
def test_float64_gives_the_more_exact_schedule_of_this_package(kind, betas):
    start, end = (0.00085, 0.012) if kind == "scaled_linear" else (1e-4, 2e-2)
    config = {"beta_schedule": kind, "beta_start": start, "beta_end": end}
    assert torch.equal(NoiseSchedule.from_config(config, dtype=torch.float64).betas, betas())


def test_an_offset_counts_for_the_leading_spacing_alone():
    pairs = NoiseSchedule.from_config(STABLE_DIFFUSION).timestep_pairs(50)
    assert (pairs[0], pairs[-1]) == ((981, 961), (1, -1))
    assert NoiseSchedule.from_config({**STABLE_DIFFUSION, "timestep_spacing": "trailing"}).steps_offset == 0


def test_what_the_configuration_says_can_be_changed():
    schedule = NoiseSchedule.from_config({})
    assert schedule.clip_sample == 1.0
    assert dataclasses.replace(schedule, clip_sample=None).clip_sample is None


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"prediction_type": "sample"}, "prediction_type is 'sample'; it must be one of epsilon, v_prediction"),
        ({"beta_schedule": "laplace"}, "beta_schedule is 'laplace'"),
        ({"timestep_spacing": "homework"}, "timestep_spacing is 'homework'; it must be one of leading"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr is on"),
        ({"use_karras_sigmas": True}, "use_karras_sigmas is on"),
        ({"num_train_timesteps": 10**9}, "num_train_timesteps is 1000000000"),
        ({"num_train_timesteps": "many"}, "many"),
        ({"beta_schedule": ["linear"]}, "beta_schedule is"),
        ({"trained_betas": [0.5, 1.5]}, "every beta"),
        ({"beta_schedule": "scaled_linear", "beta_start": -1}, "beta_start and beta_end are -1.0"),
        ([1, 2], "it holds a list"),
    ],
)
def test_what_no_sampler_here_follows_is_refused_with_the_file(tmp_path, config, match):
    path = tmp_path / "scheduler_config.json"
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=match) as error:
        NoiseSchedule.from_config(path)
    assert str(error.value).startswith(f"{path} describes no supported noise schedule (")


def test_a_file_that_is_missing_or_no_json_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.json .*No such file"):
        NoiseSchedule.from_config(tmp_path / "nothing.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ValueError, match=r"binary\.json describes no"):
        NoiseSchedule.from_config(tmp_path / "binary.json")
