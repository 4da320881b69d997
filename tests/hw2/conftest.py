"""Fixtures of the tests of hw2."""

import pytest

from tests.models.tiny_recipes import TINY_RECIPES


@pytest.fixture
def tiny_recipes(monkeypatch):
    """Every preset trains a tiny network, in this process."""
    for module, recipe in TINY_RECIPES:
        monkeypatch.setattr(module, "preset", recipe)
