"""Workers in processes of this machine: what they import, see and print, and when they end."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grading.cohort.engine import LostError
from grading.cohort.process_engine import ProcessEngine, process_engine
from grading.core.errors import GradingError
from tests.commands import ROOT
from tests.grading.graders import Fake, slow_to_make

CLASS = """
from pathlib import Path
from grading.cohort.find import find_submissions
from grading.cohort.process_engine import process_engine
from grading.cohort.screen import Screen
from grading.cohort.workers import grade_all
from tests.grading.graders import Fake, Talks

found, _ = find_submissions(Path("in"), Path("out").absolute(), {})
with process_engine(2) as engine, Screen(len(found)) as screen:
    print(*(result.status for result in grade_all(found, Talks, engine, screen)))
"""


def run_class(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """Grade a class by a program whose current folder is `folder`."""
    for name in names:
        (folder / "in" / name).mkdir(parents=True)
    (folder / "program").mkdir()
    (folder / "program" / "run.py").write_text(CLASS)
    return subprocess.run(
        [sys.executable, folder / "program" / "run.py"], cwd=folder, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_neither_a_folder_nor_a_worker_gets_a_word_in(tmp_path):
    for name in ("json", "multiprocessing", "grading"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    ended = run_class(tmp_path, "a", "b")
    assert ended.stdout == "pass pass\n", ended.stderr
    assert "TALK" not in ended.stderr
    assert not (tmp_path / "imported").exists()


def test_a_class_of_one_machine_needs_no_ray(tmp_path):
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "sitecustomize.py").write_text("import sys; sys.modules['ray'] = None")
    driver = "import grading.cohort.cohort, sys; print(sys.modules['ray'])"
    ended = subprocess.run(
        [sys.executable, "-c", driver], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path / 'without'}:{ROOT}"},
    )  # fmt: skip
    assert ended.stdout == "None\n", ended.stderr


def test_an_ended_worker_is_gone_at_once_whatever_it_does():
    worker = ProcessEngine(1).hire(slow_to_make)
    worker.end()
    assert worker.process.returncode == -9


def test_a_worker_that_died_is_told_by_how_it_ended(handed_in):
    (submission,) = handed_in("kill-9-x")
    engine = ProcessEngine(1)
    worker = engine.hire(Fake)
    assert worker.answer() == ""
    worker.grade(submission)
    assert engine.answered([worker], 60) == [worker]
    with pytest.raises(LostError, match="signal SIGKILL"):
        worker.answer()
    worker.grade(submission)  # what is told to a dead one is lost, and is no error
    with pytest.raises(LostError):
        worker.answer()
    worker.end()


def test_a_worker_ends_with_the_process_that_hired_it(tmp_path):
    driver = (
        "import os, signal; from grading.cohort.process_engine import ProcessEngine;"
        "from tests.grading.graders import Fake; worker = ProcessEngine(1).hire(Fake); worker.answer();"
        "print(worker.process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", driver], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    worker, until = Path("/proc", ended.stdout.strip(), "stat"), time.monotonic() + 30
    while worker.exists() and worker.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(("workers", "expected"), [(None, 2), (1, 1), (5, 2)])
def test_each_gpu_has_one_worker_at_most(monkeypatch, workers, expected):
    monkeypatch.setattr("grading.cohort.process_engine.visible_gpus", lambda _variables: ["0", "1"])
    with process_engine(workers, wants_gpu=True) as engine:
        assert (engine.workers, engine.gpus) == (expected, ["0", "1"])
    with process_engine(workers) as engine:
        assert (engine.workers, engine.gpus) == (workers or 1, [])


def test_a_gpu_that_is_needed_and_missing_is_told(monkeypatch):
    monkeypatch.setattr("grading.cohort.process_engine.visible_gpus", lambda _variables: [])
    with process_engine(3, wants_gpu=True) as engine:
        assert engine.workers == 3
    with pytest.raises(GradingError, match="a GPU is required, but there is none here"), process_engine(1, True, True):
        pass
