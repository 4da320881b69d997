import itertools
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hw2.diffusion.samplers import (
    classifier_free_guidance,
    ddim,
    ddim_sigma,
    ddim_step,
    ddpm,
    ddpm_step,
    dpm_solver_pp_2m,
    predict,
    randn,
    walk,
)
from hw2.diffusion.schedule import NoiseSchedule, homework_schedule, linear_betas, timestep_pairs
from hw2.diffusion.seeding import image_generators
from tests.commands import run_command
from tests.oracles import (
    ddim_twin,
    ddpm_posterior_twin,
    diffusers_ddim_scheduler,
    diffusers_ddpm_scheduler,
    diffusers_dpm_solver,
    dpm_solver_pp_2m_twin,
    v_prediction_twin,
)
from tests.strategies import batches, etas, seeds
from tests.walks import last_sample


def dummy_network(sample, timesteps):
    """Deterministic, depends on every pixel and on the timestep; no image sees another."""
    t = timesteps.to(sample.dtype).reshape(-1, 1, 1, 1) / 1000
    return torch.sin(sample + t) * (0.5 + t) + 0.1 * sample.flip(-1)


def noise_batch(dtype=torch.float64):
    return torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(5)).to(dtype)


# --- oracle: whole trajectories of diffusers, element by element ---


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("eta", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("steps", [2, 7, 50, 250])
def test_ddim_walks_the_trajectory_of_diffusers(steps, eta, clip):
    theirs = diffusers_ddim_scheduler(steps, clip_sample=clip)
    step = ddim(eta=eta, clip_sample=1.0 if clip else None, generator=torch.Generator().manual_seed(1))
    pairs = timestep_pairs("homework", steps)
    states = walk(step, dummy_network, noise_batch(), homework_schedule(), pairs)
    sample, generator = noise_batch(), torch.Generator().manual_seed(1)
    for t, (_, end), state in zip(theirs.timesteps, pairs, states, strict=True):
        fresh = torch.randn(sample.shape, generator=generator).double() if eta > 0 else None
        eps = dummy_network(sample, t.expand(3))
        out = theirs.step(eps, t, sample, eta=eta, variance_noise=fresh)
        sample = out.prev_sample
        torch.testing.assert_close(state.sample, sample, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(state.pred_original_sample, out.pred_original_sample, rtol=1e-8, atol=1e-8)
        assert state.timestep == end


@pytest.mark.parametrize(
    ("steps", "clip", "variance_type"),
    [
        *itertools.product([10, 100], [True, False], ["fixed_small", "fixed_large"]),
        (1000, True, "fixed_small"),  # every timestep
    ],
)
def test_ddpm_walks_the_trajectory_of_diffusers(steps, clip, variance_type):
    theirs = diffusers_ddpm_scheduler(steps, clip_sample=clip, variance_type=variance_type)
    own = torch.Generator().manual_seed(1)
    step = ddpm(variance_type=variance_type, clip_sample=1.0 if clip else None, generator=own)
    pairs = timestep_pairs("leading", steps)
    states = walk(step, dummy_network, noise_batch(torch.float32), homework_schedule(), pairs)
    sample, generator = noise_batch(torch.float32), torch.Generator().manual_seed(1)
    for t, (_, end), state in zip(theirs.timesteps, pairs, states, strict=True):
        eps = dummy_network(sample, t.expand(3))
        out = theirs.step(eps, t, sample, generator=generator)
        sample = out.prev_sample
        torch.testing.assert_close(state.sample, sample, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(state.pred_original_sample, out.pred_original_sample, rtol=1e-4, atol=1e-3)
        assert state.timestep == end


def test_v_prediction_walks_the_trajectory_of_diffusers():
    theirs = diffusers_ddim_scheduler(20, prediction_type="v_prediction", clip_sample=False)
    step = ddim(prediction_type="v_prediction")
    states = walk(step, dummy_network, noise_batch(), homework_schedule(), timestep_pairs("homework", 20))
    sample = noise_batch()
    for t, state in zip(theirs.timesteps, states, strict=True):
        sample = theirs.step(dummy_network(sample, t.expand(3)), t, sample, eta=0.0).prev_sample
        torch.testing.assert_close(state.sample, sample, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_ends_at_the_clean_image_as_diffusers_does(spacing):
    theirs = diffusers_ddim_scheduler(
        20, set_alpha_to_one=True, clip_sample=False, timestep_spacing=spacing, steps_offset=0
    )
    sample = noise_batch()
    states = walk(ddim_step, dummy_network, sample, homework_schedule(), timestep_pairs(spacing, 20))
    for t, state in zip(theirs.timesteps, states, strict=True):
        sample = theirs.step(dummy_network(sample, t.expand(3)), t, sample).prev_sample
        torch.testing.assert_close(state.sample, sample, rtol=1e-8, atol=1e-8)
    assert state.timestep == -1
    assert torch.equal(state.sample, state.pred_original_sample)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [2, 5, 20, 100])
def test_dpm_solver_walks_the_trajectory_of_diffusers(steps, prediction_type):
    theirs = diffusers_dpm_solver(steps, prediction_type=prediction_type)
    step = dpm_solver_pp_2m(prediction_type=prediction_type)
    pairs = timestep_pairs("trailing", steps)
    states = walk(step, dummy_network, noise_batch(torch.float32), homework_schedule(), pairs)
    sample = noise_batch(torch.float32)
    for t, (_, end), state in zip(theirs.timesteps, pairs, states, strict=True):
        output = dummy_network(sample, t.expand(3))
        sample = theirs.step(output, t, sample).prev_sample
        clean = theirs.model_outputs[-1]  # it keeps the clean images that it predicted
        torch.testing.assert_close(state.sample, sample, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(state.pred_original_sample, clean, rtol=1e-4, atol=1e-4)
        assert state.timestep == end


def test_dpm_solver_follows_algorithm_2_in_float64():
    schedule, pairs, sample = homework_schedule(), timestep_pairs("homework", 20), noise_batch()
    states = walk(dpm_solver_pp_2m(clip_sample=1.0), dummy_network, sample, schedule, pairs)
    abars = [schedule.alpha_cumprod(t) for t, _ in pairs] + [schedule.alpha_cumprod(0)]
    expected = dpm_solver_pp_2m_twin(dummy_network, sample, [t for t, _ in pairs], abars, clip=1.0)
    for state, x in zip(states, expected, strict=True):
        torch.testing.assert_close(state.sample, x, rtol=1e-9, atol=1e-9)


def test_dpm_solver_comes_closer_than_ddim_in_as_many_steps():
    schedule = homework_schedule()

    def perfect(sample, timesteps):
        """The noise that is expected where every pixel of an image is -0.5 or 0.5, equally often."""
        abar = schedule.alpha_cumprod(int(timesteps[0]))
        x0 = 0.5 * torch.tanh(0.5 * abar**0.5 * sample / (1 - abar))
        return (sample - abar**0.5 * x0) / (1 - abar) ** 0.5

    def end(step, steps):
        return last_sample(walk(step, perfect, noise_batch(), schedule, timestep_pairs("trailing", steps)))

    exact = end(ddim_step, 1000)
    error_of_ddim, error_of_dpm = ((end(step, 20) - exact).abs().mean() for step in (ddim_step, dpm_solver_pp_2m()))
    assert error_of_dpm < error_of_ddim / 1.5


def test_a_solver_belongs_to_one_walk():
    step, pairs = dpm_solver_pp_2m(), timestep_pairs("homework", 10)
    last_sample(walk(step, dummy_network, noise_batch(), homework_schedule(), pairs))
    with pytest.raises(ValueError, match="make a new solver for another walk"):
        last_sample(walk(step, dummy_network, noise_batch(), homework_schedule(), pairs))


@given(st.floats(-3, 10))
def test_guidance_goes_from_the_unconditional_through_the_conditional_prediction(scale):
    conditional, unconditional = noise_batch(), noise_batch().flip(0)
    guided = classifier_free_guidance(conditional, unconditional, scale)
    # the paper's own form, (1 + w) conditional - w unconditional with w = scale - 1 (equation 6)
    torch.testing.assert_close(guided, scale * conditional - (scale - 1) * unconditional, rtol=1e-9, atol=1e-9)


# --- oracle: the papers' formulas, one step, float64 to the last digits ---


@given(st.sampled_from(timestep_pairs("homework", 50)), etas, seeds, st.sampled_from([None, 1.0, 0.3]))
def test_ddim_step_equals_equations_12_and_16(pair, eta, seed, clip):
    schedule = homework_schedule()
    g = torch.Generator().manual_seed(seed)
    sample, eps = torch.randn(2, 2, 3, 4, 4, generator=g, dtype=torch.float64)
    z = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed)).double()
    a_t, a_prev = schedule.alpha_cumprod(pair[0]), schedule.alpha_cumprod(pair[1])
    expected = ddim_twin(sample.numpy(), eps.numpy(), a_t, a_prev, eta, z.numpy(), clip)
    generator = torch.Generator().manual_seed(seed)
    ours = ddim_step(schedule, eps, *pair, sample, eta=eta, clip_sample=clip, generator=generator).sample
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-9, atol=1e-9)


@given(st.sampled_from(timestep_pairs("homework", 50)), seeds)
def test_ddpm_step_draws_from_the_posterior_of_equation_7(pair, seed):
    schedule = homework_schedule()
    g = torch.Generator().manual_seed(seed)
    sample, eps = torch.randn(2, 2, 3, 4, 4, generator=g, dtype=torch.float64)
    z = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed)).double()
    x0 = predict(schedule, eps, pair[0], sample)[0]
    a_t, a_prev = schedule.alpha_cumprod(pair[0]), schedule.alpha_cumprod(pair[1])
    mean, variance = ddpm_posterior_twin(sample.numpy(), x0.numpy(), a_t, a_prev)
    ours = ddpm_step(schedule, eps, *pair, sample, generator=torch.Generator().manual_seed(seed)).sample
    np.testing.assert_allclose(ours.numpy(), mean + variance**0.5 * z.numpy(), rtol=1e-9, atol=1e-9)


@given(st.integers(0, 999), seeds)
def test_v_prediction_turns_back_by_the_angle_of_the_paper(timestep, seed):
    sample, v = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    schedule = homework_schedule()
    x0, eps = predict(schedule, v, timestep, sample, prediction_type="v_prediction")
    expected = v_prediction_twin(sample.numpy(), v.numpy(), schedule.alpha_cumprod(timestep))
    np.testing.assert_allclose(x0.numpy(), expected[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(eps.numpy(), expected[1], rtol=1e-9, atol=1e-9)


# --- laws ---


@given(st.sampled_from(timestep_pairs("homework", 50)))
def test_ddim_with_eta_one_has_the_variance_of_the_ddpm_posterior(pair):
    schedule = homework_schedule()
    _, variance = ddpm_posterior_twin(
        np.zeros(1), np.zeros(1), schedule.alpha_cumprod(pair[0]), schedule.alpha_cumprod(pair[1])
    )
    assert ddim_sigma(schedule, *pair, eta=1.0) ** 2 == pytest.approx(variance, rel=1e-9)


@settings(max_examples=25)
@given(batches(), seeds, st.permutations(range(6)))
def test_ddim_with_eta_zero_ignores_the_generator_the_batch_and_the_order(batch, seed, order):
    pairs = timestep_pairs("homework", 10)

    def draw(sample, **options):
        return last_sample(walk(ddim(**options), dummy_network, sample, homework_schedule(), pairs))

    together = draw(batch)
    order = [i for i in order if i < len(batch)]
    assert torch.equal(draw(batch, generator=torch.Generator().manual_seed(seed)), together)
    assert torch.equal(torch.cat([draw(batch[i : i + 1]) for i in range(len(batch))]), together)
    assert torch.equal(draw(batch[order]), together[order])


def test_ddim_with_eta_zero_does_not_draw_from_the_generator():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    ddim_step(homework_schedule(), noise_batch(), 981, 961, noise_batch(), eta=0.0, generator=generator)
    assert torch.equal(generator.get_state(), before)


@settings(max_examples=25)
@given(batches(), st.sampled_from([0.5, 1.0]), st.sampled_from([ddim_step, ddpm_step]))
def test_with_one_generator_per_image_the_split_into_batches_changes_nothing(batch, eta, step):
    names = [str(i) for i in range(len(batch))]
    options = {"eta": eta} if step is ddim_step else {}

    def draw(sample, names):
        bound = partial(step, generator=image_generators(4, names), **options)
        return last_sample(walk(bound, dummy_network, sample, homework_schedule(), timestep_pairs("homework", 10)))

    together = draw(batch, names)
    one_by_one = torch.cat([draw(batch[i : i + 1], names[i : i + 1]) for i in range(len(batch))])
    assert torch.equal(together, one_by_one)
    assert not torch.equal(together, draw(batch, [f"other {name}" for name in names]))


@given(batches(), st.integers(0, 999), seeds, st.sampled_from(["epsilon", "v_prediction"]))
def test_adding_noise_and_predicting_it_perfectly_returns_the_original(original, timestep, seed, prediction_type):
    schedule, original = homework_schedule(), original.double()
    noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    sample = schedule.add_noise(original, noise, torch.full((len(original),), timestep))
    abar = schedule.alpha_cumprod(timestep)
    output = noise if prediction_type == "epsilon" else abar**0.5 * noise - (1 - abar) ** 0.5 * original
    x0, eps = predict(schedule, output, timestep, sample, prediction_type=prediction_type)
    torch.testing.assert_close(x0, original, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(eps, noise, rtol=1e-9, atol=1e-9)
    state = ddim_step(schedule, output, timestep, -1, sample, prediction_type=prediction_type)
    torch.testing.assert_close(state.sample, original, rtol=1e-9, atol=1e-9)


def test_a_whole_walk_with_a_perfect_network_returns_the_original():
    schedule, original = homework_schedule(), torch.rand(2, 3, 4, 4, dtype=torch.float64) * 2 - 1
    noise = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def perfect(sample, timesteps):
        abar = schedule.alpha_cumprod(int(timesteps[0]))
        return (sample - abar**0.5 * original) / (1 - abar) ** 0.5

    start = schedule.add_noise(original, noise, torch.tensor([980, 980]))
    for step in (ddim_step, ddpm_step):
        end = last_sample(walk(step, perfect, start, schedule, timestep_pairs("leading", 50)))
        torch.testing.assert_close(end, original, rtol=1e-9, atol=1e-9)


def test_samplers_load_the_schedule_and_nothing_else_of_ours():
    code = "import sys, hw2.diffusion.samplers; print(sorted(m for m in sys.modules if m.split('.')[0] == 'hw2'))"
    run = run_command("tests.hw2.typed", code)
    assert run.stdout.strip() == "['hw2', 'hw2.diffusion', 'hw2.diffusion.samplers', 'hw2.diffusion.schedule']"


# --- every option changes something; every promise is kept ---


def test_options_change_the_result():
    schedule, sample, eps = homework_schedule(), noise_batch(), noise_batch().flip(0)
    base = ddim_step(schedule, eps, 981, 961, sample).sample
    g = torch.Generator().manual_seed(0)
    changed = [
        ddim_step(schedule, eps, 981, 961, sample, eta=0.5, generator=g),
        ddim_step(schedule, eps, 981, 961, sample, clip_sample=1.0),
        ddim_step(schedule, eps, 981, 961, sample, clip_sample=0.5),
        ddim_step(schedule, eps, 981, 961, sample, prediction_type="v_prediction"),
        ddim_step(schedule, eps, 981, 941, sample),
        ddim_step(NoiseSchedule(linear_betas(end=0.01)), eps, 981, 961, sample),
    ]
    assert all(not torch.allclose(state.sample, base) for state in changed)


def test_noise_pred_is_not_recomputed_after_the_clamp():
    schedule, sample, eps = homework_schedule(), noise_batch() * 5, noise_batch()
    x0, noise_pred = predict(schedule, eps, 981, sample, clip_sample=1.0)
    assert x0.abs().max() == 1.0
    assert torch.equal(noise_pred, eps)


@pytest.mark.parametrize("maker", [partial(ddim, eta=1.0), ddpm, dpm_solver_pp_2m])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_samples_keep_their_dtype_and_half_precision_is_summed_in_float32(maker, dtype):
    sample, eps = noise_batch(dtype), noise_batch(dtype).flip(0)

    def stepped(eps, sample):
        step = maker(generator=[torch.Generator().manual_seed(i) for i in range(3)])
        return step(homework_schedule(), eps, 981, 961, sample)

    state, exact = stepped(eps, sample), stepped(eps.double(), sample.double())
    assert state.sample.dtype == state.pred_original_sample.dtype == dtype
    unit = torch.finfo(dtype).eps
    torch.testing.assert_close(state.sample.double(), exact.sample, rtol=max(unit, 1e-6), atol=max(unit, 1e-6))


def test_the_last_step_of_ddpm_adds_no_noise():
    schedule, sample, eps = homework_schedule(), noise_batch(), noise_batch().flip(0)
    for variance_type in ("fixed_small", "fixed_large"):
        a = ddpm_step(schedule, eps, 20, -1, sample, variance_type=variance_type)
        b = ddpm_step(schedule, eps, 20, -1, sample, variance_type=variance_type)
        assert torch.equal(a.sample, b.sample)


def test_fixed_large_adds_more_noise_than_fixed_small():
    schedule, zeros = homework_schedule(), torch.zeros(1, 3, 64, 64, dtype=torch.float64)
    spread = {
        kind: ddpm_step(schedule, zeros, 21, 1, zeros, variance_type=kind, generator=torch.Generator().manual_seed(0))
        for kind in ("fixed_small", "fixed_large")
    }
    beta = 1 - schedule.alpha_cumprod(21) / schedule.alpha_cumprod(1)
    assert spread["fixed_large"].sample.std() == pytest.approx(beta**0.5, rel=0.02)
    assert spread["fixed_small"].sample.std() < spread["fixed_large"].sample.std()


def test_a_walk_yields_every_state_and_calls_the_network_once_a_step():
    calls = []

    def network(sample, timesteps):
        assert timesteps.shape == (3,)
        assert timesteps.dtype == torch.int64
        assert not torch.is_grad_enabled()
        calls.append(int(timesteps[0]))
        return sample * 0.1

    pairs = timestep_pairs("homework", 5)
    states = list(walk(ddim_step, network, noise_batch(), homework_schedule(), pairs))
    assert calls == [t for t, _ in pairs]
    assert [state.timestep for state in states] == [prev for _, prev in pairs]
    assert torch.is_grad_enabled()


def test_a_walk_leaves_the_starting_noise_alone():
    start = noise_batch()
    last_sample(walk(ddim_step, dummy_network, start, homework_schedule(), timestep_pairs("homework", 5)))
    assert torch.equal(start, noise_batch())


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_eta_outside_zero_to_one_is_refused(eta):
    with pytest.raises(ValueError, match="eta must be in"):
        ddim_step(homework_schedule(), noise_batch(), 981, 961, noise_batch(), eta=eta)


@pytest.mark.parametrize("step", [ddim_step, ddpm_step])
def test_going_forwards_in_time_is_refused(step):
    for end in (981, 961):
        with pytest.raises(ValueError, match=f"got {end} after 961"):
            step(homework_schedule(), noise_batch(), 961, end, noise_batch())


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="prediction_type"):
        predict(homework_schedule(), noise_batch(), 1, noise_batch(), prediction_type="sample")
    with pytest.raises(ValueError, match="variance_type"):
        ddpm_step(homework_schedule(), noise_batch(), 961, 941, noise_batch(), variance_type="learned")


def test_a_network_that_also_predicts_a_variance_is_refused():
    with pytest.raises(ValueError) as refusal:
        ddim_step(homework_schedule(), torch.zeros(1, 6, 2, 2), 961, 941, torch.zeros(1, 3, 2, 2))
    assert str(refusal.value) == (
        "the network's output is (1, 6, 2, 2) for a sample of (1, 3, 2, 2); both must be equal, and a network that "
        "also predicts a variance is not supported"
    )


def test_the_number_of_generators_must_be_the_number_of_images():
    with pytest.raises(ValueError, match="each of the 3 images, got 2"):
        randn((3, 1), image_generators(0, ["a", "b"]))
