import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from hw2.diffusion.interpolate import angle_between
from hw2.diffusion.schedule import homework_schedule
from hw2.digits.network import DigitUNetConfig
from hw2.report.digits import _counted
from hw2.report.faces import contrast, detail, mean_squared_error, saturation, shell, turned, walks


def test_the_shell_is_the_norm_of_gaussian_noise():
    norms = torch.randn(4000, 300, generator=torch.Generator().manual_seed(0)).norm(dim=1)
    mean, deviation = shell(300)
    assert mean == pytest.approx(float(norms.mean()), abs=0.04)
    assert deviation == pytest.approx(float(norms.std()), abs=0.03)
    assert shell(1)[0] == pytest.approx((2 / np.pi) ** 0.5)


def test_a_turned_noise_has_the_angle_and_the_norm_that_were_asked_for():
    a, b = torch.randn(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found = turned(a, b, 150.0)
    assert angle_between(a, found) * 180 / torch.pi == pytest.approx(150, abs=1e-3)
    assert float(found.norm()) == pytest.approx(float(b.norm()), rel=1e-6)


def test_detail_is_the_share_of_fast_changes():
    place = torch.arange(16)
    checkers = ((place[:, None] + place[None]) % 2 * 2.0 - 1).expand(3, 16, 16)
    slow = torch.cos(place * 2 * torch.pi / 16).expand(3, 16, 16)
    assert detail(checkers) == pytest.approx(1)
    assert detail(slow) == pytest.approx(0, abs=1e-9)
    assert detail(slow + checkers) == pytest.approx(2 / 3)
    assert detail(torch.zeros(3, 16, 16)) == 0
    for waves, share in ((3, 0), (5, 1)):  # of 16 pixels, a quarter of a cycle a pixel is 4
        assert detail(torch.cos(place * 2 * torch.pi * waves / 16).expand(3, 16, 16)) == pytest.approx(share, abs=1e-9)


def test_saturation_and_contrast_are_none_in_a_grey_face():
    grey = torch.full((3, 4, 4), 0.3)
    assert (saturation(grey), contrast(grey)) == (0, pytest.approx(0, abs=1e-7))
    red = grey.clone()
    red[0] += 0.5
    assert saturation(red) == pytest.approx(0.5)


def test_the_error_does_not_wrap_around_in_8_bits():
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    assert mean_squared_error(black, white) == mean_squared_error(white, black) == 255**2


def test_every_recipe_differs_from_the_homework_s():
    sample = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    ends = {}
    for name, (pairs, step, schedule) in walks().items():
        one, x = step(), sample
        for t, s in pairs:
            abar = homework_schedule().alpha_cumprod(t)
            noise = (x - abar**0.5 * 0.5 * torch.sin(3 * x)) / (1 - abar) ** 0.5 + t / 1e4
            x = one(schedule, noise, t, s, x).sample
        ends[name] = tuple(x.flatten().tolist())
    assert len(set(ends.values())) == len(ends)


def test_the_parts_of_the_network_add_up():
    config = DigitUNetConfig(channels=(16, 32), head_dim=16)
    rows, _, total = _counted(config)
    assert sum(row[4] for row in rows) == pytest.approx(total / 1e6, rel=1e-3)
    from hw2.digits.info import cost

    assert sum(row[3] for row in rows) == cost(config).parameters
    assert {row[0]: row[2] for row in rows}["middle"] == "32 × 7 × 7"


@pytest.mark.parametrize(
    ("name", "options"), [("homework", {}), ("noise_recomputed", {"use_clipped_model_output": True})]
)
def test_a_recipe_of_the_table_is_that_of_diffusers(name, options):
    pairs, step, schedule = walks()[name]
    theirs = DDIMScheduler(set_alpha_to_one=False, steps_offset=1, beta_schedule="linear")
    theirs.set_timesteps(50)
    g = torch.Generator().manual_seed(0)
    sample, noise = torch.randn(2, 1, 3, 8, 8, generator=g)
    for t, s in (pairs[0], pairs[25]):
        expected = theirs.step(noise, t, sample, **options).prev_sample
        torch.testing.assert_close(step()(schedule, noise, t, s, sample).sample, expected, rtol=1e-4, atol=1e-4)
