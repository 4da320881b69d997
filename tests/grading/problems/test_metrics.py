import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import peak_signal_noise_ratio

import grading.problems.metrics
from grading.problems.metrics import mse, near_pairs, nearest, psnr, ssim
from tests.oracles import mse_twin, psnr_twin, ssim_twin

images = arrays(np.uint8, (2, 3, 3))


@given(images, images)
def test_mse_equals_the_sum_over_single_numbers(a, b):
    assert mse(a, b) == pytest.approx(mse_twin(a.tolist(), b.tolist()), rel=1e-14)


def test_mse_does_not_wrap_around_at_uint8():
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert mse(black, white) == mse(white, black) == 255**2


def test_images_of_different_shape_have_no_mse():
    with pytest.raises(ValueError, match="differ in shape"):
        mse(np.zeros((2, 2, 3), np.uint8), np.zeros((1, 1, 3), np.uint8))


@given(images, images.map(lambda a: a // 2))
def test_psnr_equals_scikit_images(a, b):
    if np.array_equal(a, b):
        assert psnr(a, b) is None
    else:
        assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), rel=1e-12)
        assert psnr(a, b) == pytest.approx(psnr_twin(a, b), rel=1e-12)


def test_psnr_of_one_level_in_one_pixel_is_a_number():
    a, b = np.zeros((2, 16, 16, 3), np.uint8)
    b[3, 4, 0] = 1
    assert psnr(a, b) == pytest.approx(10 * np.log10(255**2 * 16 * 16 * 3), rel=1e-12)


@settings(max_examples=20)
@given(arrays(np.uint8, (9, 8, 3)), st.integers(0, 40))
def test_ssim_equals_the_papers_formula_window_by_window(image, noise):
    noisy = np.clip(image + np.random.default_rng(noise).normal(0, noise, image.shape), 0, 255).astype(np.uint8)
    assert ssim(noisy, image) == pytest.approx(ssim_twin(noisy, image), abs=1e-9)


def test_the_smallest_image_with_an_ssim_is_as_large_as_its_window():
    image = np.random.default_rng(0).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    assert ssim(image // 2, image) == pytest.approx(ssim_twin(image // 2, image), abs=1e-9)


@given(st.integers(1, 6))
def test_tiny_images_have_no_ssim(size):
    assert ssim(np.zeros((size, 9, 3), np.uint8), np.zeros((size, 9, 3), np.uint8)) is None


@pytest.mark.parametrize("block", [1, 7, 64, 512])
@pytest.mark.parametrize("spread", [0.5, 3.0, 40.0], ids=["all are near", "some are near", "few are near"])
def test_near_pairs_are_those_that_a_plain_comparison_finds(monkeypatch, block, spread):
    monkeypatch.setattr(grading.problems.metrics, "BLOCK", block)
    rng = np.random.default_rng(0)
    bases = rng.uniform(0, 255, (12, 48))
    rows = (bases[rng.integers(0, 12, 90)] + rng.normal(0, spread, (90, 48))).astype(np.float32)
    rows[40] = rows[3]
    labels = rng.choice(list("0123"), 90)
    labels[3], labels[40] = "0", "1"
    plain = [
        (i, j)
        for i, j in combinations(range(90), 2)
        if labels[i] != labels[j] and np.sqrt(((rows[i].astype(np.float64) - rows[j]) ** 2).mean()) < 4.0
    ]
    assert (3, 40) in plain
    assert near_pairs(rows, labels, 4.0, 3) == (len(plain), plain[:3])


def test_rows_of_one_brightness_are_compared_all_the_same():
    rows = np.array([[0, 100], [100, 0], [50, 50], [51, 49]], np.float32)
    assert near_pairs(rows, np.array(list("0123")), 4.0, 9) == (1, [(2, 3)])


def test_a_pair_at_the_limit_is_not_near():
    rows = np.array([[0, 0], [4, 4], [3, 5]], np.float32)
    assert near_pairs(rows, np.array(list("012")), 4.0, 9) == (1, [(1, 2)])


def test_memory_of_near_pairs_does_not_grow_with_the_square_of_their_number():
    """10,000 images took 1.4 GB. All pairs are near here, so that none is left out."""
    rows, labels = np.zeros((4000, 48), np.float32), np.array(list("01") * 2000)
    tracemalloc.start()
    try:
        assert near_pairs(rows, labels, 4.0, 2) == (2000 * 2000, [(0, 1), (0, 3)])
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20  # one matrix of all pairs has 64 MiB or more
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("skip_same", [False, True])
@pytest.mark.parametrize("block", [1, 5, 512])
def test_the_nearest_reference_is_the_one_that_a_plain_comparison_finds(monkeypatch, block, skip_same):
    monkeypatch.setattr(grading.problems.metrics, "BLOCK", block)
    reference = np.random.default_rng(0).integers(0, 4, (33, 2, 2, 3), dtype=np.uint8)
    images = reference[:12] if skip_same else np.random.default_rng(1).integers(0, 4, (12, 2, 2, 3), dtype=np.uint8)
    reference[20] = reference[13]  # of two equal ones the first is named
    apart = np.sqrt(((images[:, None].astype(np.float64) - reference) ** 2).mean((2, 3, 4)))
    if skip_same:
        apart[np.arange(12), np.arange(12)] = np.inf
    index, rms = nearest(images, reference, skip_same)
    np.testing.assert_array_equal(index, apart.argmin(1))
    np.testing.assert_allclose(rms, apart.min(1), rtol=1e-12)
