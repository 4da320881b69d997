"""`hw2` where streams are closed, terminals have no width, and signals come."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.commands import ROOT

HW2 = f"{sys.executable} -m hw2"


def shell(line, **variables):
    """A command line of bash; a variable that is None is not set."""
    changed = {name: value for name, value in (os.environ | variables).items() if value is not None}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, timeout=120, cwd=ROOT, env=changed
    )


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("--version >&-", 2, "hw2: the output could not be printed: stdout is closed\n"),
        ("--help >/dev/full", 2, "hw2: the output could not be printed: No space left on device\n"),
        ("doctor --quiet --verbose 2>/dev/full", 2, ""),
    ],
)
def test_what_could_not_be_printed_is_told_by_the_exit_status(line, status, said):
    run = shell(f"{HW2} {line}")
    assert (run.returncode, run.stdout, run.stderr) == (status, "", said)


def test_help_is_whole_without_a_width_and_without_docstrings():
    usual = shell(f"{HW2} --help", COLUMNS=None).stdout
    assert shell(f"{HW2} --help", COLUMNS="0", PYTHONOPTIMIZE="2").stdout == usual
    assert "faces" in usual
    assert "Draw the homework's 1000 digits" in shell(f"{HW2} digits sample --help", PYTHONOPTIMIZE="2").stdout


def test_without_linux_there_is_one_sentence():
    code = "import sys; sys.modules['fcntl'] = None; import hw2.__main__"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (run.returncode, run.stderr) == (2, "hw2: this program runs on Linux only; on Windows, use WSL 2\n")


def test_an_exception_that_nobody_expects_is_no_verdict():
    code = (
        "import hw2.__main__, sys\n"
        "def broken(): raise KeyError('surprise')\n"
        "hw2.__main__.app.registered_commands[0].callback = broken\n"
        "sys.argv = ['hw2', 'doctor']; hw2.__main__.main()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 2
    assert "KeyError: 'surprise'" in run.stderr
    assert run.stderr.endswith("hw2: this is a defect of hw2; please report it with the lines above\n")


@pytest.mark.long  # tests/hw2/test_main.py stops a run of tiny size
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_finished_faces_and_tells_how_to_resume(tmp_path, number):
    noise = ROOT / "fixtures" / "hw2_data" / "face" / "noise"
    model = ROOT / "hw2" / "models" / "face_unet.safetensors"
    options = ["--noise", noise, "--checkpoint", model, "--num-inference-steps", 500, "--output", tmp_path / "out"]
    command = [sys.executable, "-m", "hw2", "faces", "sample", "--device", "cpu", *options]
    run = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, cwd=ROOT)
    deadline = time.monotonic() + 90
    while not (tmp_path / "out").exists() and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.05)
    time.sleep(1)
    run.send_signal(number)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 128 + number, said
    assert said.endswith("hw2: stopped; run the same command again to resume\n")
