import pytest

from hw2.concepts.stable_diffusion import load_stable_diffusion
from tests.models.tiny_sd import save_tiny_stable_diffusion


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory):
    """A Stable Diffusion folder of random weights; nobody writes to it."""
    return save_tiny_stable_diffusion(tmp_path_factory.mktemp("tiny_sd"))


@pytest.fixture(scope="session")
def tiny_model(tiny_sd):
    """The model of that folder; nobody changes it: a test that adds words works on a `copy.deepcopy`."""
    return load_stable_diffusion(tiny_sd)
