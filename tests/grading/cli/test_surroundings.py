"""`hw2-grade` where streams are closed, terminals have no width, and signals come: no status 0 or 1 by accident."""

import os
import signal
import subprocess
import sys
import time

import pytest

from grading.cli.surroundings import FAILED, Ended, Standing, run
from tests.commands import ROOT

FACES = ROOT / "fixtures" / "hw2_data" / "face" / "GT"
GRADE = f"{sys.executable} -m grading"
NO_RESULT = "hw2-grade: the result could not be printed: "


def shell(line, **variables):
    """A command line of bash; a variable that is None is not set."""
    changed = {name: value for name, value in (os.environ | variables).items() if value is not None}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, timeout=120, cwd=ROOT, env=changed
    )


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("faces GT GT >&-", 2, f"{NO_RESULT}stdout is closed.\n"),
        ("faces GT GT <&- >&- 2>&-", 2, ""),
        ("faces GT GT >/dev/full", 2, f"{NO_RESULT}No space left on device.\n"),
        ("faces GT GT --json - >&-", 2, f"{NO_RESULT}stdout is closed.\n"),
        ("faces GT nowhere 2>/dev/full", 2, ""),
        ("faces GT nowhere 2>&-", 2, ""),
        ("--help >&-", 2, f"{NO_RESULT}stdout is closed.\n"),
        ("--help | true", 141, ""),
        ("faces GT GT | true", 141, ""),
    ],
)
def test_what_could_not_be_printed_is_no_verdict(line, status, said):
    run = shell(f"{GRADE} {line.replace('GT', str(FACES))}")
    assert (run.returncode, run.stdout, run.stderr) == (status, "", said)


@pytest.mark.parametrize("line", ["2>/dev/full", "2>&-", "<&-"])
def test_a_verdict_stays_where_only_stderr_or_stdin_is_lost(line):
    run = shell(f"{GRADE} faces {FACES} {FACES} {line}")
    assert run.returncode == 0
    assert "verdict  pass" in run.stdout


@pytest.mark.parametrize(
    "size", [{"COLUMNS": "0"}, {"COLUMNS": "1"}, {"COLUMNS": "x", "TERMINAL_WIDTH": "x"}, {"COLUMNS": "9" * 30}]
)
def test_a_width_that_cannot_be_is_ignored(size):
    usual = shell(f"{GRADE} explain mse", COLUMNS=None)
    odd = shell(f"{GRADE} explain mse", **size)
    assert (odd.returncode, odd.stdout) == (0, usual.stdout)
    assert "mean" in odd.stdout
    assert shell(f"{GRADE} --help", **size).stdout == shell(f"{GRADE} --help", COLUMNS=None).stdout


def test_help_is_whole_without_docstrings():
    assert shell(f"{GRADE} --help", PYTHONOPTIMIZE="2").stdout == shell(f"{GRADE} --help", PYTHONOPTIMIZE=None).stdout
    assert "Exit status" in shell(f"{GRADE} cohort --help", PYTHONOPTIMIZE="2").stdout


@pytest.mark.parametrize("user", ["", "setpriv --reuid=12345 --regid=12345 --clear-groups "])
def test_neither_a_home_nor_a_name_is_needed(user):
    if user and (os.geteuid() != 0 or not os.access(sys.executable, os.X_OK)):
        pytest.skip("only root can become another user")
    run = shell(f"{user}{GRADE} faces {FACES} {FACES}", HOME=None, PYTHONDONTWRITEBYTECODE="1")
    if user and any(sign in run.stderr for sign in ("Permission denied", "No module named", "loading shared")):
        pytest.skip("another user cannot reach this checkout or its packages")
    assert (run.returncode, run.stderr) == (0, "")


def test_a_current_folder_that_was_deleted_is_told(tmp_path):
    line = f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && {GRADE} faces {FACES} {FACES}"
    run = shell(line, PYTHONPATH=str(ROOT))
    assert (run.returncode, run.stderr) == (2, "hw2-grade: the current folder was deleted; change to another one.\n")


def test_modules_of_a_students_folder_are_not_imported(tmp_path):
    for name in ("random", "json", "numpy", "torch", "grading", "hw2"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the student was imported')")
    script = "import sys; sys.path.pop(0); from grading.__main__ import main; main()"  # as the installed command does
    line = f'cd {tmp_path} && {sys.executable} -c "{script}" faces {FACES} {FACES}'
    run = shell(line, PYTHONPATH=f":{ROOT}".lstrip(":"))
    assert run.returncode == 0, run.stderr


def test_without_linux_there_is_one_sentence():
    code = "import sys; sys.modules['fcntl'] = None; sys.argv = ['x', '--help']; import grading.__main__"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 2
    assert run.stderr == "hw2-grade: this program runs on Linux only; on Windows, use WSL 2.\n"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyError("x"), FAILED, ["explained KeyError"]),
        (RecursionError(), FAILED, ["explained RecursionError"]),
        (Ended(BrokenPipeError(32, "Broken pipe")), FAILED, ["explained BrokenPipeError"]),
        (Ended(KeyboardInterrupt("in copy")), 130, ["stopped in copy."]),
        (KeyboardInterrupt(), 130, ["stopped; run the same command again."]),
        (SystemExit(1), 1, []),
        (SystemExit("words"), FAILED, []),
        (SystemExit(None), 0, []),
    ],
)
def test_no_exception_ends_with_a_verdict(monkeypatch, error, status, said):
    monkeypatch.setattr("grading.cli.surroundings.heed_signals", lambda: None)
    streams = sys.stdout, sys.stderr

    def program():
        raise error

    with open(os.devnull, "w") as out, open(os.devnull, "w") as err:
        sys.stdout, sys.stderr = out, err
        complaints = []
        try:
            assert run(program, complaints.append, lambda error: f"explained {type(error).__name__}") == status
        finally:
            for stream in {sys.stdout, sys.stderr} - {out, err}:
                stream.close()
            sys.stdout, sys.stderr = streams
    assert complaints == said


def test_where_a_grading_was_stopped_is_told():
    def stopped(standing):
        with standing:
            for stage in ("copy", "fetch", "hw2_1.sh"):
                assert standing.begin(stage) == stage
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stop:
        stopped(Standing())
    assert str(stop.value) == (
        "in hw2_1.sh after 2 finished stages (copy, fetch); run the same command again to resume"
    )
    with pytest.raises(ZeroDivisionError), Standing():
        raise ZeroDivisionError


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_tells_where_the_run_stands(tmp_path, number, status):
    student = tmp_path / "student"
    student.mkdir()
    (student / "hw2_2.sh").write_text(f"touch '{tmp_path}/started'; sleep 60\n")
    data = ROOT / "fixtures" / "hw2_data"
    model = ROOT / "hw2" / "models" / "face_unet.safetensors"
    options = ["--public-only", "--problems", "2", "--trust", "--unet", model, "--output", tmp_path / "out"]
    command = [sys.executable, "-m", "grading", "submission", student, "--data", data, *options]
    grader = subprocess.Popen(
        list(map(str, command)), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    deadline = time.monotonic() + 90
    while not (tmp_path / "started").exists() and time.monotonic() < deadline and grader.poll() is None:
        time.sleep(0.1)
    grader.send_signal(number)
    said = grader.communicate(timeout=60)[1]
    assert grader.returncode == status, said
    assert "hw2-grade: stopped in " in said
    assert said.endswith("run the same command again to resume.\n")
