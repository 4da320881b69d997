import re

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from hw2.diffusion.schedule import (
    NoiseSchedule,
    cosine_betas,
    homework_schedule,
    linear_betas,
    scaled_linear_betas,
    timestep_pairs,
)
from tests.oracles import add_noise_twin, alphas_cumprod_twin, diffusers_ddim_scheduler


def test_alphas_cumprod_equals_the_products_of_the_paper():
    ours = homework_schedule().alphas_cumprod
    assert ours.dtype == torch.float64
    np.testing.assert_allclose(ours.numpy(), alphas_cumprod_twin(), rtol=1e-12)


@pytest.mark.parametrize(("timestep", "published"), [(0, 0.9999), (1, 0.99978009), (21, 0.99322036), (981, 5.7878e-5)])
def test_alphas_cumprod_has_the_values_of_the_published_solution(timestep, published):
    # SPEC section 5
    assert homework_schedule().alpha_cumprod(timestep) == pytest.approx(published, rel=1e-5)


def test_scaled_linear_betas_are_stable_diffusions():
    theirs = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").betas
    np.testing.assert_allclose(scaled_linear_betas().numpy(), theirs.numpy(), rtol=1e-6)
    exact = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        betas = scaled_linear_betas(dtype=dtype)
        assert betas.dtype == dtype
        np.testing.assert_allclose(betas.numpy(), exact, rtol=tolerance)
    np.testing.assert_allclose(scaled_linear_betas().numpy(), exact, rtol=1e-12)


def test_cosine_betas_are_those_of_improved_ddpm():
    theirs = DDPMScheduler(beta_schedule="squaredcos_cap_v2").betas
    np.testing.assert_allclose(cosine_betas().numpy(), theirs.numpy(), rtol=1e-5)


def test_homework_spacing_is_981_to_1_and_ends_at_0():
    pairs = timestep_pairs("homework", 50)
    assert pairs[0] == (981, 961)
    assert pairs[-2:] == [(21, 1), (1, 0)]
    assert [t for t, _ in pairs] == list(range(981, 0, -20))


@pytest.mark.parametrize("steps", [2, 5, 10, 20, 30, 50, 70, 100, 125, 250, 300, 500, 999])
def test_homework_spacing_visits_the_timesteps_of_diffusers(steps):
    theirs = diffusers_ddim_scheduler(steps).timesteps.tolist()
    assert [t for t, _ in timestep_pairs("homework", steps)] == theirs


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [2, 5, 10, 24, 50, 100, 1000])
def test_uniform_spacings_visit_the_timesteps_of_diffusers(spacing, steps):
    theirs = DDIMScheduler(timestep_spacing=spacing, steps_offset=0)
    theirs.set_timesteps(steps)
    assert [t for t, _ in timestep_pairs(spacing, steps)] == theirs.timesteps.tolist()


@given(
    st.sampled_from(["homework", "leading", "trailing", "linspace"]),
    st.sampled_from([2, 3, 4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200, 250, 500]),
)
def test_each_step_starts_where_the_one_before_ended(spacing, steps):
    pairs = timestep_pairs(spacing, steps)
    assert len(pairs) == steps
    assert all(prev_timestep < timestep for timestep, prev_timestep in pairs)
    assert [prev for _, prev in pairs[:-1]] == [t for t, _ in pairs[1:]]
    assert pairs[-1][1] == (0 if spacing == "homework" else -1)


LATE = (
    "num_inference_steps {} would start at timestep {} of 1000 and skip the noisiest part; use {}, or a divisor of 1000"
)


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        (0, "num_inference_steps must be in 1 .. 1000, got 0"),
        (-1, "num_inference_steps must be in 1 .. 1000, got -1"),
        (1001, "num_inference_steps must be in 1 .. 1000, got 1001"),
        (1, "num_inference_steps 1 would start at timestep 1, where no noise is left; use 2 or more"),
        (1000, "num_inference_steps 1000 would start at timestep 1000, past 999; use at most 999"),
        (600, LATE.format(600, 600, 500)),
        (400, LATE.format(400, 799, 333)),
        (334, LATE.format(334, 667, 333)),
    ],
)
def test_homework_spacing_refuses_counts_that_cannot_start_from_noise_and_names_one_that_can(steps, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        timestep_pairs("homework", steps)
    if named := re.search(r"use (\d+),", sentence):
        assert len(timestep_pairs("homework", int(named[1]))) == int(named[1])


@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_one_step_goes_from_pure_noise_to_the_clean_image(spacing):
    assert timestep_pairs(spacing, 1) == [(999, -1)]


def test_unknown_spacing_is_refused_by_name():
    with pytest.raises(ValueError, match=r"homework, leading, trailing, linspace, got 'karras'"):
        timestep_pairs("karras", 50)


def test_timestep_minus_one_has_the_stated_final_alpha_cumprod():
    assert NoiseSchedule(linear_betas()).alpha_cumprod(-1) == 1.0
    assert NoiseSchedule(linear_betas(), final_alpha_cumprod=0.9999).alpha_cumprod(-1) == 0.9999


@pytest.mark.parametrize("timestep", [-2, 1000])
def test_timesteps_outside_the_schedule_are_refused(timestep):
    with pytest.raises(ValueError, match=rf"^timestep must be in -1 \.\. 999, got {timestep}$"):
        homework_schedule().alpha_cumprod(timestep)


RANGE, KIND = "every beta must be in (0, 1)", "betas must be (T,) float64 or float32, got "


@pytest.mark.parametrize(
    ("betas", "sentence"),
    [
        (torch.tensor([0.1, 1.0], dtype=torch.float64), RANGE),
        (torch.tensor([0.0, 0.1], dtype=torch.float64), RANGE),
        (torch.tensor([float("nan")], dtype=torch.float64), RANGE),
        (torch.tensor([0.1], dtype=torch.float16), f"{KIND}(1,) torch.float16"),
        (torch.ones(2, 2, dtype=torch.float64) / 2, f"{KIND}(2, 2) torch.float64"),
        (torch.empty(0, dtype=torch.float64), f"{KIND}(0,) torch.float64"),
    ],
)
def test_betas_that_make_no_schedule_are_refused(betas, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        NoiseSchedule(betas)


@pytest.mark.parametrize("final", [0.0, 1.1, float("nan")])
def test_final_alpha_cumprod_must_be_a_share(final):
    with pytest.raises(ValueError, match="final_alpha_cumprod"):
        NoiseSchedule(linear_betas(), final_alpha_cumprod=final)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_add_noise_keeps_the_dtype_and_equals_diffusers(dtype):
    g = torch.Generator().manual_seed(0)
    sample, noise = torch.randn(2, 4, 3, 5, 5, generator=g, dtype=torch.float64)
    timesteps = torch.tensor([0, 21, 500, 999])
    theirs = diffusers_ddim_scheduler(50).add_noise(sample, noise, timesteps)
    ours = homework_schedule().add_noise(sample.to(dtype), noise.to(dtype), timesteps)
    assert ours.dtype == dtype
    for i, t in enumerate(timesteps.tolist()):
        expected = add_noise_twin(sample[i].numpy(), noise[i].numpy(), alphas_cumprod_twin()[t])
        np.testing.assert_allclose(theirs[i].numpy(), expected, rtol=1e-9, atol=1e-9)
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-12, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance)


def test_add_noise_refuses_what_does_not_fit():
    schedule, sample = homework_schedule(), torch.zeros(2, 3)
    with pytest.raises(ValueError, match="one timestep per image"):
        schedule.add_noise(sample, sample, torch.tensor([1]))
    with pytest.raises(ValueError, match=r"0 \.\. 999"):
        schedule.add_noise(sample, sample, torch.tensor([1, 1000]))
    with pytest.raises(ValueError, match=r"0 \.\. 999"):
        schedule.add_noise(sample, sample, torch.tensor([-1, 5]))
