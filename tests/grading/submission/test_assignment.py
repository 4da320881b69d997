"""What follows from an assignment: hidden paths, absolute paths, the record."""

from pathlib import Path

import pytest

from grading.core.errors import GradingError
from grading.submission.assignment import Assignment


@pytest.fixture
def staff(tmp_path):
    """Staff's folders, with everything that a submission must not read."""
    for name in ("public/face/GT", "public/face/noise", "private/face/GT", "clip"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "Classifier.pth").touch()
    return tmp_path


def assignment(staff: Path, **changes: object) -> Assignment:
    judges = {"mnistm_classifier": str(staff / "Classifier.pth"), "clip": str(staff / "clip")}
    return Assignment(**{"data": staff / "public", "private": staff / "private", **judges, **changes})


def test_ground_truth_private_data_and_judges_are_hidden_from_every_run(staff):
    secrets = {staff / name for name in ("public/face/GT", "private", "private/face/GT", "Classifier.pth", "clip")}
    assert set(assignment(staff).sandbox.hidden) == secrets
    alone = assignment(staff, private=None, mnistm_classifier="embedded", clip="openai/clip-vit-base-patch32")
    assert set(alone.sandbox.hidden) == {staff / "public" / "face" / "GT"}


def test_a_judges_name_hides_no_folder_that_happens_to_be_called_so(staff, monkeypatch):
    monkeypatch.chdir(staff)
    (staff / "embedded").mkdir()
    assert Path("embedded") not in assignment(staff, svhn_classifier="embedded").sandbox.hidden


@pytest.mark.parametrize(("asked", "numbers"), [("", [1, 2, 3]), ("3,1", [1, 3]), ("2", [2]), (" 1, 2 ", [1, 2])])
def test_problems_are_chosen_by_their_numbers(staff, asked, numbers):
    assert [problem.number for problem in assignment(staff, problems=asked).edition.problems] == numbers


@pytest.mark.parametrize("asked", ["4", "1,", "one", "1;2", "-1", "1,4"])
def test_other_problems_are_refused(staff, asked):
    with pytest.raises(GradingError, match="expected some of 1,2,3") as raised:
        _ = assignment(staff, problems=asked).edition
    assert raised.value.option == "problems"


def test_the_record_has_every_option_but_places(staff):
    record = assignment(staff, twice=True, limits={"files": 5}).record()
    assert record["twice"] is True
    assert record["private"] is True
    assert record["limits"] == {"files": 5}
    assert record["clip"] == str(staff / "clip")
    assert record["homework"] == "fall2024"
    assert "data" not in record
    assert assignment(staff, private=None).record()["private"] is False
