"""grade.json: what was written is read, and nothing else."""

import hashlib
import json
import os

import pytest

from grading.core.errors import GradingError
from grading.core.results import Check, Part, ProblemResult, ScoreLine, StageResult, SubmissionResult
from grading.submission.written import DamagedError, read_grade, write_grade

RESULT = SubmissionResult(
    "b01", "fail", 0.1 + 0.2, 35, 0, "fall2024",
    lines=[ScoreLine(1, Part.WHOLE, "simple", "score", "Digits", 7.5, 7.5, "pass", "Good.")],
    stages=[StageResult("copy", "pass", "", files={"note\udcff.txt": "0" * 64}, seconds=1e-9)],
    results=[ProblemResult(1, Part.WHOLE, "digits", "Problem 1", "pass", details={"x": float("inf"), "y": -0.0})],
    warnings=[Check("fix", "warning", "é")], record={"fingerprint": "f"},
)  # fmt: skip


def test_a_result_is_read_as_it_was_written(tmp_path):
    assert read_grade(tmp_path) is None
    write_grade(tmp_path, RESULT)
    assert read_grade(tmp_path) == RESULT
    assert os.listdir(tmp_path) == ["grade.json"]


def test_the_digest_is_that_of_the_json_as_staff_compute_it(tmp_path):
    write_grade(tmp_path, RESULT)
    content = json.loads((tmp_path / "grade.json").read_bytes())
    digest = content.pop("digest")
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert digest == hashlib.sha256(plain.encode()).hexdigest()


def test_one_changed_byte_anywhere_is_found_unless_it_means_the_same(tmp_path):
    write_grade(tmp_path, RESULT)
    path = tmp_path / "grade.json"
    whole = path.read_bytes()
    same = []
    for place, byte in enumerate(whole):
        path.write_bytes(whole[:place] + bytes([byte ^ 1]) + whole[place + 1 :])
        try:
            assert read_grade(tmp_path) == RESULT
            same.append(place)
        except DamagedError:
            continue
    assert {whole[place : place + 1] for place in same} <= {b"4"}  # the last digit of 0.30000000000000004


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not valid JSON"),
        (b"\xff\x00garbage", "is not valid JSON"),
        (b"[" * 10**6, "is not valid JSON"),
        (b"[1]", "is not a JSON object"),
    ],
)
def test_garbage_is_damage(tmp_path, content, said):
    (tmp_path / "grade.json").write_bytes(content)
    with pytest.raises(DamagedError, match=said):
        read_grade(tmp_path)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "huge"])
def test_what_is_no_file_of_ours_is_damage(tmp_path, kind):
    path = tmp_path / "grade.json"
    if kind == "link":
        write_grade(tmp_path, RESULT)
        path.rename(tmp_path / "other")
        path.symlink_to("other")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(2**40)
    with pytest.raises(DamagedError, match=r"cannot be read \(it is"):
        read_grade(tmp_path)


@pytest.mark.parametrize("content", ["{}", '{"submission": "b01", "status": "pass", "lines": []}'])
def test_a_result_without_a_digest_is_of_another_version(tmp_path, content):
    (tmp_path / "grade.json").write_text(content)
    with pytest.raises(GradingError, match="was not written by this version of the grader"):
        read_grade(tmp_path)
