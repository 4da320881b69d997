"""A class graded by workers in processes: all of it, once, whatever dies meanwhile."""

import csv
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import grading.cohort.cohort
import grading.cohort.worker
import grading.cohort.workers
import grading.submission.grader
from grading.cohort.cohort import _grader, grade_cohort
from grading.cohort.find import Submission, find_submissions
from grading.cohort.process_engine import ProcessEngine, process_engine
from grading.cohort.screen import Running, Screen
from grading.cohort.worker import Worker
from grading.core.errors import GradingError
from grading.core.results import SubmissionResult
from grading.files.storage import locked, write_whole
from grading.homeworks.fall2024 import FALL2024
from grading.points.staff import StaffEntry, read_staff_file
from grading.sandbox.bubblewrap import _environment
from grading.submission.assignment import Assignment
from tests.commands import ROOT
from tests.grading.cohort.classes import graded, tries
from tests.grading.graders import Counted, Fake, HasGpu, stillborn, unfit

SURROGATE = os.fsdecode(b"\xff\xfe")
HOSTILE = ["-rf", "a b\n[red]c", "\x1b[2J", SURROGATE, "é" * 127, "$(reboot)", "=1+1", ".hidden"]


@pytest.fixture
def engine() -> ProcessEngine:
    """Two workers, each a process of Python's own."""
    return ProcessEngine(2)


# --- what is graded


def test_submissions_are_the_sub_folders_by_name_and_all_else_is_named(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    for name in ("b02", "a01", ".hidden"):
        (tmp_path / "in" / name).mkdir(parents=True)
    elsewhere.mkdir()
    (tmp_path / "in" / "link").symlink_to(elsewhere)
    (tmp_path / "in" / "c03.zip").write_bytes(b"PK")
    (tmp_path / "in" / "notes.txt").touch()
    os.mkfifo(tmp_path / "in" / "pi\npe")
    staff = {"a01": StaffEntry(late_days=2)}
    found, notes = find_submissions(tmp_path / "in", tmp_path / "out", staff)
    assert [submission.name for submission in found] == [".hidden", "a01", "b02", "c03"]
    assert [submission.staff.late_days for submission in found] == [0, 2, 0, 0]
    assert found[1].folder == tmp_path / "out" / "students" / "a01"
    assert [note.message for note in notes] == [
        "link was not graded: it is a symbolic link.",
        "notes.txt was not graded: it is neither a folder nor a zip file.",
        "pi\\npe was not graded: it is neither a folder nor a zip file.",
    ]


@pytest.mark.parametrize("folder", ["Jos\u00e9_b12", "Jose\u0301_b12", " Jos\u00e9_b12 "])
@pytest.mark.parametrize("row", ["Jos\u00e9_b12", "Jose\u0301_b12", "Jos\u00e9_b12 "])
def test_staff_meet_a_folder_whose_name_only_looks_the_same(tmp_path, folder, row):
    (tmp_path / "in" / folder).mkdir(parents=True)
    (tmp_path / "staff.csv").write_text(f"submission,late_days\n{row},2\n")
    staff = read_staff_file(tmp_path / "staff.csv", FALL2024)
    (found,), _ = find_submissions(tmp_path / "in", tmp_path / "out", staff)
    assert (found.source.name, found.staff.late_days) == (folder, 2)


def test_a_row_that_matches_nobody_is_refused_with_the_nearest_folder(tmp_path):
    for name in ("B04", "00123", "r9"):
        (tmp_path / "in" / name).mkdir(parents=True)
    staff = {name: StaffEntry() for name in ("b04", "123", "r9", "somebody\x1b[2J")}
    with pytest.raises(GradingError) as error:
        find_submissions(tmp_path / "in", tmp_path / "out", staff)
    assert str(error.value) == (
        "the staff file has rows without a submission of that name: 123 (the nearest folder is 00123), b04 (the "
        "nearest folder is B04), somebody\\x1b[2J; correct the names or remove the rows"
    )


@pytest.mark.parametrize("other", ["Jose\u0301", "Jos\u00e9 "])
def test_two_folders_with_one_name_to_the_eye_are_refused(handed_in, other):
    with pytest.raises(GradingError, match="two submissions are called Jos\u00e9, with"):
        handed_in("Jos\u00e9", other)


def test_folders_have_names_that_can_be_printed_and_are_all_different(handed_in):
    submissions = handed_in(*HOSTILE, "\x1b[2K", "\\x1b[2J", "\x01" * 250)
    names = {submission.source.name: submission.folder.name for submission in submissions}
    assert {name for name in names if names[name] != name} == {
        "a b\n[red]c",
        "\x1b[2J",
        "\x1b[2K",
        SURROGATE,
        "\x01" * 250,
    }
    assert all(name.isprintable() and len(name.encode()) < 255 for name in names.values())
    assert len(set(names.values())) == len(names)
    assert re.fullmatch(r"\\x1b\[2J-[0-9a-f]{8}", names["\x1b[2J"])


def test_a_name_made_to_collide_is_refused(handed_in):
    taken = handed_in("\n")[0].folder.name
    with pytest.raises(GradingError, match="would share one folder of the output"):
        handed_in(taken)


@pytest.mark.parametrize(
    ("submissions", "output", "said"),
    [
        ("in", "in/out", "is inside the submissions"),
        ("in", "in", "is inside the submissions"),
        ("link", "in/out", "is inside the submissions"),
        ("out/students", "out", "are inside the output; choose another folder"),
        ("in", ".", "are inside the output; choose another folder"),
        ("empty", "out", "has no sub-folders"),
        ("nowhere", "out", "cannot be read (No such file or directory)"),
        ("in/a/file", "out", "cannot be read (Not a directory)"),
    ],
)
def test_folders_that_cannot_be_meant_are_refused(tmp_path, submissions, output, said):
    for name in ("in/a", "out/students/a", "empty"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "in" / "a" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(GradingError, match=re.escape(said)):
        find_submissions(tmp_path / submissions, tmp_path / output, {})


def test_a_second_cohort_in_the_same_output_is_refused(tmp_path, handed_in):
    handed_in("a")
    with locked(tmp_path / "out"), pytest.raises(GradingError, match="another grading run uses"):
        grade_cohort(tmp_path / "in", Assignment(tmp_path), tmp_path / "out")


def test_no_worker_at_all_is_refused():
    with pytest.raises(GradingError, match="the number of workers is 0; expected 1 or more"), process_engine(0):
        pass


# --- all of it, once


def test_everything_is_graded_whatever_happens_to_workers(handed_in, engine, monkeypatch):
    monkeypatch.setattr(grading.cohort.workers, "MAX_TRIES", 2)  # each loss costs the start of another worker
    submissions = handed_in(*HOSTILE, "plain", "kill-1-x", "kill-9-x", "raise-x", "exit-x")
    good = [submission.name for submission in submissions if submission.source.name in (*HOSTILE, "plain")]
    assert len(good) == 9
    results = graded(submissions, engine)
    assert [result.submission for result in results] == [submission.name for submission in submissions]
    found = {result.submission: result for result in results}
    assert {name: found[name].status for name in found} == {
        **dict.fromkeys([*good, "kill-1-x"], "pass"),
        **dict.fromkeys(["kill-9-x", "raise-x", "exit-x"], "error"),
    }
    assert {submission.name: len(tries(submission)) for submission in submissions} == {
        **dict.fromkeys([*good, "raise-x"], 1),
        **dict.fromkeys(["kill-1-x", "kill-9-x", "exit-x"], 2),
    }
    said = {name: found[name].warnings[0].message for name in ("kill-9-x", "raise-x")}
    assert said["kill-9-x"] == "The grader could not check this: 2 workers died while grading this submission."
    assert said["raise-x"].startswith("The grader itself failed (ValueError: as I was told); please report it")


def test_results_are_the_same_whatever_the_number_of_workers(tmp_path, handed_in, engine):
    submissions = handed_in("a", "bb", "raise-x")
    several = graded(submissions, replace(engine, workers=5))
    assert [result.status for result in several] == ["pass", "pass", "error"]
    shutil.rmtree(tmp_path / "out")
    assert graded(submissions, replace(engine, workers=1)) == several


def test_a_worker_makes_its_grader_once(tmp_path, handed_in, engine):
    submissions = handed_in("slow-0", "slow-1", *map(str, range(10)))
    assert len(graded(submissions, engine, Counted(tmp_path))) == 12
    assert len(list(tmp_path.glob("made-*"))) == engine.workers


def test_a_worker_that_cannot_grade_stops_the_class(handed_in, engine):
    with pytest.raises(
        GradingError, match=r"a worker cannot grade: The grader could not .* the data are missing; put them there$"
    ):
        graded(handed_in("a", "b"), engine, unfit)


def test_workers_that_die_before_they_begin_stop_the_class(handed_in, engine):
    with pytest.raises(GradingError, match="3 workers in a row died before they were ready"):
        graded(handed_in("a"), engine, stillborn)


def test_each_worker_has_a_gpu_of_its_own_and_its_successor_gets_it(handed_in):
    submissions = handed_in("slow-1", "die-1-x", "slow-2", "b")
    graded(submissions, ProcessEngine(2, ["GPU-a", "1"]), HasGpu)
    seen = {submission.name: (submission.folder / "gpu").read_text().splitlines() for submission in submissions}
    assert {gpu for gpus in seen.values() for gpu in gpus} == {"GPU-a", "1"}
    assert len(seen["die-1-x"]) == 2
    assert seen["slow-1"] != seen["slow-2"]


def test_memory_stays_flat(handed_in, engine):
    submissions = handed_in(*(f"{i:03d}" for i in range(200)))
    results = graded(submissions, replace(engine, workers=1))
    used = [int(tries(submission)[-1].split()[1]) for submission in submissions]
    # 150 results have some 50 MB of hashes
    assert max(used[50:]) - used[50] < 10 * 2**20
    assert all(stage.files == {} for result in results for stage in result.stages)


def test_the_screen_learns_the_stage_and_the_stage_is_forgotten(handed_in, engine):
    submissions = handed_in("slow-1")
    seen = []

    class Watched(Screen):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "running" and value:
                seen.extend(value)
            super().__setattr__(name, value)

    graded(submissions, engine, screen=Watched(1, Console(file=io.StringIO())))
    assert ("slow-1", "pretending") in {(each.name, each.stage) for each in seen}
    assert not (submissions[0].folder / "stage").exists()


def test_a_folder_that_is_still_in_use_is_waited_for(handed_in, engine):
    submissions = handed_in("a", "b")
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(submissions[0].folder):
            entered.set()
            leave.wait(60)
            assert not (submissions[0].folder / "tries").exists()

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(60)
    threading.Timer(2, leave.set).start()
    assert [result.status for result in graded(submissions, engine)] == ["pass", "pass"]
    holder.join()


def test_a_folder_that_stays_in_use_is_an_error_of_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(grading.cohort.worker, "LOCK_WAIT", 0.3)
    worker = Worker(Fake)
    assert worker.prepare() == ""
    with locked(tmp_path / "out"):
        result = worker.grade(Submission(tmp_path / "a", tmp_path / "out"))
    assert result.status == "error"
    assert "another grading run uses" in result.warnings[0].message
    assert not (tmp_path / "out" / "tries").exists()


# --- the whole command's work

DRIVER = """
import sys
from pathlib import Path
import grading.cohort.cohort
from grading.core.errors import GradingError
from grading.submission.assignment import Assignment
from tests.grading.graders import journalled

grading.cohort.cohort._grader = journalled
try:
    results = grading.cohort.cohort.grade_cohort(Path("in"), Assignment(Path("data")), Path("out"), workers=2)
    print(*(f"{result.submission} {result.status}" for result in results), sep="\\n")
except GradingError as error:
    sys.exit(str(error))
"""


@pytest.mark.slow
def test_killed_or_interrupted_it_goes_on_and_no_step_is_lost_or_done_twice(tmp_path, handed_in):
    names = [f"s{i:02d}" for i in range(12)]
    submissions = handed_in(*names)

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", DRIVER], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def steps() -> int:
        return sum(len(path.read_text().splitlines()) for path in (tmp_path / "out").glob("students/*/journal"))

    def wait_for(count: int, process: subprocess.Popen[str]) -> None:
        until = time.monotonic() + 120
        while steps() < count:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.05)

    first = start()
    wait_for(13, first)
    first.kill()
    first.communicate()
    at_kill = steps()
    second = start()
    wait_for(at_kill + 15, second)
    second.send_signal(signal.SIGINT)
    said = second.communicate(timeout=60)[1]
    assert second.returncode == 1
    assert re.search(r"interrupted after \d+ of 12 submissions; run the same command again to resume\n$", said)
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "scores.csv").exists()
    assert steps() < 60

    third = start()
    printed, said = third.communicate(timeout=120)
    assert printed.splitlines() == [f"{name} pass" for name in names], said
    for submission in submissions:
        assert (submission.folder / "journal").read_text().split() == list("01234")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "scores.csv").read_text())))
    assert [row["submission"] for row in rows] == names
    assert "s11" in (tmp_path / "out" / "index.html").read_text()


def test_relative_paths_are_meant_from_the_callers_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip").mkdir()
    given = Assignment(
        Path("d"), Path("p"), unet=Path("u"), stable_diffusion=Path("m"), clip="clip", python=Path("env")
    )
    meant = given.absolute()
    paths = (meant.data, meant.private, meant.unet, meant.stable_diffusion, meant.python)
    assert paths == tuple(tmp_path / name for name in ("d", "p", "u", "m", "env"))
    assert meant.clip == str(tmp_path / "clip")
    assert meant.mnistm_classifier == ""
    assert Assignment(Path("d")).absolute().private is None


@pytest.mark.parametrize(("gpu", "expected"), [(True, "3"), (False, None)])
def test_scripts_see_the_gpu_of_their_worker_only(monkeypatch, gpu, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setattr(grading.submission.grader, "Grader", lambda assignment: assignment)
    sandbox = _grader(Assignment(Path(), gpu=gpu)).sandbox
    assert _environment(sandbox, {}).get("CUDA_VISIBLE_DEVICES") == expected


# --- folders and screen


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    write_whole(tmp_path / "scores.csv", b"old")

    def pieces():
        yield b"new"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "scores.csv", pieces())
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]
    assert (tmp_path / "scores.csv").read_text() == "old"


def test_without_a_terminal_each_finished_submission_is_a_line():
    text = io.StringIO()
    with Screen(12, Console(file=text, soft_wrap=True)) as screen:
        screen.finished(SubmissionResult("\x1b[2J[red]" + "x" * 200, "fail", 12.5, 55, 0), 3671.2)
        screen.finished(SubmissionResult("b", "pass", 55, 55, 0), 61)
    assert text.getvalue().splitlines() == [
        "[ 1/12] fail   12.5 of 55    1:01:11  \\x1b[2J[red]" + "x" * 200,
        "[ 2/12] pass   55 of 55      1:01  b",
    ]


def test_a_terminal_shows_the_whole_class(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    text = io.StringIO()
    screen = Screen(200, Console(file=text, width=80))
    screen.began = 400.0
    screen.workers = 2
    screen.outcomes.update({"pass": 20, "fail": 9, "error": 1})
    screen.running = [Running("b01", 940.0, "hw2_1.sh"), Running("\x1b[2J", 999.0)]
    screen.console.print(screen.render())
    lines = [line.rstrip() for line in text.getvalue().splitlines()[1:]]
    assert lines == [
        "168 waiting  2 running  20 pass  9 fail  1 error",
        "10:00 elapsed, about 56:40 left, 2 workers",  # 170 more, of 20 s each
        "1:00  b01      hw2_1.sh",
        "0:01  \\x1b[2J  starting",
    ]
