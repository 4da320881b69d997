"""The table of samplers: what follows from a row, and that a new row is enough."""

import re

import pytest
import torch

from hw2.concepts.generate import ConceptSampler
from hw2.diffusion.schedule import homework_schedule
from hw2.diffusion.table import SAMPLERS, latent_steps, pixel_steps
from hw2.digits.sample import DigitSampler
from tests.commands import run_command
from tests.hw2.diffusion.new_row import HALF
from tests.walks import last_sample

NAMES = ["mnistm/0_001.png", "svhn/7_042.png"]


def test_the_defaults_are_those_of_the_readme(tiny_digit_model):
    assert pixel_steps() == {"ddpm": 1000, "ddim": 50, "dpm++": 6}
    assert latent_steps() == {"ddim": 50, "dpm++": 25}
    drawing = DigitSampler(tiny_digit_model)
    assert (drawing.sampler, drawing.num_inference_steps, drawing.guidance_scale) == ("dpm++", 6, 4.0)
    assert DigitSampler(tiny_digit_model, "ddim").num_inference_steps == 50
    assert ConceptSampler.num_inference_steps == 25


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_row_says_whether_its_steps_draw_fresh_noise(name):
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    step = SAMPLERS[name].step("epsilon", 1.0, generator)
    step(homework_schedule(), torch.zeros(1, 3, 4, 4), 981, 961, torch.ones(1, 3, 4, 4))
    assert SAMPLERS[name].stochastic != torch.equal(before, generator.get_state())


def test_a_new_row_is_a_sampler_of_digits(monkeypatch, tiny_digit_model):
    monkeypatch.setitem(SAMPLERS, "half", HALF)
    new, old = (DigitSampler(tiny_digit_model, name, num_inference_steps=3) for name in ("half", "ddim"))
    assert not torch.allclose(last_sample(new.states(NAMES)), last_sample(old.states(NAMES)))
    assert pixel_steps()["half"] == 7
    assert latent_steps()["half"] == 9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "steps"),
    [("digits sample", "6 for dpm++, 7 for half"), ("concepts generate", "25 for dpm++, 9 for half")],
)
def test_a_new_row_is_a_choice_of_the_commands_with_its_help_and_default(verb, steps):
    run = run_command("tests.hw2.diffusion.new_row", *verb.split(), "--help", variables={"COLUMNS": "300"})
    assert run.returncode == 0, run.stderr
    assert re.search(r"dpm\+\+\|half[>\]]", run.stdout)
    assert "half: half of everything" in run.stdout
    assert steps in run.stdout


def test_a_command_draws_with_a_new_row_and_its_default_number_of_steps(tmp_path, tiny_digit_model):
    from hw2.digits.checkpoint import save_digit_model

    save_digit_model(tiny_digit_model, tmp_path / "tiny.safetensors")
    options = ["--checkpoint", tmp_path / "tiny.safetensors", "--device", "cpu", "--per-digit", 1]
    options += ["--sampler", "half", "--output", tmp_path / "out"]
    run = run_command("tests.hw2.diffusion.new_row", "digits", "sample", *options)
    assert run.returncode == 0, run.stderr
    assert " 140 of 140 " in run.stderr, "seven steps of each of 20 images"
    assert len(list((tmp_path / "out").glob("*/*.png"))) == 20
