"""Outputs that were handed in: their points, what they lack, what is refused, and what could not be checked."""

import json
import os
import shutil
from importlib.resources import files

import jsonschema
import pytest

from grading.homeworks import HOMEWORKS
from grading.reports.gradescope import gradescope_json
from grading.submission.handed_in import grade_handed_in, unchecked
from tests.commands import ROOT
from tests.grading.files.hostile import transparent_png

DATA = ROOT / "fixtures" / "hw2_data"
SCHEMA = json.loads((files("grading.reports") / "schemas" / "gradescope.schema.json").read_text())


@pytest.fixture
def handed_in(tmp_path):
    """A complete submission, whose faces are the ground truth."""
    folder = tmp_path / "submission"
    shutil.copytree(DATA / "face" / "GT", folder / "faces")
    (folder / "zero-shot").mkdir()
    (folder / "zero-shot" / "predictions.csv").write_text("image_name,predicted_id\n0_500.png,0\n1_500.png,0\n")
    return folder


def scored(folder, data=DATA, homework="fall2024"):
    """The result, its lines by name, and the tests of its results.json, which fits the schema."""
    result = grade_handed_in(folder, data, HOMEWORKS[homework])
    return result, {line.name: line for line in result.lines}, written(result)


def written(result):
    found = json.loads(gradescope_json(result))
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    return {test["name"]: test for test in found["tests"]}


def test_a_complete_submission_has_the_public_points_and_its_accuracy(handed_in):
    result, lines, tests = scored(handed_in)
    assert (result.status, result.points, result.max_points) == ("pass", 10, 10)
    assert lines["3 zero-shot"].points == lines["3 zero-shot"].max_points == 0
    assert lines["3 zero-shot"].message.startswith("1 of 2 predictions are right: 50.00%")
    assert tests["Problem 2, public noises"]["score"] == 10


def test_all_may_be_in_one_folder(handed_in):
    (handed_in / "b01").mkdir()
    for name in ("faces", "zero-shot"):
        (handed_in / name).rename(handed_in / "b01" / name)
    assert scored(handed_in)[0].status == "pass"
    (handed_in / "b01" / "faces" / "00.png").unlink()
    (handed_in / "b01" / "faces" / "00.png").symlink_to(DATA / "face" / "GT" / "00.png")
    assert "00.png is a link" in scored(handed_in)[1]["2 public"].message


def test_what_is_not_handed_in_costs_its_points_and_is_said(tmp_path):
    (tmp_path / "submission").mkdir()
    result, lines, tests = scored(tmp_path / "submission")
    assert (result.status, result.points, result.unchecked) == ("fail", 0, 0)
    sentence = "faces was not handed in; expected the folder faces with 00.png, 01.png, .."
    assert lines["2 public"].message.startswith(sentence)
    assert tests["Problem 2, public noises"]["score"] == 0
    assert lines["3 zero-shot"].message.startswith("zero-shot/predictions.csv was not handed in; expected the file")
    assert str(tmp_path) not in json.dumps(tests)
    assert "/tmp" not in json.dumps(tests)


def test_one_face_that_is_missing_or_of_another_size_costs_the_points(handed_in):
    (handed_in / "faces" / "03.png").unlink()
    (handed_in / "faces" / "04.png").write_bytes(transparent_png())
    line = scored(handed_in)[1]["2 public"]
    assert line.points == 0
    assert "03.png is missing." in line.message
    assert "04.png is 4096x4096" in line.message


@pytest.mark.parametrize("name", ["faces", "faces/00.png", "zero-shot", "zero-shot/predictions.csv"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_nothing_but_files_of_the_submission_is_read(handed_in, tmp_path, name, kind):
    elsewhere = (handed_in / name).rename(tmp_path / "elsewhere")
    if kind == "link":
        (handed_in / name).symlink_to(elsewhere)
    else:
        os.mkfifo(handed_in / name)
    _, lines, _ = scored(handed_in)
    line = lines["2 public" if name.startswith("faces") else "3 zero-shot"]
    assert line.status == "fail"
    assert ("is a link; expected the file itself" if kind == "link" else "is a pipe") in line.message
    other = lines["3 zero-shot" if name.startswith("faces") else "2 public"]
    assert other.status == "pass"


def test_a_file_in_place_of_a_folder_and_a_folder_in_place_of_a_file_are_the_submissions_own(handed_in):
    shutil.rmtree(handed_in / "faces")
    (handed_in / "faces").write_text("faces")
    (handed_in / "zero-shot" / "predictions.csv").unlink()
    (handed_in / "zero-shot" / "predictions.csv").mkdir()
    _, lines, _ = scored(handed_in)
    assert lines["2 public"].message.startswith("faces is a file; expected the folder")
    assert lines["3 zero-shot"].message.startswith("zero-shot/predictions.csv is a folder; expected the file")


def test_predictions_that_are_no_csv_are_the_submissions_own(handed_in):
    (handed_in / "zero-shot" / "predictions.csv").write_text("nothing")
    line = scored(handed_in)[1]["3 zero-shot"]
    assert line.status == "fail"
    assert line.message.startswith("zero-shot/predictions.csv has no rows with a column image_name; expected")


def test_a_zip_file_in_the_submission_is_not_unpacked(handed_in):
    shutil.make_archive(handed_in / "faces", "zip", handed_in / "faces")
    shutil.rmtree(handed_in / "faces")
    assert scored(handed_in)[1]["2 public"].message.startswith("faces was not handed in")


def test_too_many_files_are_refused_as_a_whole(handed_in):
    for number in range(20_001):
        (handed_in / f"{number}").touch()
    _, lines, _ = scored(handed_in)
    for line in lines.values():
        assert line.status == "fail"
        assert "There are more than 20000 files and folders" in line.message


def test_predictions_that_would_take_more_memory_than_gradescope_gives_are_not_read(handed_in):
    with (handed_in / "zero-shot" / "predictions.csv").open("a") as file:
        file.write("0,\n" * 350_000)
    line = scored(handed_in)[1]["3 zero-shot"]
    assert line.status == "fail"
    assert "predictions.csv has 1050048 bytes; at most 1048576 are read" in line.message


def test_copies_of_the_ground_truth_are_a_warning_that_students_do_not_see(handed_in):
    result, _, tests = scored(handed_in)
    (warning,) = result.warnings
    assert warning.message.startswith("faces: the submission contains 10 files of the ground truth")
    assert tests[f"For staff: {warning.name}"]["visibility"] == "hidden"


@pytest.fixture
def data(tmp_path):
    """Staff's data, to be damaged."""
    shutil.copytree(DATA / "face" / "GT", tmp_path / "data" / "face" / "GT")
    (tmp_path / "data" / "clip_zeroshot").mkdir()
    shutil.copy(DATA / "clip_zeroshot" / "id2label.json", tmp_path / "data" / "clip_zeroshot")
    return tmp_path / "data"


def test_what_staffs_data_lack_could_not_be_checked_and_is_not_zero(handed_in, data):
    assert scored(handed_in, data)[0].status == "pass"
    shutil.rmtree(data / "face")
    (data / "clip_zeroshot" / "id2label.json").write_text("{")
    result, lines, tests = scored(handed_in, data)
    assert (result.status, result.points, result.unchecked) == ("error", 0, 10)
    assert {line.points for line in lines.values()} == {None}
    assert "the ground truth folder" in lines["2 public"].message
    assert "id2label.json is not valid JSON" in lines["3 zero-shot"].message
    for name, test in tests.items():
        assert "could not be checked" in name
        assert "score" not in test


def test_a_submission_that_cannot_be_read_could_not_be_checked(tmp_path):
    result, lines, _ = scored(tmp_path / "none")
    assert (result.status, result.unchecked) == ("error", 10)
    assert all("none cannot be opened (No such file or directory)" in line.message for line in lines.values())


def test_without_labels_there_are_no_predictions(handed_in, data):
    shutil.rmtree(data / "clip_zeroshot")
    assert list(scored(handed_in, data)[1]) == ["2 public"]
    assert [line.name for line in unchecked(HOMEWORKS["fall2024"], data, "Why.").lines] == ["2 public"]


def test_an_edition_without_points_has_scores(handed_in, data):
    shutil.rmtree(data / "clip_zeroshot")
    result, _, tests = scored(handed_in, data, "fall2025")
    assert result.status == "pass"
    assert "Problem 2, public noises (passed)" in tests
