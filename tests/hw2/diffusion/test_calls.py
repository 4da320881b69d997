"""One way to call every sampler, with networks of diffusers and with plain modules."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel

from hw2.diffusion.samplers import ddim, ddim_step, ddpm, dpm_solver_pp_2m, draw, walk, with_guidance
from hw2.diffusion.schedule import NoiseSchedule, homework_schedule, linear_betas, timestep_pairs
from tests.hw2.diffusion.test_samplers import dummy_network, noise_batch

SAMPLERS = [ddim, ddpm, dpm_solver_pp_2m]


def generator():
    return torch.Generator().manual_seed(2)


@pytest.fixture(scope="module")
def unet():
    """A U-Net of diffusers with random weights and 3 classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet2DModel(
            sample_size=8, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4, num_class_embeds=3,
            down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        )  # fmt: skip
    return network.eval()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_takes_the_same_options_and_each_has_an_effect(sampler):
    schedule, noise = homework_schedule(), noise_batch()

    def end(**options):
        return draw(sampler(**{"generator": generator(), **options}), dummy_network, noise, schedule, 8)

    assert torch.equal(end(), end()), "a fresh step for each walk"
    assert not torch.allclose(end(), end(clip_sample=0.1))
    assert not torch.allclose(end(), end(prediction_type="v_prediction"))
    other = end(generator=torch.Generator().manual_seed(3))
    assert torch.equal(end(), other) == (sampler is not ddpm)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_schedule_says_what_the_options_leave_out(sampler):
    said = NoiseSchedule(linear_betas(), prediction_type="v_prediction", clip_sample=0.1)
    by_schedule = draw(sampler(generator=generator()), dummy_network, noise_batch(), said, 8)
    options = {"prediction_type": "v_prediction", "clip_sample": 0.1, "generator": generator()}
    by_option = draw(sampler(**options), dummy_network, noise_batch(), NoiseSchedule(linear_betas()), 8)
    assert torch.equal(by_schedule, by_option)
    assert not torch.allclose(by_schedule, draw(sampler(), dummy_network, noise_batch(), homework_schedule(), 8))


def test_the_steps_of_a_walk_may_be_a_number_or_pairs():
    schedule = homework_schedule()
    ends = [
        draw(ddim(), dummy_network, noise_batch(), schedule, steps) for steps in (10, timestep_pairs("homework", 10))
    ]
    assert torch.equal(*ends)
    *_, last = walk(ddim(), dummy_network, noise_batch(), schedule, 10)
    assert torch.equal(last.sample, ends[0])
    assert last.timestep == 0


def test_options_of_ddim_reach_its_step():
    schedule, noise = homework_schedule(), noise_batch()
    (state,) = walk(ddim(eta=0.7, generator=generator()), dummy_network, noise, schedule, [(981, 961)])
    output = dummy_network(noise, torch.full((3,), 981))
    expected = ddim_step(schedule, output, 981, 961, noise, eta=0.7, generator=generator())
    assert torch.equal(state.sample, expected.sample)


def test_a_unet_of_diffusers_is_walked_as_diffusers_does(unet):
    theirs = DDIMScheduler(beta_schedule="linear")
    theirs.set_timesteps(5)
    noise, labels = torch.randn(2, 3, 8, 8, generator=generator()), torch.tensor([1, 2])
    network = partial(unet, class_labels=labels)
    ours = draw(ddim(), network, noise, NoiseSchedule.from_config(theirs.config), 5)
    sample = noise
    with torch.no_grad():
        for t in theirs.timesteps:
            sample = theirs.step(network(sample, t).sample, t, sample).prev_sample
    torch.testing.assert_close(ours, sample, rtol=1e-4, atol=1e-4)


def test_guidance_is_a_network_of_two_networks(unet):
    noise, timesteps = torch.randn(2, 3, 8, 8, generator=generator()), torch.tensor([500, 20])
    cat, anything = (partial(unet, class_labels=torch.tensor([i, i])) for i in (1, 0))
    with torch.no_grad():
        conditional, unconditional = (each(noise, timesteps).sample for each in (cat, anything))
        found = with_guidance(cat, anything, 3.0)(noise, timesteps)
    torch.testing.assert_close(found, 3 * conditional - 2 * unconditional, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(conditional, unconditional)


@pytest.mark.parametrize("returned", [None, (torch.zeros(3, 3, 4, 4),), SimpleNamespace(sample=3)])
def test_a_network_that_returns_no_tensor_is_refused(returned):
    with pytest.raises(TypeError, match=f"the network returned a {type(returned).__name__}; it must return a tensor"):
        draw(ddim(), lambda *_: returned, noise_batch(), homework_schedule(), 5)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_network_that_also_predicts_a_variance_is_refused(sampler):
    with pytest.raises(ValueError, match=r"output is \(3, 6, 4, 4\) for a sample of \(3, 3, 4, 4\)"):
        draw(sampler(), lambda x, _: torch.cat([x, x], 1), noise_batch(), homework_schedule(), 5)


@pytest.mark.parametrize(("spacing", "offset"), [("trailing", 1), ("homework", 1), ("leading", -1)])
def test_an_offset_that_no_spacing_has_is_refused(spacing, offset):
    with pytest.raises(ValueError, match=f"got {offset} for '{spacing}'"):
        timestep_pairs(spacing, 10, steps_offset=offset)


def test_an_unknown_prediction_type_makes_no_schedule():
    with pytest.raises(ValueError, match="prediction_type must be 'epsilon' or 'v_prediction', got 'sample'"):
        NoiseSchedule(linear_betas(), prediction_type="sample")
