import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import peak_signal_noise_ratio

from grading.problems.metrics import mse, psnr, ssim
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


@settings(max_examples=20)
@given(arrays(np.uint8, (9, 8, 3)), st.integers(0, 40))
def test_ssim_equals_the_papers_formula_window_by_window(image, noise):
    noisy = np.clip(image + np.random.default_rng(noise).normal(0, noise, image.shape), 0, 255).astype(np.uint8)
    assert ssim(noisy, image) == pytest.approx(ssim_twin(noisy, image), abs=1e-9)


@given(st.integers(1, 6))
def test_tiny_images_have_no_ssim(size):
    assert ssim(np.zeros((size, 9, 3), np.uint8), np.zeros((size, 9, 3), np.uint8)) is None
