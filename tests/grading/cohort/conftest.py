import pytest

from grading.cohort.find import Submission, find_submissions


@pytest.fixture
def handed_in(tmp_path):
    """Make a class of these names."""

    def make(*names: str) -> list[Submission]:
        for name in names:
            (tmp_path / "in" / name).mkdir(parents=True)
        return find_submissions(tmp_path / "in", tmp_path / "out", {})[0]

    return make
