import pytest

from grading.homeworks.fall2024 import DIGITS
from tests.grading.plain_digits import save


@pytest.fixture
def complete(tmp_path):
    """A complete submission: MNIST-M all right, in SVHN every image of 7 shows a 1."""
    for name in DIGITS.rules.names("mnistm"):
        save(tmp_path / "out" / "mnistm" / name, int(name[0]))
        save(tmp_path / "out" / "svhn" / name, 1 if name[0] == "7" else int(name[0]))
    return tmp_path / "out"
