import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial import geometric_slerp

from hw2.diffusion.interpolate import angle_between, lerp, slerp
from tests.oracles import lerp_twin, slerp_twin
from tests.strategies import alphas, points


def rotated(angle, dtype=torch.float64):
    """The unit vector at an angle from (1, 0)."""
    return torch.tensor([math.cos(angle), math.sin(angle)], dtype=dtype)


# --- oracle ---


@given(points(), alphas)
def test_slerp_of_unit_vectors_equals_scipys(pair, alpha):
    start, end = (x.flatten() / x.norm() for x in pair)
    expected = geometric_slerp(start.numpy(), end.numpy(), alpha)
    np.testing.assert_allclose(slerp(start, end, alpha).numpy(), expected, atol=1e-9)
    rotated = slerp_twin(start.numpy(), end.numpy(), alpha)
    np.testing.assert_allclose(slerp(start, end, alpha).numpy(), rotated, atol=1e-7)


@given(points(), alphas)
def test_lerp_equals_torchs(pair, alpha):
    torch.testing.assert_close(lerp(*pair, alpha), torch.lerp(*pair, alpha), rtol=1e-12, atol=1e-12)
    expected = lerp_twin(pair[0].numpy(), pair[1].numpy(), alpha)
    np.testing.assert_allclose(lerp(*pair, alpha).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_halfway_between_two_perpendicular_vectors():
    start, end = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    torch.testing.assert_close(slerp(start, end, 0.5), torch.full((2,), math.sqrt(2)))
    assert lerp(start, end, 0.5).tolist() == [1.0, 1.0]


# --- laws ---


@given(points(), st.sampled_from([torch.float32, torch.float64, torch.bfloat16]), st.sampled_from([slerp, lerp]))
def test_endpoints_are_exact(pair, dtype, path):
    start, end = (x.to(dtype) for x in pair)
    assert torch.equal(path(start, end, 0.0), start)
    assert torch.equal(path(start, end, 1.0), end)


@given(points(), alphas, st.sampled_from([slerp, lerp]))
def test_the_way_back_is_the_way_there(pair, alpha, path):
    torch.testing.assert_close(path(*pair, alpha), path(pair[1], pair[0], 1 - alpha), rtol=1e-9, atol=1e-9)


@given(points(), alphas)
def test_slerp_between_equal_norms_keeps_the_norm(pair, alpha):
    start, end = (x / x.norm() * 7 for x in pair)
    assert float(slerp(start, end, alpha).norm()) == pytest.approx(7, rel=1e-9)


@given(points())
def test_slerp_turns_at_constant_speed(pair):
    start, end = (x / x.norm() for x in pair)
    path = slerp(start, end, [i / 8 for i in range(9)])
    turns = [angle_between(a, b) for a, b in itertools.pairwise(path)]
    np.testing.assert_allclose(turns, angle_between(start, end) / 8, atol=1e-9)


@given(points(), alphas, st.floats(min_value=0.1, max_value=10))
def test_slerp_of_parallel_vectors_is_lerp(pair, alpha, factor):
    start, end = pair[0], pair[0] * factor
    torch.testing.assert_close(slerp(start, end, alpha), lerp(start, end, alpha), rtol=1e-9, atol=1e-9)


@given(st.floats(min_value=1e-9, max_value=1e-3), alphas)
def test_slerp_is_smooth_where_it_hands_over_to_lerp(angle, alpha):
    # On both sides of the 1e-6 rad limit the result is the rotation by alpha * angle, to the square of the angle.
    torch.testing.assert_close(slerp(rotated(0), rotated(angle), alpha), rotated(alpha * angle), rtol=0, atol=angle**2)


@given(points(), st.lists(alphas, min_size=1, max_size=5), st.sampled_from([slerp, lerp]))
def test_many_alphas_give_what_each_gives_alone(pair, many, path):
    together = path(*pair, many)
    assert together.shape == (len(many), *pair[0].shape)
    assert torch.equal(path(*pair, torch.tensor(many, dtype=torch.float64)), together)
    for one, alpha in zip(together, many, strict=True):
        assert torch.equal(one, path(*pair, alpha))


def test_lerp_between_independent_noises_loses_29_percent_of_the_norm_and_slerp_none():
    g = torch.Generator().manual_seed(0)
    start, end = torch.randn(2, 1, 3, 64, 64, generator=g)
    norm = start.norm()
    assert float(lerp(start, end, 0.5).norm() / norm) == pytest.approx(math.sqrt(0.5), abs=0.02)
    assert float(slerp(start, end, 0.5).norm() / norm) == pytest.approx(1, abs=0.02)


# --- edges, each as documented ---


@pytest.mark.parametrize("path", [slerp, lerp])
def test_alpha_outside_zero_to_one_goes_on_along_the_path(path):
    beyond = path(rotated(0), rotated(0.5), 2.0)
    expected = rotated(1.0) if path is slerp else 2 * rotated(0.5) - rotated(0)
    torch.testing.assert_close(beyond, expected)


@pytest.mark.parametrize("zero_first", [True, False])
def test_slerp_with_a_zero_vector_is_lerp(zero_first):
    pair = [torch.zeros(4), torch.tensor([1.0, 2.0, 3.0, 4.0])]
    pair = pair if zero_first else pair[::-1]
    assert torch.equal(slerp(*pair, 0.25), lerp(*pair, 0.25))


@pytest.mark.parametrize("gap", [0.0, 1e-8])
def test_opposite_vectors_have_no_shortest_arc(gap):
    sentence = "start and end point in opposite directions: every arc between them is equally short"
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        slerp(rotated(0), rotated(math.pi - gap), 0.5)


def test_almost_opposite_vectors_do():
    middle = slerp(rotated(0), rotated(math.pi - 1e-4), 0.5)
    torch.testing.assert_close(middle, rotated(math.pi / 2 - 5e-5), rtol=0, atol=1e-9)


@pytest.mark.parametrize("path", [slerp, lerp])
@pytest.mark.parametrize(
    ("start", "end", "alpha", "sentence"),
    [
        (torch.ones(2), torch.ones(3), 0.5, r"same shape, got \(2,\) and \(3,\)"),
        (torch.ones(2), torch.ones(2).double(), 0.5, "same dtype, got torch.float32 and torch.float64"),
        (torch.ones(2), torch.ones(2, device="meta"), 0.5, "same device, got cpu and meta"),
        (torch.ones(2).int(), torch.ones(2).int(), 0.5, "floating"),
        (torch.ones(0), torch.ones(0), 0.5, "not empty"),
        (torch.tensor([1.0, math.nan]), torch.ones(2), 0.5, "start must be finite"),
        (torch.ones(2), torch.tensor([1.0, math.inf]), 0.5, "end must be finite"),
        (torch.ones(2), torch.ones(2), math.nan, "alpha must be finite"),
        (torch.ones(2), torch.ones(2), torch.zeros(2, 2), "one row"),
    ],
)
def test_points_that_no_path_can_join_are_refused(path, start, end, alpha, sentence):
    with pytest.raises(ValueError, match=sentence):
        path(start, end, alpha)


@given(st.floats(min_value=0, max_value=math.pi))
def test_angle_between_is_exact_near_zero_and_pi_too(angle):
    assert angle_between(rotated(0), rotated(angle)) == pytest.approx(angle, abs=1e-15, rel=1e-12)


@given(points(), st.sampled_from([1e-300, 1e-200, 1e200, 1e300]))
def test_angle_between_does_not_depend_on_length(pair, factor):
    assume(pair[0].abs().max() < 10)
    assert angle_between(pair[0] * factor, pair[1]) == pytest.approx(angle_between(*pair), rel=1e-6)
    assert angle_between(pair[1], pair[0] * factor) == pytest.approx(angle_between(*pair), rel=1e-6)


def test_a_point_without_a_direction_has_no_angle():
    assert angle_between(torch.zeros(3), torch.ones(3)) == angle_between(torch.ones(3), torch.zeros(3)) == 0


def test_float32_noises_are_interpolated_to_float32_rounding():
    g = torch.Generator().manual_seed(3)
    start, end = torch.randn(2, 1, 3, 32, 32, generator=g)
    exact = slerp(start.double(), end.double(), 0.3)
    assert slerp(start, end, 0.3).dtype == torch.float32
    torch.testing.assert_close(slerp(start, end, 0.3).double(), exact, rtol=1e-7, atol=1e-7)
