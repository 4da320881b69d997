import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import grading.sandbox.bubblewrap
from grading.core.errors import GradingError
from grading.sandbox.run import Sandbox, run_sandboxed
from tests.grading.sandboxed import ROOT, needs_sandbox, remove_left_over_groups, run


@pytest.fixture
def bwrap(monkeypatch):
    """Replace bubblewrap by a script, or by nothing if the script is None."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        own = Path(folder, "bwrap")

        def place(script: str | None) -> None:
            monkeypatch.setattr(shutil, "which", lambda name: str(own) if script is not None else None)
            own.write_text(f"#!/bin/sh\n{script}\n")
            own.chmod(0o755)
            grading.sandbox.bubblewrap._find_bubblewrap.cache_clear()

        yield place
    grading.sandbox.bubblewrap._find_bubblewrap.cache_clear()


def test_without_bubblewrap_strangers_code_is_not_run(folder, bwrap):
    bwrap(None)
    with pytest.raises(GradingError, match=r"not installed.*apt-get install bubblewrap.*trust the code") as error:
        run("touch ran", folder)
    assert error.value.option == "trust"
    assert "--" not in str(error.value)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("said", ["bubblewrap 0.6.1", "", "something else"])
def test_a_bubblewrap_that_lacks_what_is_needed_is_refused(folder, bwrap, said):
    bwrap(f'echo "{said}"')
    with pytest.raises(GradingError, match=r"expected bubblewrap 0\.8 or newer"):
        run("true", folder)


def test_a_bubblewrap_that_may_not_make_namespaces_is_quoted(folder, bwrap):
    bwrap(
        "[ $1 = --version ] && echo bubblewrap 0.9.0 && exit; echo bwrap: setting up uid map: Permission denied; exit 1"
    )
    with pytest.raises(GradingError, match=r"a sandbox here \(setting up uid map: Permission denied\); ") as error:
        run("true", folder)
    assert error.value.option == "trust"


@needs_sandbox
def test_relative_paths_are_those_of_the_caller(folder, monkeypatch):
    (folder / "sub").mkdir()
    (folder / "sub" / "here").touch()
    monkeypatch.chdir(folder)
    assert run("ls", Path("sub")).log == "here"


@needs_sandbox
def test_the_sandbox_shows_nothing_else_of_the_host(folder):
    hidden = [
        folder.parent / "secret",
        ROOT / "fixtures",
        ROOT / "grading",
        Path("/etc/passwd"),
        Path("/home"),
        Path("/var"),
    ]
    result = run("ls /; ls -d " + " ".join(map(str, hidden)) + " 2> /dev/null; ls /etc /tmp", folder)
    prefixes = {part for p in (sys.prefix, sys.base_prefix) for part in Path(p).parts[1:3]}  # this may be below /tmp
    system = {"bin", "dev", "etc", "lib", "lib32", "lib64", "output", "proc", "sbin", "submission", "sys", "tmp", "usr"}
    top, _, rest = result.log.partition("/etc:")
    assert set(top.split()) <= system | prefixes
    assert set(rest.replace("/tmp:", "").split()) <= {"alternatives", "fonts", "ld.so.cache", "localtime"} | prefixes


@needs_sandbox
def test_the_host_cannot_be_written(folder):
    (folder / "file").write_text("before")
    places = f"/submission/file /x /dev/x /usr/x /etc/x {sys.prefix}/x /sys/x /proc/sys/kernel/hostname"
    result = run(
        f"for p in {places}; do echo x > $p && echo WRITTEN $p; done; touch /tmp/a /output/a /dev/shm/a", folder
    )
    assert result.exit_status == 0
    assert "WRITTEN" not in result.log
    assert (folder / "file").read_text() == "before"


@needs_sandbox
def test_the_command_has_no_privileges(folder):
    status = run("cat /proc/self/status", folder).log
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert {fields[f"Cap{name}"].strip() for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert fields["NoNewPrivs"].strip() == "1"
    assert "0" not in fields["Uid"].split()
    assert run("echo /proc/[0-9]*", folder).log == "/proc/1 /proc/2"  # bubblewrap's init and the shell itself


@needs_sandbox
def test_the_environment_is_ours_to_choose(folder, monkeypatch):
    monkeypatch.setenv("SECRET", "CANARY")
    result = run("env; cat /proc/*/environ", folder, sandbox=Sandbox(environment={"CUDA_VISIBLE_DEVICES": "3"}))
    assert "CANARY" not in result.log
    assert "CUDA_VISIBLE_DEVICES=3" in result.log.splitlines()
    assert f"PATH={sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin" in result.log.splitlines()
    assert "CUDA_VISIBLE_DEVICES" not in run("env", folder).log


@needs_sandbox
def test_the_graders_python_runs_with_its_packages(folder):
    (folder / "own.py").write_text("HERE = 1")
    code = (
        "import numpy, own, sys, importlib.util as u; print(numpy.__version__, sys.prefix, bool(u.find_spec('torch')))"
    )
    import numpy

    result = run(f'python3 -c "{code}"', folder)
    assert result.log == f"{numpy.__version__} {sys.prefix} True"


@needs_sandbox
@pytest.mark.parametrize("place", ["submission/gt", "data/gt"])
def test_a_run_that_would_show_what_must_stay_hidden_is_refused(folder, place):
    secret = folder.parent / place
    sandbox = Sandbox(hidden=(secret,))
    with pytest.raises(GradingError, match=r"gt must stay hidden, but it is in .*, which runs can see; move it"):
        run("true", folder, inputs={"/data": folder.parent}, sandbox=sandbox)
    if place == "data/gt":
        assert run("true", folder, sandbox=sandbox).exit_status == 0


@needs_sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files can be closed to the user of the sandbox")
def test_inputs_that_only_staff_may_read_are_refused_before_the_run(folder):
    (folder.parent / "secret").chmod(0o600)
    with pytest.raises(
        GradingError, match=r"secret cannot be read by other users, so no run can read it; run chmod -R a\+rX on it"
    ):
        run("true", folder, inputs={"/data/secret": folder.parent / "secret"})


@needs_sandbox
def test_a_grader_that_is_killed_takes_the_run_with_it(folder):
    mark = f"hw2-orphan-{os.getpid()}"
    code = (
        "import sys; from pathlib import Path; from grading.sandbox.run import run_sandboxed; "
        f"run_sandboxed(['bash', '-c', 'setsid bash -c \"exec -a {mark} sleep 60\"'], submission=Path(sys.argv[1]))"
    )
    grader = subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT)

    def running() -> bool:
        found = subprocess.run(["pgrep", "-f", f"^{mark}"], capture_output=True)
        return found.returncode == 0

    def wait_until(state: bool) -> bool:
        deadline = time.monotonic() + 20
        while running() is not state and time.monotonic() < deadline:
            time.sleep(0.05)
        return running() is state

    try:
        assert wait_until(True)
    finally:
        grader.send_signal(signal.SIGKILL)
        grader.wait()
        for left in Path("/tmp").glob(f"hw2-grade-{grader.pid}-*"):  # where things were mounted for it alone
            (left / "mount").rmdir()
            left.rmdir()
    assert wait_until(False)
    remove_left_over_groups()


@needs_sandbox
def test_the_run_cannot_take_its_output_away(folder):
    result = run_sandboxed(["bash", "-c", "echo x > /output/a; chmod 000 /output; kill -9 1"], submission=folder)
    with result:
        assert (result.exit_status, result.log) == (0, "")
        if os.geteuid() == 0:
            assert os.listdir(result.output) == ["a"]
