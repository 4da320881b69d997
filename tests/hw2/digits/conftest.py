"""Fixtures of the digit tests."""

import pytest
import torch

from hw2.digits.data import DigitImages


@pytest.fixture(scope="session")
def data():
    """The images of `digits_folder`, not to be changed: three of each digit; red is the digit, green the data set."""
    digits, datasets = torch.arange(60) % 10, torch.arange(60) // 30
    images = torch.randint(256, (60, 3, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[:, 0], images[:, 1] = digits[:, None, None], datasets[:, None, None]
    return DigitImages(images, digits, datasets)
