import math

import numpy as np
import pytest
import torch

import hw2.faces.figures as figures
from hw2.faces.sample import FaceSampler, batch_invariant, face_to_u8, load_noises
from hw2.files.output import OutputFolder


@pytest.fixture
def drawn(monkeypatch):
    """What the picture's painter was asked to paint."""
    asked = {}

    def paint(rows, **options):
        asked.update(options, rows=rows)
        return b"picture"

    monkeypatch.setattr(figures, "image_grid_png", paint)
    return asked


@pytest.fixture
def sampler(tiny_network):
    return FaceSampler(batch_invariant(tiny_network), num_inference_steps=3)


def test_the_eta_grid_shows_each_noise_at_each_eta(tmp_path, sampler, noise_folder, drawn):
    noises = dict(list(load_noises(noise_folder).items())[:4])
    folder = OutputFolder(tmp_path / "out", figures.eta_grid_names(noises), settings=1)
    assert figures.eta_grid_png(sampler, noises, folder) == b"picture"
    for row, eta in zip(drawn["rows"], (0, 0.25, 0.5, 0.75, 1), strict=True):
        for image, (_, face) in zip(row, sampler.sample(noises, eta), strict=True):
            np.testing.assert_array_equal(image, face_to_u8(face))
    assert drawn["row_labels"] == ["eta 0", "eta 0.25", "eta 0.5", "eta 0.75", "eta 1"]
    assert drawn["column_labels"] == ["noise 00", "noise 01", "noise 02", "noise 03"]


def test_the_interpolation_shows_slerp_above_lerp_and_what_they_do_to_norm_and_angle(
    tmp_path, sampler, noise_folder, drawn
):
    noises = load_noises(noise_folder)
    start, end = noises["00"], noises["01"]
    folder = OutputFolder(tmp_path / "out", figures.interpolation_names(), settings=1)
    figures.interpolation_png(sampler, ("00", start), ("01", end), folder)

    theta = math.acos(float((start * end).sum() / start.norm() / end.norm()))
    for i in range(11):
        alpha = i / 10
        on_arc = (math.sin((1 - alpha) * theta) * start + math.sin(alpha * theta) * end) / math.sin(theta)
        on_chord = (1 - alpha) * start + alpha * end
        for row, point in enumerate((on_arc, on_chord)):
            [(_, face)] = sampler.sample({"": point})
            difference = drawn["rows"][row][i].astype(int) - face_to_u8(face)
            assert abs(difference).max() <= 1, (row, alpha)  # a last digit of the noise may round another way
        for panel, value in zip(drawn["panels"], (on_chord.norm(), None), strict=True):
            if value is not None:
                assert panel.curves["lerp"][i] == pytest.approx(float(value), rel=1e-6)
    norm, angle = drawn["panels"]
    assert norm.curves["noise as in training"] == [math.sqrt(3 * 8 * 8)] * 11
    assert norm.curves["slerp"][0] == norm.curves["lerp"][0] == pytest.approx(float(start.norm()))
    assert angle.curves["slerp"] == pytest.approx([math.degrees(theta) * i / 10 for i in range(11)], abs=2)
    assert angle.curves["lerp"][10] == pytest.approx(math.degrees(theta), abs=1e-4)
    assert list(norm.x) == [i / 10 for i in range(11)]
    assert drawn["row_labels"] == ["slerp", "lerp"]
    assert drawn["column_labels"][5] == "0.5"


def test_opposite_noises_have_no_path(tmp_path, sampler, drawn):
    noise = torch.randn(1, 3, 8, 8)
    folder = OutputFolder(tmp_path / "out", figures.interpolation_names(), settings=1)
    with pytest.raises(ValueError, match="opposite directions"):
        figures.interpolation_png(sampler, ("00", noise), ("01", -noise), folder)
    assert drawn == {}
