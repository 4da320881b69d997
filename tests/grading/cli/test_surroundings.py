"""`hw2-grade` where streams are closed, terminals have no width, and signals come: no status 0 or 1 by accident."""

import os
import signal
import subprocess
import sys
import time

import pytest

from grading.cli.surroundings import FAILED, SIZES, Ended, Standing, run
from tests.commands import ROOT
from tests.grading.here import grade_here
from tests.grading.plain_digits import save

FACES = ROOT / "fixtures" / "hw2_data" / "face" / "GT"
GRADE = f"{sys.executable} -m grading"
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
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
        ("explain mse >&-", 2, f"{NO_RESULT}stdout is closed.\n"),
        ("explain mse <&- >&- 2>&-", 2, ""),
        ("faces FACE FACE --json - >/dev/full", 2, f"{NO_RESULT}No space left on device.\n"),
        ("faces nowhere nowhere 2>/dev/full", 2, ""),
        ("faces FACE FACE | true", 141, ""),
    ],
)
def test_what_could_not_be_printed_is_no_verdict(face, line, status, said):
    run = shell(f"{GRADE} {line.replace('FACE', str(face))}")
    assert (run.returncode, run.stdout, run.stderr) == (status, "", said)


@pytest.mark.parametrize("line", ["2>/dev/full", "2>&- <&-"])
def test_a_verdict_stays_where_only_stderr_or_stdin_is_lost(face, line):
    run = shell(f"{GRADE} faces {face} {face} {line}")
    assert run.returncode == 0
    assert "verdict  pass" in run.stdout


@pytest.fixture
def face(tmp_path):
    """A folder with one face."""
    save(tmp_path / "face" / "00.png", 100, size=8)
    return tmp_path / "face"


@pytest.fixture
def usual(monkeypatch):
    """What a command prints where nothing is odd."""

    def usual(*arguments):
        with monkeypatch.context() as patch:
            for name in SIZES:
                patch.delenv(name, raising=False)
            return grade_here(*arguments).stdout

    return usual


@pytest.mark.parametrize("size", ["0", "1", "9" * 30])
def test_a_width_that_cannot_be_is_ignored(usual, size):
    odd = grade_here("explain", "mse", variables={"COLUMNS": size})
    assert (odd.returncode, odd.stdout) == (0, usual("explain", "mse"))
    assert "mean" in odd.stdout
    assert grade_here("--help", variables={"COLUMNS": size}).stdout == usual("--help")


def test_help_is_whole_without_docstrings_and_in_a_terminal_of_no_width(usual):
    """Typer reads its width when it is loaded, and so does a process of its own."""
    odd = shell(f"{GRADE} --help", PYTHONOPTIMIZE="2", COLUMNS="x", TERMINAL_WIDTH="x")
    assert odd.stdout.partition("[OPTIONS]")[1:] == usual("--help").partition("[OPTIONS]")[1:]
    assert "Exit status" in odd.stdout


def test_neither_a_home_nor_a_name_is_needed():
    other_user = os.geteuid() == 0 and os.access(sys.executable, os.X_OK)  # only root can become another user
    user = "setpriv --reuid=12345 --regid=12345 --clear-groups " if other_user else ""
    run = shell(f"{user}{GRADE} faces {FACES} {FACES}", HOME=None, PYTHONDONTWRITEBYTECODE="1")
    if user and any(sign in run.stderr for sign in ("Permission denied", "No module named", "loading shared")):
        pytest.skip("another user cannot reach this checkout or its packages")
    assert (run.returncode, run.stderr) == (0, "")


def test_a_current_folder_that_was_deleted_is_told(tmp_path):
    line = f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && {GRADE} explain mse"
    run = shell(line, PYTHONPATH=str(ROOT))
    assert (run.returncode, run.stderr) == (2, "hw2-grade: the current folder was deleted; change to another one.\n")


def test_modules_of_a_students_folder_are_not_imported(tmp_path):
    for name in ("random", "json", "numpy", "torch", "grading", "hw2"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the student was imported')")
    script = "import sys; sys.path.pop(0); from grading.__main__ import main; main()"  # as the installed command does
    line = f'cd {tmp_path} && {sys.executable} -c "{script}" explain mse'
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
def test_no_exception_ends_with_a_verdict(ended, error, status, said):
    def program():
        raise error

    assert ended(program) == (status, said)


@pytest.fixture
def ended(monkeypatch):
    """The exit status of a program, and what it complained of."""

    def ended(program):
        complaints = []
        with open(os.devnull, "w") as out, open(os.devnull, "w") as err, monkeypatch.context() as patch:
            patch.setattr("sys.stdout", out)
            patch.setattr("sys.stderr", err)
            patch.setattr("grading.cli.surroundings._stopped", [])
            try:
                status = run(program, complaints.append, lambda error: f"explained {type(error).__name__}")
            finally:
                for stream in {sys.stdout, sys.stderr} - {out, err}:
                    stream.close()
        return status, complaints

    before = {number: signal.getsignal(number) for number, _ in SIGNALS}
    yield ended
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_every_signal_has_its_status(ended, number, status):
    assert ended(lambda: signal.raise_signal(number)) == (status, ["stopped; run the same command again."])


def test_an_ignored_signal_stays_ignored(ended):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def program():
        signal.raise_signal(signal.SIGHUP)
        sys.exit(0)

    assert ended(program) == (0, [])


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


def test_a_signal_tells_where_the_run_stands(tmp_path):
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
    grader.send_signal(signal.SIGTERM)
    said = grader.communicate(timeout=60)[1]
    assert grader.returncode == 143, said
    assert "hw2-grade: stopped in " in said
    assert said.endswith("run the same command again to resume.\n")
