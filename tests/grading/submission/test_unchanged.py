"""What was changed since a grading recorded it is found, said, and made again."""

import json
import os
import shutil
from dataclasses import replace

import pytest

from grading.core.errors import GradingError
from grading.core.results import StageResult
from grading.files.take import SUBMISSION_CAPS, collect_folder
from grading.problems.faces import Faces
from grading.submission import unchanged
from grading.submission.grader import Grader
from grading.submission.unchanged import folder_changes, output_changes
from tests.grading.sandboxed import needs_sandbox
from tests.grading.submission.test_submission import assignment, course, student

__all__ = ["assignment", "course", "student"]  # fixtures


@pytest.fixture
def outputs(tmp_path):
    folder = tmp_path / "outputs" / "problem_1"
    (folder / "svhn").mkdir(parents=True)
    for number in range(5):
        (folder / "svhn" / f"{number}.png").write_bytes(b"%d" % number)
    return folder


CHANGES = {
    "one byte": (lambda f: (f / "svhn" / "1.png").write_bytes(b"x"), "1 file changed: svhn/1.png"),
    "removed": (lambda f: (f / "svhn" / "1.png").unlink(), "1 file removed: svhn/1.png"),
    "emptied": (lambda f: shutil.rmtree(f / "svhn"), "5 files removed: svhn/0.png, svhn/1.png, svhn/2.png and 2 more"),
    "added": (lambda f: (f / "x").touch(), "1 file added: x"),
    "renamed": (
        lambda f: (f / "svhn" / "1.png").rename(f / "1.png"),
        "1 file removed: svhn/1.png; 1 file added: 1.png",
    ),
    "link added": (lambda f: (f / "x").symlink_to("/etc/passwd"), "x is a link; expected the file itself"),
    "pipe added": (lambda f: os.mkfifo(f / "x"), "x is a pipe, socket or device; expected a file"),
    "swapped": (
        lambda f: [(f / "svhn" / "1.png").rename(f / "t"), (f / "svhn" / "2.png").rename(f / "svhn" / "1.png"),
                   (f / "t").rename(f / "svhn" / "2.png")],
        "2 files changed: svhn/1.png, svhn/2.png",
    ),
    "huge": (lambda f: os.truncate(f / "svhn" / "1.png", 2**40), "1 file removed: svhn/1.png; svhn/1.png has 1099511"),
    "gone": (shutil.rmtree, "their folder is missing or cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_each_kind_of_change_is_found_and_named(outputs, name):
    recorded = collect_folder(outputs, None).files
    stages = {"hw2_1.sh": StageResult("hw2_1.sh", "pass", "", files=recorded)}
    folders = {"hw2_1.sh": "problem_1", "hw2_2.sh": "problem_2"}
    assert output_changes(outputs.parent, stages, folders) == {}
    change, said = CHANGES[name]
    change(outputs)
    found = output_changes(outputs.parent, stages, folders)
    assert found.keys() == {"hw2_1.sh"}
    assert found["hw2_1.sh"].startswith(said)
    assert output_changes(outputs.parent, {"hw2_1.sh": replace(stages["hw2_1.sh"], status="error")}, folders) == {}


def test_a_link_in_place_of_the_folder_is_a_change_even_to_the_same_files(outputs):
    recorded = collect_folder(outputs, None).files
    outputs.rename(outputs.parent / "moved")
    outputs.symlink_to("moved")
    assert folder_changes(outputs, recorded) == "their folder is a link now"


@pytest.fixture
def counted(tmp_path, student, assignment):
    """An assignment of Problem 2 alone, its output folder, and how often the script ran."""
    script = (student / "hw2_2.sh").read_text()
    (student / "hw2_2.sh").write_text(f"echo ran >> {tmp_path}/ran; {script}")
    runs = lambda: len((tmp_path / "ran").read_text().splitlines())  # noqa: E731
    return replace(assignment, problems="2"), tmp_path / "out", runs


def warnings(result):
    return [check.message for check in result.warnings if " again, because " in check.message]


def test_a_finished_grading_whose_outputs_were_changed_is_graded_again_to_the_same_points(student, counted):
    asked, out, runs = counted
    grader = Grader(asked)
    first = grader.grade(student, out)
    (out / "outputs" / "problem_2_public" / "00.png").unlink()
    again = grader.grade(student, out)
    assert (again.points, again.lines, runs()) == (10, first.lines, 2)
    said = (
        "hw2_2.sh public ran again, because its outputs had been changed since they were made (1 file removed: 00.png)."
    )
    assert said in warnings(again)
    assert said in (out / "report.html").read_text()
    assert said not in (out / "student.html").read_text()
    assert (grader.grade(student, out).points, runs()) == (10, 2)


def test_without_the_check_changed_outputs_would_cost_points(student, counted, monkeypatch):
    asked, out, runs = counted
    grader = Grader(asked)
    with monkeypatch.context() as broken:
        broken.setattr(Faces, "score", lambda *_: 1 / 0)
        grader.grade(student, out)
    (out / "outputs" / "problem_2_public" / "00.png").unlink()
    with monkeypatch.context() as unprotected:
        unprotected.setattr(unchanged, "folder_changes", lambda *_: "")
        assert (grader.grade(student, out).points, runs()) == (0, 1)


def test_only_the_run_whose_outputs_were_changed_is_repeated_when_a_grading_resumes(
    tmp_path, student, counted, monkeypatch
):
    asked, out, runs = counted
    (student / "hw2_1.sh").write_text(f"echo one >> {tmp_path}/one")
    grader = Grader(replace(asked, problems="1,2", twice=True))
    with monkeypatch.context() as broken:
        broken.setattr(Faces, "score", lambda *_: 1 / 0)
        grader.grade(student, out)
    assert runs() == 2
    (out / "outputs" / "problem_2_public" / "00.png").write_bytes(b"changed")
    again = grader.grade(student, out)
    assert (runs(), (tmp_path / "one").read_text()) == (4, "one\none\n")
    assert next(line.points for line in again.lines if line.problem == 2) == 10


def test_a_damaged_or_edited_grade_is_told_and_graded_again(student, counted):
    asked, out, runs = counted
    grader = Grader(asked)
    grader.grade(student, out)
    path = out / "grade.json"
    content = json.loads(path.read_text())
    content["results"][0]["outcomes"][0]["passed"] = False
    path.write_text(json.dumps(content))
    again = grader.grade(student, out)
    assert (again.points, runs()) == (10, 2)
    assert (
        "The submission was graded again, because its grade.json is not as it was written: its digest does not match."
    ) in warnings(again)
    path.unlink()
    path.mkdir()
    with pytest.raises(GradingError, match=r"grade.json cannot be used \(Is a directory\)"):
        grader.grade(student, out)


def test_a_journal_that_ends_or_is_damaged_gives_the_same_result(student, counted, monkeypatch):
    asked, out, _ = counted
    grader = Grader(asked)
    with monkeypatch.context() as broken:
        broken.setattr(Faces, "score", lambda *_: 1 / 0)
        grader.grade(student, out)
    kept = shutil.copytree(out, out.with_name("kept"))
    lines = (kept / "journal.jsonl").read_bytes().splitlines(keepends=True)
    damaged, torn = b"\xff\x00\n", b'{"stage": "cop'
    for place, damage in ((0, damaged), (2, torn), (len(lines) - 1, torn), (len(lines), damaged)):
        shutil.rmtree(out)
        shutil.copytree(kept, out)
        (out / "journal.jsonl").write_bytes(b"".join(lines[:place]) + damage + b"".join(lines[place + 1 :]))
        result = grader.grade(student, out)
        assert (result.points, result.status) == (10, "pass")
        assert [stage.stage for stage in result.stages] == ["copy", "fetch", "freeze", "hw2_2.sh public"]
        told = any(check.message.startswith("The journal was damaged") for check in result.warnings)
        assert told is not (damage is torn and place >= len(lines) - 1), (place, damage)


def test_names_that_are_too_long_to_compare_are_told_to_staff(student, counted, monkeypatch):
    asked, out, _ = counted
    (student / "hw2_download_ckpt.sh").write_text("for i in $(seq 50); do : > $i$(printf 'x%.0s' $(seq 200)); done\n")
    monkeypatch.setattr("grading.submission.stages.SUBMISSION_CAPS", replace(SUBMISSION_CAPS, name_bytes=5000))
    result = Grader(asked).grade(student, out)
    assert result.points == 10
    said = [check.message for check in result.warnings if check.name == "freeze"]
    assert said[0].startswith("The outputs were not compared with the submission's files: The names of the files and")


AGAIN = "All stages ran again, because the copy had been changed"


@needs_sandbox
def test_a_copy_that_was_changed_after_it_was_frozen_is_made_again(tmp_path, student, assignment, monkeypatch):
    (student / "hw2_download_ckpt.sh").write_text("echo weights > ~/model.bin\n")
    grader = Grader(replace(assignment, problems="2", trust=False, host_network=True))
    with monkeypatch.context() as broken:
        broken.setattr(Faces, "score", lambda *_: 1 / 0)
        grader.grade(student, tmp_path / "out")
        kept = (tmp_path / "out" / "journal.jsonl").read_bytes()
        assert warnings(grader.grade(student, tmp_path / "out")) == []
        assert (tmp_path / "out" / "journal.jsonl").read_bytes() == kept
        (tmp_path / "out" / "work" / "home" / "model.bin").write_text("changed\n")
        assert any(said.startswith(AGAIN) for said in warnings(grader.grade(student, tmp_path / "out")))
    (tmp_path / "out" / "work" / "submission" / "faces" / "00.png").write_text("changed\n")
    again = grader.grade(student, tmp_path / "out")
    assert again.points == 10
    assert any(said.startswith(AGAIN) for said in warnings(again))
