import pytest

from tests.models.tiny_sd import save_tiny_stable_diffusion


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory):
    """A Stable Diffusion folder of random weights; nobody writes to it."""
    return save_tiny_stable_diffusion(tmp_path_factory.mktemp("tiny_sd"))
