"""What staff are warned of, and what they are not."""

import tracemalloc

import numpy as np
import pytest

from grading.core.arrays import pixel_digest
from grading.problems.suspicions import (
    _thumbnail,
    copied_files,
    copied_pixels,
    near_duplicates_across_digits,
    repeated_images,
    too_fast,
)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return {
        f"{digit}_{i:03d}.png": rng.integers(0, 256, (28, 28, 3), dtype=np.uint8)
        for digit in range(3)
        for i in range(4)
    }


def test_images_that_differ_warn_of_nothing(images):
    assert repeated_images("hw2_1.sh", images) == []
    assert near_duplicates_across_digits("svhn", images) == []
    assert copied_pixels("svhn", images, {"logo.png": pixel_digest(np.zeros((28, 28, 3), np.uint8))}) == []


def test_the_same_image_many_times_is_said(images):
    for name in ("0_001.png", "0_002.png"):
        images[name] = images["0_000.png"].copy()
    (check,) = repeated_images("svhn", images)
    assert check.message == "svhn: 3 of 12 images are copies of one picture (0_000.png, 0_001.png, 0_002.png)."
    images["0_002.png"] = images["0_002.png"] ^ 1
    assert repeated_images("svhn", images) == []  # two are not many


def test_pictures_of_other_shapes_are_not_the_same():
    flat = {name: np.zeros(shape, np.uint8) for name, shape in {"a": (2, 8, 3), "b": (4, 4, 3), "c": (8, 2, 3)}.items()}
    assert repeated_images("hw2_1.sh", flat) == []


@pytest.mark.parametrize(("noise", "warned"), [(2, True), (60, False)])
def test_one_image_for_two_digits_is_said_even_with_a_little_noise(images, noise, warned):
    rng = np.random.default_rng(1)
    noisy = images["0_001.png"] + rng.normal(0, noise, (28, 28, 3))
    images["2_003.png"] = noisy.clip(0, 255).astype(np.uint8)
    found = near_duplicates_across_digits("svhn", images)
    assert bool(found) == warned
    if warned:
        assert found[0].message.endswith(
            "1 pair of images of different digits is nearly identical (0_001.png and 2_003.png)."
        )


def test_one_image_twice_for_one_digit_is_no_mixture(images):
    images["0_001.png"] = images["0_000.png"]
    assert near_duplicates_across_digits("svhn", images) == []


def test_images_of_all_sizes_are_compared():
    grey = {"0.png": np.full((3, 5, 3), 90, np.uint8), "1.png": np.full((200, 17, 3), 91, np.uint8)}
    assert len(near_duplicates_across_digits("svhn", grey)) == 1


def test_files_that_came_with_the_submission_are_said():
    outputs, submitted = {"0.png": "aa", "1.png": "bb"}, {"hidden/x.bin": "bb", "code.py": "cc", "gt/00.png": "dd"}
    copied, truth = copied_files("hw2_2.sh", outputs, submitted, {"GT/00.png": "dd", "GT/01.png": "ee"})
    assert copied.message == "hw2_2.sh: the submission contains exact copies of 1 of 2 outputs (1.png is hidden/x.bin)."
    assert truth.message == "hw2_2.sh: the submission contains 1 file of the ground truth (gt/00.png is GT/00.png)."
    assert copied_files("hw2_2.sh", outputs, {"code.py": "cc"}, {"GT/00.png": "dd"}) == []


def test_pictures_that_came_with_the_submission_are_said_whatever_their_files(images):
    (check,) = copied_pixels("svhn", images, {"real/7.bmp": pixel_digest(images["1_002.png"].copy())})
    assert (
        check.message
        == "svhn: the submission contains pictures with the pixels of 1 of 12 outputs (1_002.png shows real/7.bmp)."
    )


@pytest.mark.parametrize(("seconds", "count", "warned"), [(0.2, 1000, True), (0.2, 10, False), (30.0, 1000, False)])
def test_a_thousand_images_in_no_time_are_said(seconds, count, warned):
    assert bool(too_fast("hw2_1.sh", seconds, count)) == warned


@pytest.mark.parametrize("shape", [(28, 28), (1, 5), (40, 17), (300, 211)])
def test_thumbnails_are_the_means_of_equal_parts(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    rows, columns = (np.linspace(0, side, 17)[:-1].astype(int) for side in shape)
    found = _thumbnail(pixels)
    assert (found.shape, found.dtype) == ((16, 16, 3), np.float32)
    for i, j in ((0, 0), (3, 12), (15, 15)):
        ends = [[*starts[1:], side] for starts, side in ((rows, shape[0]), (columns, shape[1]))]
        part = pixels[rows[i] : max(ends[0][i], rows[i] + 1), columns[j] : max(ends[1][j], columns[j] + 1)]
        np.testing.assert_allclose(found[i, j], part.mean((0, 1)), rtol=1e-6)


def test_thumbnails_of_large_images_take_little_memory():
    """Of the largest image they took 1.2 GB."""
    pixels = np.zeros((2048, 2048, 3), np.uint8)
    tracemalloc.start()
    try:
        _thumbnail(pixels)
        assert tracemalloc.get_traced_memory()[1] < 2 * pixels.nbytes
    finally:
        tracemalloc.stop()
