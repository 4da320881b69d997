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
    chosen = assignment(staff, judges="embedded", svhn_classifier="embedded", mnistm_classifier="")
    assert not {Path("embedded"), Path()} & set(chosen.sandbox.hidden)
    assert chosen.absolute().judge_choices["mnistm"] == "embedded"


def test_the_courses_classifier_beside_the_data_is_hidden(staff):
    (staff / "public" / "Classifier.pth").touch()
    assert staff / "public" / "Classifier.pth" in assignment(staff, judges="embedded").sandbox.hidden


@pytest.mark.parametrize("scale", [0, -1, float("inf"), float("nan"), 1001])
def test_a_time_scale_is_a_positive_number(staff, scale):
    with pytest.raises(GradingError, match=f"the time scale is {scale}; expected a number above 0") as raised:
        assignment(staff, time_scale=scale)
    assert raised.value.option == "time_scale"


def test_downloads_get_the_internet_alone_unless_staff_say_so_and_that_is_recorded(staff):
    default = assignment(staff)
    assert (default.sandbox.host_network, default.sandbox.reachable) == (False, ())
    allowed = assignment(staff, host_network=True, reachable="10.1.2.3,10.2.0.0/16")
    assert allowed.sandbox.host_network
    assert [str(each) for each in allowed.sandbox.reachable] == ["10.1.2.3/32", "10.2.0.0/16"]
    assert (allowed.record()["host_network"], allowed.record()["reachable"]) == (True, "10.1.2.3,10.2.0.0/16")
    with pytest.raises(GradingError, match="mirror names no addresses"):
        assignment(staff, reachable="mirror")


def test_without_a_choice_every_judge_is_official_and_one_that_is_named_is_not(staff):
    chosen = Assignment(staff / "public", clip="embedded").judge_choices
    assert chosen == {"mnistm": "official", "svhn": "official", "clip": "embedded", "sam": "official"}
    assert Assignment(staff / "public", problems="3").judge_names == ["clip"]
    assert Assignment(staff / "public", problems="2").judge_names == []


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
    assert not {"judges", "clip", "mnistm_classifier"} & record.keys()  # their files' hashes are in the record
    assert record["time_scale"] == 1
    assert record["homework"] == "fall2024"
    assert "data" not in record
    assert assignment(staff, private=None).record()["private"] is False
