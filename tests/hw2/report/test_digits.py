import sys

import numpy as np
import pytest
import torch

from hw2.diffusion.samplers import StepOutput
from hw2.digits.figures import reverse_states
from hw2.errors import InputError
from hw2.report import judge, settings
from hw2.report.judge import Verdict, judged
from tests.commands import run_command


class CountingSampler:
    """A walk whose sample after n steps is n, and whose step n predicts -n from the sample before it."""

    num_inference_steps = 1000

    def noise(self, names):
        return torch.zeros(len(names), 3, 28, 28)

    def states(self, names):
        for n in range(1, 1001):
            yield StepOutput(-1, torch.full((len(names), 3, 28, 28), float(n)), torch.full((2, 3, 28, 28), -float(n)))


def test_each_frame_of_the_way_has_the_image_that_is_predicted_from_it():
    samples, predictions = reverse_states(CountingSampler())
    assert samples.shape == predictions.shape == (6, 2, 3, 28, 28)
    assert samples[:, 0, 0, 0, 0].tolist() == [0, 200, 400, 600, 800, 1000]
    assert predictions[:, 1, 0, 0, 0].tolist() == [-1, -201, -401, -601, -801, 1000]


@pytest.fixture
def _grader(monkeypatch):
    """The grader's process starts with PyTorch loaded."""

    def run(command, **_):
        assert command[:3] == [sys.executable, "-m", "grading"]
        return run_command("grading", *command[3:])

    monkeypatch.setattr(judge.subprocess, "run", run)


@pytest.mark.usefixtures("_grader")
def test_the_judges_of_the_grader_count_every_image_and_name_their_interval():
    images = {f"{d}/{i}_001.png": np.full((28, 28, 3), 25 * i, np.uint8) for d in ("mnistm", "svhn") for i in range(10)}
    verdict = judged(images)
    for share, (low, high), counts in zip(verdict.accuracy, verdict.interval, verdict.confusion, strict=True):
        assert [sum(row) for row in counts] == [1] * 10
        assert share == sum(counts[i][i] for i in range(10)) / 10
        assert low <= share <= high


@pytest.mark.usefixtures("_grader")
def test_digits_that_the_judges_cannot_judge_are_told_in_one_sentence():
    with pytest.raises(InputError, match="hw2-grade digits could not judge the digits") as found:
        judged({"mnistm/0_001.png": np.zeros((28, 28, 3), np.uint8)})
    assert "\n" not in str(found.value)


def test_each_solver_and_number_of_steps_keeps_its_own_verdict(monkeypatch):
    def verdict(digits):
        kind, steps, scale = digits["made by"]
        share = {"ddpm": 0.1, "ddim": 0.2, "dpm++": 0.3}[kind] + steps / 1000 + scale / 1e5
        return Verdict([share, -share], [[share, 1], [0, -share]], [steps, scale], [])

    class Drawn:
        def __init__(self, inputs, scale, steps, name="dpm++"):
            self.made_by = (name, steps, scale)

        def pixels(self, names, on_step):
            return [("made by", self.made_by)]

    monkeypatch.setattr(settings, "sampler", Drawn)
    monkeypatch.setattr(settings, "judged", verdict)
    for name, value in {"SCALE": 5.0, "NUM_STEPS": 15, "SCALES": (1.0, 2.0, 5.0, 10.0)}.items():
        monkeypatch.setattr(settings, name, value)
    found = settings.solvers(None, lambda *_: None)
    assert found.solvers == ["ddpm", "ddim", "dpm++"]
    assert found.accuracy[1][2][0] == pytest.approx(0.2 + 0.008 + 5e-5)
    assert found.accuracy[2][0][1] == pytest.approx(-(0.3 + 0.002 + 5e-5))
    assert found.diversity[0] == [[2, 5], [4, 5], [8, 5]]
    by_scale = settings.guidance(None, lambda *_: None)
    assert by_scale.diversity == [[15, 1], [15, 2], [15, 5], [15, 10]]
    assert by_scale.interval[3][0] == pytest.approx([0.3 + 0.015 + 1e-4, 1])
