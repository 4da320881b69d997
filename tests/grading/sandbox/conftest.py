import pytest


@pytest.fixture
def folder(tmp_path):
    """A submission, and a secret beside it."""
    (tmp_path / "secret").write_text("CANARY")
    folder = tmp_path / "submission"
    folder.mkdir()
    return folder
