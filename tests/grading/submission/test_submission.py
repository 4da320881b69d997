"""Whole submissions, from their scripts to their points: small ones, written here."""

import csv
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import grading.environment.python
import grading.submission.evidence
import grading.submission.grader
from grading.cli.surroundings import planned
from grading.core.errors import GradingError
from grading.core.results import Part
from grading.environment.python import PythonFacts, check_python
from grading.files.decode import Request, read_images
from grading.files.storage import check_apart
from grading.homeworks.fall2024 import FALL2024
from grading.points.staff import StaffEntry, read_staff_file
from grading.problems.faces import Faces
from grading.submission.assignment import Assignment
from grading.submission.fingerprint import fingerprint
from grading.submission.grader import Grader
from tests.commands import ROOT, wait_until
from tests.grading.sandboxed import ATTACKS, SMALL, needs_sandbox
from tests.models.tiny_clip import save_tiny_clip

DIGITS = 'for d in mnistm svhn; do mkdir -p "$1/$d"; cp digits/$d/* "$1/$d"; done\n'
FACES = 'mkdir -p "$2"; for n in "$1"/*.pt; do cp "faces/$(basename "$n" .pt).png" "$2"; done\n'
CONCEPTS = 'for c in 0/0 0/1; do mkdir -p "$2/$c"; for i in $(seq 0 24); do cp picture.png "$2/$c/$i.png"; done; done\n'


def picture(path: Path, seed: int, size: int = 28) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def course(tmp_path_factory):
    """Staff's side: public and private data, a CLIP; of noise, since nobody here draws anything."""
    root = tmp_path_factory.mktemp("course")
    for part, first in (("public", 0), ("private", 100)):
        data = root / part
        for i in range(2):
            picture(data / "face" / "GT" / f"{i:02d}.png", first + i, 8)
            (data / "face" / "noise").mkdir(exist_ok=True)
            (data / "face" / "noise" / f"{i:02d}.pt").write_bytes(b"noise")
        (data / "face" / "UNet.pt").write_bytes(b"weights")
        (data / "model.ckpt").write_bytes(b"weights")
        for i in range(2):
            picture(data / "textual_inversion" / "0" / f"{i}.png", 500 + i, 32)
        entry = {"src_image": "dog", "prompt_4_clip_eval": ["a dog", "a cat"], "baseline": [[-100, -100], [100, 100]]}
        (data / "textual_inversion" / "input.json").write_text(json.dumps({"0": entry}))
    save_tiny_clip(root / "clip")
    return root


@pytest.fixture
def assignment(course):
    return Assignment(course / "public", judges="embedded", clip=str(course / "clip"), trust=True)


@pytest.fixture
def student(tmp_path, course, monkeypatch):
    """A submission that copies: its faces are right, its digits noise, one of its prompts good enough.

    The Python of the scripts is asked once for all tests that grade it.
    """
    monkeypatch.setattr("grading.submission.grader.check_python", asked_once)
    return copying(tmp_path / "b01", course)


PYTHONS = {}


def asked_once(sandbox):
    """What `check_python` found when it first looked at such a sandbox."""
    if repr(sandbox) not in PYTHONS:
        PYTHONS[repr(sandbox)] = check_python(sandbox)
    return PYTHONS[repr(sandbox)]


def copying(folder, course):
    """Make the submission `student`."""
    for dataset in ("mnistm", "svhn"):
        picture(folder / "digits" / dataset / "0_001.png", 7)
    shutil.copytree(course / "public" / "face" / "GT", folder / "faces")
    picture(folder / "picture.png", 9, 32)
    for number, script in enumerate((DIGITS, FACES, CONCEPTS), 1):
        (folder / f"hw2_{number}.sh").write_text(script)
    return folder


def points(result):
    return {line.name: line.points for line in result.lines}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, course):
    """One grading of all problems, with private data, that tests only read: its grader, source, folder and result."""
    root = tmp_path_factory.mktemp("whole")
    source, folder, told = copying(root / "b01", course), root / "out", []
    asked = Assignment(
        course / "public", private=course / "private", judges="embedded", clip=str(course / "clip"), trust=True
    )
    grader = Grader(asked)
    result = grader.grade(source, folder, on_stage=told.append)
    return SimpleNamespace(grader=grader, source=source, folder=folder, told=told, result=result)


def test_every_script_is_run_and_scored(whole):
    result, folder = whole.result, whole.folder
    # it knows the public faces only
    assert points(result) == {
        "1 simple": 0, "1 strong": 0, "2 public": 10, "2 private": 0, "3 public 0/0": 5, "3 public 0/1": 0,
        "3 private 0/0": 5, "3 private 0/1": 0,
    }  # fmt: skip
    assert (result.points, result.max_points, result.unchecked, result.status) == (20, 55, 0, "fail")
    assert [stage.stage for stage in result.stages] == [
        "copy", "fetch", "freeze", "hw2_1.sh", "hw2_2.sh public", "hw2_2.sh private", "hw2_3.sh public",
        "hw2_3.sh private",
    ]  # fmt: skip
    assert whole.told == planned(whole.grader)
    assert result.of(1).details["total"] == {"mnistm": 1, "svhn": 1}
    assert result.of(2, Part.PUBLIC).figure("mse").value == 0
    assert len(list((folder / "outputs" / "problem_3_public" / "0" / "1").iterdir())) == 25
    assert not (folder / "work").exists()
    message = next(line.message for line in result.lines if line.name == "1 simple")
    assert "499 of 500 images are missing" in message


def test_reports_are_for_staff_or_for_students_who_learn_nothing_of_private_data(whole):
    assert {line.name for line in whole.result.lines if line.private} == {"2 private", "3 private 0/0", "3 private 0/1"}
    staff, own = ((whole.folder / name).read_text() for name in ("report.html", "student.html"))
    assert "hw2_2.sh private" in staff
    assert "hw2_2.sh private" not in own
    assert staff.count("data:image") > own.count("data:image") > 0
    tests = json.loads((whole.folder / "results.json").read_text())["tests"]
    assert "visible" not in {test["visibility"] for test in tests if "private" in test["name"].lower()}
    graded = json.loads((whole.folder / "grade.json").read_text())
    cases = (whole.folder / "junit.xml").read_text().count("<testcase")
    assert cases == len(graded["lines"]) + len(graded["warnings"])


def test_staff_are_warned_of_copies(whole):
    said = "\n".join(check.message for check in whole.result.warnings)
    assert "hw2_2.sh public: the submission contains exact copies of 2 of 2 outputs (00.png is faces/00.png" in said
    assert "the submission contains 2 files of the ground truth" in said
    assert "hw2_3.sh public: 50 of 50 images are copies of one picture" in said


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("b01/graded", "the output .*graded is inside the submission; choose another folder"),
        ("b01", "the output .*b01 is inside the submission"),
        ("link/graded", "is inside the submission"),
        ("b01/../b01/x", "is inside the submission"),
        (".", "the submission .*b01 is inside the output; choose another folder"),
    ],
)
def test_an_output_in_the_submission_or_around_it_is_refused(tmp_path, assignment, student, output, said):
    (tmp_path / "link").symlink_to(student)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(GradingError, match=said) as error:
        Grader(assignment).grade(student, tmp_path / output)
    assert error.value.option == "output"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_neighbour_with_a_longer_name_is_no_folder_inside(tmp_path):
    check_apart(tmp_path / "b01", tmp_path / "b01_graded", "submission")


def test_the_same_folder_graded_twice_gives_the_same_json(tmp_path, whole):
    found = []
    Grader(whole.grader.assignment).grade(whole.source, tmp_path)
    for folder in (whole.folder, tmp_path):
        content = json.loads((folder / "grade.json").read_text())
        del content["record"]["times"], content["digest"]
        for stage in content["stages"]:
            assert stage.pop("seconds") >= 0
            assert (stage.pop("cpu_seconds") or 0.0) >= 0
            assert stage.pop("cpu_lost") >= 0
        found.append(json.dumps(content))
    assert found[0] == found[1]


def test_the_planned_stages_are_those_that_are_told(tmp_path, assignment, student):
    grader, told = Grader(replace(assignment, problems="2", fix=True, twice=True)), []
    grader.grade(student, tmp_path / "out", on_stage=told.append)
    assert told == planned(grader)


def test_a_zip_file_earns_what_its_folder_earns_and_is_kept_until_it_changes(tmp_path, assignment, student):
    shutil.make_archive(str(tmp_path / "b02"), "zip", tmp_path, "b01")
    grader, told = Grader(replace(assignment, problems="2")), []
    folder = grader.grade(student, tmp_path / "one")
    zipped = grader.grade(tmp_path / "b02.zip", tmp_path / "two", on_stage=told.append)
    assert (zipped.submission, zipped.lines) == ("b02", folder.lines)
    assert (zipped.points, [line.problem for line in zipped.lines]) == (10, [2])
    told.clear()
    grader.grade(tmp_path / "b02.zip", tmp_path / "two", on_stage=told.append)
    assert told == ["report"]
    (student / "hw2_2.sh").write_text("exit 1")
    shutil.make_archive(str(tmp_path / "b02"), "zip", tmp_path, "b01")
    assert grader.grade(tmp_path / "b02.zip", tmp_path / "two").points == 0


def test_a_missing_or_failing_script_costs_its_own_points_only(tmp_path, assignment, student):
    (student / "hw2_1.sh").unlink()
    (student / "hw2_3.sh").write_text("echo 'I am\x1b[31m lost' >&2; exit 3")
    result = Grader(assignment).grade(student, tmp_path / "out")
    assert points(result) == {"1 simple": 0, "1 strong": 0, "2 public": 10, "3 public 0/0": 0, "3 public 0/1": 0}
    messages = {line.name: line.message for line in result.lines}
    assert messages["1 simple"].startswith("hw2_1.sh is missing; expected it in the submission's top folder.")
    assert messages["3 public 0/1"].startswith("hw2_3.sh ended with exit status 3; its last line is: I am")
    assert result.stages[-1].log == "I am\\x1b[31m lost"


def test_a_failure_of_ours_is_no_zero_and_is_tried_again(tmp_path, assignment, student, monkeypatch):
    (student / "hw2_1.sh").write_text(f"echo ran >> {tmp_path}/ran")
    grader = Grader(replace(assignment, problems="1,2"))
    with monkeypatch.context() as broken:
        broken.setattr(Faces, "score", lambda *_: 1 / 0)
        result = grader.grade(student, tmp_path / "out")
    assert result.status == "error"
    line = next(line for line in result.lines if line.name == "2 public")
    assert (line.points, line.status, result.unchecked) == (None, "error", 10)
    log = tmp_path / "out" / "failures.log"
    assert "The grader itself failed (ZeroDivisionError: division by zero); please report it" in line.message
    assert "send the traceback in failures.log" in line.message
    traceback = json.loads((tmp_path / "out" / "grade.json").read_text())["results"][1]["traceback"]
    assert traceback.endswith("ZeroDivisionError: division by zero")
    assert "1 / 0" in traceback
    assert traceback in log.read_text()
    student_page = (tmp_path / "out" / "student.html").read_text()
    assert "1 / 0" not in student_page
    assert str(tmp_path) not in student_page
    assert points(grader.grade(student, tmp_path / "out"))["2 public"] == 10
    assert (tmp_path / "ran").read_text() == "ran\n"  # what was finished is not run again
    assert not (tmp_path / "out" / "work").exists()


def test_a_full_disk_while_copying_is_no_missing_script(tmp_path, assignment, student, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr("grading.submission.stages.collect_folder", full)
    result = Grader(assignment).grade(student, tmp_path / "out")
    assert {line.status for line in result.lines} == {"error"}
    assert "No space left on device" in result.lines[0].message


def test_finished_work_is_kept_until_something_changes(tmp_path, assignment, student):
    (student / "hw2_2.sh").write_text(f"date +%N >> {tmp_path}/ran\n{FACES}")
    only = replace(assignment, problems="2")
    grader = Grader(only)
    runs = lambda: len((tmp_path / "ran").read_text().splitlines())  # noqa: E731
    first = grader.grade(student, tmp_path / "out")
    again = grader.grade(student, tmp_path / "out")
    assert runs() == 1
    assert asdict(again) == asdict(first)
    late = grader.grade(student, tmp_path / "out", StaffEntry(late_days=1))
    assert (runs(), late.lines[-1].name, late.points) == (1, "late", pytest.approx(7))
    assert json.loads((tmp_path / "out" / "grade.json").read_text())["points"] == pytest.approx(7)
    (student / "new.txt").write_text("a change")
    grader.grade(student, tmp_path / "out")
    assert runs() == 2
    Grader(replace(only, time_scale=2.0)).grade(student, tmp_path / "out")
    assert runs() == 3


def test_a_judge_that_is_replaced_in_place_makes_a_new_result(tmp_path, assignment, student, course):
    clip = shutil.copytree(course / "clip", tmp_path / "clip")
    asked = replace(assignment, clip=str(clip), problems="3")
    first = Grader(asked).grade(student, tmp_path / "out")
    assert {line.problem for line in first.lines} == {3}
    assert fingerprint(Grader(asked).record(), student) == first.record["fingerprint"]  # it would be kept
    with (clip / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\x00\x00\x80\x3e")
    again = Grader(asked).grade(student, tmp_path / "out")
    assert again.record["times"] != first.record["times"]
    assert again.record["judges"]["clip"]["sha256"] != first.record["judges"]["clip"]["sha256"]
    assert again.results[0].judges[0].sha256 != first.results[0].judges[0].sha256


def test_judges_are_found_but_not_loaded_before_a_class_and_only_those_that_are_needed(assignment, tmp_path):
    grader = Grader(assignment)
    assert grader.judge_facts.keys() == {"mnistm", "svhn", "clip"}
    assert grader.judges.loaded == {}
    assert grader.judge_facts["mnistm"]["chosen"] == "embedded"
    assert Grader(replace(assignment, problems="2", judges="official")).judge_facts == {}
    with pytest.raises(GradingError, match=r"the course's Classifier\.pth, but .* is missing") as raised:
        Grader(replace(assignment, problems="1", judges="official"))
    assert raised.value.option == "mnistm_classifier"


SLOW = """
import sys
from pathlib import Path
from grading.submission.assignment import Assignment
from grading.submission.grader import Grader
data, private, source, folder = map(Path, sys.argv[1:])
Grader(Assignment(data, private, judges="embedded", problems="2", trust=True)).grade(source, folder)
"""


def test_a_killed_grading_goes_on_where_it_stopped(tmp_path, course, student):
    ran = tmp_path / "ran"
    (student / "hw2_2.sh").write_text(
        f"echo ran >> {ran}\n[ -e {tmp_path}/go ] || [ $(wc -l < {ran}) = 1 ] || sleep 60\n{FACES}"
    )
    arguments = [course / "public", course / "private", student, tmp_path / "out"]
    asked = Assignment(course / "public", course / "private", judges="embedded", problems="2", trust=True)
    killed = subprocess.Popen([sys.executable, "-c", SLOW, *map(str, arguments)], cwd=ROOT)
    journal = tmp_path / "out" / "journal.jsonl"
    wait_until(lambda: ran.exists() and ran.read_text() == "ran\nran\n")
    grader = Grader(asked)
    with pytest.raises(GradingError, match="another grading run uses"):
        grader.grade(student, tmp_path / "out")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    with journal.open("ab") as file:
        file.write(b'{"stage": "hw2_2.sh priv')  # torn while it was written
    (tmp_path / "go").touch()
    result = grader.grade(student, tmp_path / "out")
    assert ran.read_text() == "ran\n" * 3  # the first run, which was finished, was not repeated
    whole = grader.grade(student, tmp_path / "other")
    assert result.lines == whole.lines
    assert [json.loads(line).get("stage") for line in journal.read_text().splitlines()][1:] == [
        stage.stage for stage in whole.stages
    ]


def test_runs_that_differ_are_said_and_runs_that_agree_are(tmp_path, assignment, student):
    (student / "hw2_1.sh").write_text(f'{DIGITS}\ndate +%N > "$1/svhn/note.txt"')
    result = Grader(replace(assignment, problems="1,2", twice=True)).grade(student, tmp_path / "out")
    found = {stage.stage: (stage.status, stage.message) for stage in result.stages if stage.stage.endswith("twice")}
    assert found["hw2_1.sh twice"][0] == "fail"
    assert "differ in 1 of 3 files (svhn/note.txt)" in found["hw2_1.sh twice"][1]
    assert found["hw2_2.sh public twice"] == ("pass", "Two runs of hw2_2.sh public gave the same 2 files.")
    assert any("svhn/note.txt" in check.message for check in result.warnings)


def test_a_link_in_place_of_a_submission_is_refused(tmp_path, assignment, student):
    (tmp_path / "link").symlink_to(student)
    grader = Grader(assignment)
    for source in (tmp_path / "link", tmp_path / "none", student / "hw2_1.sh"):
        with pytest.raises(GradingError, match="is not a folder; expected a submission"):
            grader.grade(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_data_are_said_before_any_work(tmp_path, assignment, course):
    for change, said in (
        ({"data": tmp_path}, "face/noise is missing, .* or leave the problem out"),
        ({"private": tmp_path / "none"}, "none/face/noise is missing, "),
        ({"unet": tmp_path / "face.pt"}, "face.pt is missing, .* set another path"),
        ({"stable_diffusion": tmp_path / "sd"}, "sd is missing, .* set another path"),
    ):
        with pytest.raises(GradingError, match=said) as raised:
            Grader(replace(assignment, **change))
        assert raised.value.option == next(iter(change))


@needs_sandbox
def test_hostile_scripts_change_nothing_but_their_own_points(tmp_path, assignment, student, course):
    (student / "hw2_1.sh").write_text(
        f"cp {course}/public/face/GT/00.png $1/ ; ls {course} > $1/seen.txt; sleep 1000 & exit 0"
    )
    (student / "hw2_3.sh").write_text('ln -s /etc/passwd "$2/0"; head -c 100M /dev/zero > $2/big')
    result = Grader(replace(assignment, trust=False, limits=asdict(SMALL))).grade(student, tmp_path / "out")
    assert points(result) == {"1 simple": 0, "1 strong": 0, "2 public": 10, "3 public 0/0": 0, "3 public 0/1": 0}
    seen = tmp_path / "out" / "outputs" / "problem_1" / "seen.txt"
    assert seen.read_text() == ""
    assert result.stages[-1].limit in ("file size", "space")


def test_pictures_that_take_long_cost_their_own_problem_with_a_reason_and_are_no_error(
    tmp_path, assignment, student, monkeypatch
):
    """Without limits all of them are read, which takes many times as long: see `tests/grading/files/test_decode.py`."""
    shutil.copy(ATTACKS / "picture_bombs" / "hw2_1.sh", student)
    limits = Request((), picture_seconds=0.2, seconds=0.6)
    monkeypatch.setattr(grading.submission.evidence, "read_images", functools.partial(read_images, request=limits))
    result = Grader(replace(assignment, problems="1,2")).grade(student, tmp_path / "out")
    assert [each.status for each in result.results] == ["fail", "pass"]
    assert points(result) == {"1 simple": 0, "1 strong": 0, "2 public": 10}
    assert result.unchecked == 0
    said = " ".join(check.message for check in result.results[0].checks)
    assert "of computing" in said
    assert "svhn/0_012.png" in said


def test_the_command_grades_and_exits_with_the_verdict(tmp_path, hw2_grade, student, course):
    options = ["--data", course / "public", "--judges", "embedded", "--clip", course / "clip", "--problems", "2"]
    options += ["--output", tmp_path / "out", "--trust"]
    run = hw2_grade("submission", student, *options, "--public-only", "--json", "-")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["points"] == 10
    run = hw2_grade("submission", student, *options, "--private", course / "private", "--late-days", "1")
    assert run.returncode == 1
    assert "30 % of 10 points" in run.stdout
    assert "hw2_2.sh private" in (tmp_path / "out" / "report.html").read_text()
    for change, said in (
        (["--public-only", "--private", tmp_path], "contradict"),
        (["--public-only", "--problems", "3", "--clip", tmp_path], "is not a CLIP model"),
    ):
        run = hw2_grade("submission", student, *options, *change)
        assert run.returncode == 2
        assert said in run.stdout + run.stderr
        assert "Traceback" not in run.stderr
    assert os.listdir(tmp_path / "out")


def test_problems_and_staff_files_that_cannot_be_meant_are_said(tmp_path, assignment):
    with pytest.raises(GradingError, match="the problems to grade are 4; expected some of 1,2,3"):
        Grader(replace(assignment, problems="4"))
    with pytest.raises(GradingError, match=r"none\.csv is not a file"):
        read_staff_file(tmp_path / "none.csv", FALL2024)


@pytest.mark.slow
def test_the_command_grades_a_class(tmp_path, hw2_grade, student, course):
    (tmp_path / "class").mkdir()
    for name in ("b01", "b02", "b03"):
        shutil.copytree(student, tmp_path / "class" / name)
    (tmp_path / "class" / "b02" / "hw2_2.sh").unlink()
    (tmp_path / "class" / "stray.txt").touch()
    (tmp_path / "staff.csv").write_text("submission,report_1,late_days\nb02,7,0\nb03,,1\n")
    options = ["--data", course / "public", "--problems", "2", "--trust", "--output", tmp_path / "out", "--public-only"]
    run = hw2_grade("cohort", tmp_path / "class", *options, "--staff", tmp_path / "staff.csv")
    assert run.returncode == 0, run.stderr
    assert "3 submissions graded, 2 with full points" in run.stdout
    assert "stray.txt was not graded: it is neither a folder nor a zip file." in run.stderr
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").read_text().splitlines()))
    assert [(float(row["points"]), row["status"], row["late"]) for row in rows] == [
        (10, "pass", ""), (7, "fail", ""), (7, "pass", "-3.0"),
    ]  # fmt: skip
    assert (tmp_path / "out" / "students" / "b01" / "grade.json").exists()
    assert "students/b02/report.html" in (tmp_path / "out" / "index.html").read_text()


@needs_sandbox
def test_a_umask_that_closes_files_to_others_costs_no_points(tmp_path, assignment, student):
    before = os.umask(0o077)
    try:
        result = Grader(replace(assignment, trust=False, problems="2")).grade(student, tmp_path / "out")
    finally:
        os.umask(before)
    assert (result.points, result.unchecked, result.status) == (10, 0, "pass")


def test_a_result_depends_on_the_packages_of_the_scripts(tmp_path, assignment, student, monkeypatch):
    only = replace(assignment, problems="2")
    first = Grader(only).grade(student, tmp_path / "out").record
    assert first["python"]["version"] == sys.version.split()[0]
    other = PythonFacts(first["python"]["version"], ("omegaconf==2.3.0",))
    monkeypatch.setattr("grading.submission.grader.check_python", lambda _sandbox: other)
    second = Grader(only).grade(student, tmp_path / "out").record
    assert second["python"]["packages_sha256"] == other.packages_sha256
    assert second["times"] != first["times"]


def test_without_bubblewrap_strangers_code_is_refused(assignment, monkeypatch):
    def none(*_arguments, **_options):
        raise GradingError("bubblewrap is not installed")

    monkeypatch.setattr(grading.environment.python, "run_sandboxed", none)
    with pytest.raises(GradingError, match="bubblewrap is not installed"):
        Grader(assignment)


def test_a_grade_of_another_version_is_refused_and_kept(tmp_path, assignment, student):
    (tmp_path / "out").mkdir()
    old = b'{"submission": "b01", "status": "pass", "digits": null, "lines": [{"name": "1 simple"}]}'
    (tmp_path / "out" / "grade.json").write_bytes(old)
    with pytest.raises(GradingError, match="was not written by this version of the grader; choose another"):
        Grader(assignment).grade(student, tmp_path / "out")
    assert (tmp_path / "out" / "grade.json").read_bytes() == old


def test_the_record_says_which_file_and_which_flags_were_used_and_neither_makes_a_new_grade(
    tmp_path, assignment, student
):
    (student / "hw2_1.sh").write_text(f"echo ran >> {tmp_path}/ran")
    told = replace(assignment, problems="1", source={"file": {"twice": False}, "flags": {"data": "x"}})
    result = Grader(told).grade(student, tmp_path / "out")
    assert result.record["source"] == {"file": {"twice": False}, "flags": {"data": "x"}}
    assert result.record["homework"] == "fall2024"
    Grader(replace(told, source={})).grade(student, tmp_path / "out")
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_without_a_copy_nothing_runs_and_nothing_costs_points(tmp_path, assignment, student, monkeypatch):
    ran = []
    monkeypatch.setattr(grading.submission.grader, "fetch", lambda *_: ran.append("fetch"))
    monkeypatch.setattr("grading.submission.stages.collect_folder", lambda *_: 1 / 0)
    result = Grader(replace(assignment, twice=True)).grade(student, tmp_path / "out")
    assert ran == []
    assert [(stage.stage, stage.status) for stage in result.stages] == [
        (name, "error") for name in ("copy", "fetch", "freeze", "hw2_1.sh", "hw2_2.sh public", "hw2_3.sh public")
    ]
    assert {line.points for line in result.lines} == {None}


def test_a_download_that_replaces_code_is_said_to_staff_alone(student, assignment, tmp_path):
    (student / "draw.py").write_text("print('as handed in')\n")
    (student / "hw2_download_ckpt.sh").write_text("echo \"print('newer')\" > draw.py; echo x > late.py\n")
    result = Grader(replace(assignment, problems="2")).grade(student, tmp_path / "out")
    said = [check.message for check in result.warnings if "hw2_download_ckpt.sh" in check.message]
    assert said == [
        "hw2_download_ckpt.sh replaced 1 code file (draw.py): what ran is not what was handed in.",
        "hw2_download_ckpt.sh added 1 code file that had not been handed in (late.py).",
    ]
    assert "replaced" in (tmp_path / "out" / "report.html").read_text()
    assert "replaced 1 code file" not in (tmp_path / "out" / "student.html").read_text()


def test_staff_settle_what_could_not_be_scored_and_may_change_their_mind(student, assignment, tmp_path, monkeypatch):
    def broken(*_):
        raise GradingError("a judge is missing")

    monkeypatch.setattr(Faces, "score", broken)
    grader = Grader(replace(assignment, problems="2"))
    assert grader.grade(student, tmp_path / "out").status == "error"
    settled = grader.grade(student, tmp_path / "out", StaffEntry(settled={2: 10.0}))
    assert (settled.status, settled.points, settled.unchecked) == ("pass", 10, 0)
    low = grader.grade(student, tmp_path / "out", StaffEntry(settled={2: 4.0}))
    assert (low.status, low.points) == ("fail", 4)
    monkeypatch.undo()
    checked = grader.grade(student, tmp_path / "out", StaffEntry(settled={2: 4.0}))
    assert (checked.status, checked.points) == ("pass", 10)
    twice = grader.grade(student, tmp_path / "out", StaffEntry(settled={2: 4.0}))
    said = "Staff settled Problem 2 with 4 points, without effect: all of it was checked."
    assert [check.message for check in twice.warnings].count(said) == 1
    assert said not in [check.message for check in grader.grade(student, tmp_path / "out").warnings]


def test_fixing_is_deducted_and_told_everywhere_and_only_where_something_was_fixed(tmp_path, assignment, student):
    (student / "hw2_2.sh").rename(student / "HW2_2.sh")
    (student / os.fsdecode(b"note\xff.txt")).touch()
    only = replace(assignment, problems="2")
    plain = Grader(only).grade(student, tmp_path / "plain")
    assert "There is HW2_2.sh: rename it to hw2_2.sh." in plain.lines[0].message
    said = [(tmp_path / "plain" / name).read_text() for name in ("results.json", "student.html", "junit.xml")]
    assert all("There is HW2_2.sh: rename it to hw2_2.sh." in text for text in said)
    assert (plain.points, len(plain.lines), plain.record.get("fixes")) == (0, 1, None)
    fixing = Grader(replace(only, fix=True))
    fixed = fixing.grade(student, tmp_path / "fixed")
    assert fixed.record["fixes"] == ["Renamed HW2_2.sh to hw2_2.sh."]
    assert fixed.points == pytest.approx(10 * 0.7)
    assert fixed.lines[-1].message.endswith("Renamed HW2_2.sh to hw2_2.sh.")
    assert fixed.warnings[0].message == "Renamed HW2_2.sh to hw2_2.sh."
    assert asdict(fixing.grade(student, tmp_path / "fixed")) == asdict(fixed)
    assert (student / "HW2_2.sh").exists()
    (student / "HW2_2.sh").rename(student / "hw2_2.sh")
    assert fixing.grade(student, tmp_path / "good").points == 10


def test_names_of_any_bytes_survive_every_report_and_a_second_call(tmp_path, assignment, student):
    (student / os.fsdecode(b"note\xff.txt")).touch()
    (student / "hw2_1.sh").write_text("mkdir -p $1/svhn; touch $1/svhn/0_$'\\xff'.png; ln -s x $1/$'\\xfe'")
    only = Grader(replace(assignment, problems="1"))
    first = only.grade(student, tmp_path / "out")
    assert {line.problem for line in first.lines} == {1}
    assert os.fsdecode(b"note\xff.txt") in first.stages[0].files
    assert asdict(only.grade(student, tmp_path / "out")) == asdict(first)
    (tmp_path / "out" / "grade.json").unlink()
    assert only.grade(student, tmp_path / "out").lines == first.lines
