import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import grading.sandbox.run
from grading.core.errors import GradingError
from grading.sandbox.run import SUBMISSION, Limits, RunResult, Sandbox, run_sandboxed
from tests.grading.sandboxed import ROOT, SMALL, needs_sandbox

TRUSTED = Sandbox(trust=True)


@pytest.fixture
def folder(tmp_path):
    """A submission, and a secret beside it."""
    (tmp_path / "secret").write_text("CANARY")
    folder = tmp_path / "submission"
    folder.mkdir()
    return folder


def run(script: str, folder: Path, limits: Limits = SMALL, **options) -> RunResult:
    with run_sandboxed(["bash", "-c", script], submission=folder, limits=limits, **options) as result:
        return result


@pytest.fixture
def bwrap(monkeypatch):
    """Put a bubblewrap in the way that does what a script says; None for none at all."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        own = Path(folder, "bwrap")

        def place(script: str | None) -> None:
            monkeypatch.setattr(shutil, "which", lambda name: str(own) if script is not None else None)
            own.write_text(f"#!/bin/sh\n{script}\n")
            own.chmod(0o755)
            grading.sandbox.run._find_bubblewrap.cache_clear()

        yield place
    grading.sandbox.run._find_bubblewrap.cache_clear()


def test_without_bubblewrap_strangers_code_is_not_run(folder, bwrap):
    bwrap(None)
    with pytest.raises(GradingError, match=r"not installed.*apt-get install bubblewrap.*--trust"):
        run("touch ran", folder)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("said", ["bubblewrap 0.6.1", "", "something else"])
def test_a_bubblewrap_that_lacks_what_is_needed_is_refused(folder, bwrap, said):
    bwrap(f'echo "{said}"')
    with pytest.raises(GradingError, match=r"expected bubblewrap 0\.8 or newer"):
        run("true", folder)


def test_a_bubblewrap_that_may_not_make_namespaces_is_told_with_its_own_words(folder, bwrap):
    bwrap(
        "[ $1 = --version ] && echo bubblewrap 0.9.0 && exit; echo bwrap: setting up uid map: Permission denied; exit 1"
    )
    with pytest.raises(GradingError, match=r"\(setting up uid map: Permission denied\); allow unprivileged user names"):
        run("true", folder)


def test_trusted_code_needs_no_bubblewrap(folder, monkeypatch):
    monkeypatch.setattr(grading.sandbox.run, "_find_bubblewrap", lambda: 1 / 0)
    assert run("echo hello", folder, sandbox=TRUSTED).log == "hello"


@pytest.mark.parametrize("sandbox", [TRUSTED, pytest.param(Sandbox(), marks=needs_sandbox)], ids=["trusted", "held"])
def test_the_result_says_how_the_command_ended(folder, sandbox):
    result = run("echo out; echo err >&2; exit 3", folder, sandbox=sandbox)
    assert (result.exit_status, result.limit, result.timed_out, result.log) == (3, "", False, "out\nerr")
    assert 0 < result.seconds < 5
    assert run("kill -TERM $$", folder, sandbox=sandbox).exit_status in (143, -15)
    result = run("sleep 100", folder, replace(SMALL, seconds=0.2), sandbox=sandbox)
    assert (result.limit, result.timed_out) == ("seconds", True)
    assert 0.2 <= result.seconds < 3


@pytest.mark.parametrize("sandbox", [TRUSTED, pytest.param(Sandbox(), marks=needs_sandbox)], ids=["trusted", "held"])
def test_the_output_folder_lives_until_it_is_let_go(folder, sandbox):
    command = ["bash", "-c", 'echo x > "$0/file"', "/output"]
    with run_sandboxed(command, submission=folder, sandbox=sandbox) as result:
        assert os.listdir(result.output) == ["file"]
    with pytest.raises(OSError):
        os.listdir(result.output)


def test_a_trusted_commands_paths_become_those_outside_and_nothing_else_does(folder):
    command = ["echo", "/data", "/data/x", "/database", "a/data", "/submission/hw2.py"]
    with run_sandboxed(command, submission=folder, inputs={"/data": folder.parent}, sandbox=TRUSTED) as result:
        assert result.log == f"{folder.parent} {folder.parent}/x /database a/data {folder}/hw2.py"


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
    assert run("ls /proc | grep -c '^[0-9]'", folder).log in ("4", "5")


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
    with pytest.raises(GradingError, match=r"gt must stay hidden, but lies in .*, which runs can see"):
        run("true", folder, inputs={"/data": folder.parent}, sandbox=sandbox)
    if place == "data/gt":
        assert run("true", folder, sandbox=sandbox).exit_status == 0


@needs_sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files can be closed to the user of the sandbox")
def test_inputs_that_only_staff_may_read_are_told_before_the_run(folder):
    (folder.parent / "secret").chmod(0o600)
    with pytest.raises(GradingError, match=r"secret cannot be read by other users; chmod -R a\+rX it"):
        run("true", folder, inputs={"/data/secret": folder.parent / "secret"})


@needs_sandbox
def test_gpu_devices_are_passed_where_there_are_any(folder):
    there = sorted(str(path) for path in Path("/dev").glob("nvidia*"))
    assert run("ls -d /dev/nvidia* 2> /dev/null", folder, sandbox=Sandbox(gpu=True)).log.split() == there
    assert run("ls -d /dev/nvidia* 2> /dev/null", folder).log == ""


@needs_sandbox
def test_the_kernel_holds_the_limit_on_processes_even_if_nobody_looks(folder, monkeypatch):
    monkeypatch.setattr(grading.sandbox.run, "TICK", 5)
    (folder / "bomb.py").write_text(
        textwrap.dedent("""
        import os, time
        for n in range(200):
            try:
                if os.fork() == 0:
                    time.sleep(0.5)
                    os._exit(0)
            except BlockingIOError:
                break
        print(n)
        """)
    )
    assert 50 < int(run("python3 bomb.py", folder).log) < 64


@needs_sandbox
def test_memory_is_that_of_all_processes_together(folder):
    each = "python3 -c 'x = b\"x\" * (100 << 20); import time; time.sleep(2)' &"
    assert run(f"{each * 4} wait", folder).limit == "memory"


@needs_sandbox
def test_memory_that_processes_share_counts_once(folder):
    (folder / "fork.py").write_text(
        textwrap.dedent("""
        import os, time
        x = b"x" * (100 << 20)
        for _ in range(4):
            if os.fork() == 0:
                time.sleep(0.5)
                os._exit(0)
        for _ in range(4):
            os.wait()
        """)
    )
    assert run("python3 fork.py", folder).limit == ""


@needs_sandbox
def test_files_in_memory_count_as_memory(folder):
    limits = replace(SMALL, file_bytes=2**30)
    fill = "head -c 30M /dev/zero > /tmp/a; head -c 30M /dev/zero > /dev/shm/a; sleep 2"
    assert run(fill, folder, replace(limits, memory_bytes=50 * 2**20)).limit == "memory"
    assert run("head -c 40M /dev/zero > /tmp/a", folder, limits).limit == "space"


@needs_sandbox
def test_every_sandbox_has_its_own_count_of_processes(folder):
    script = "for _ in $(seq 40); do sleep 0.5 & done; wait"
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: run(script, folder), range(3)))
    assert [result.limit for result in results] == ["", "", ""]


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


@needs_sandbox
def test_the_run_cannot_take_its_output_away(folder):
    result = run_sandboxed(["bash", "-c", "echo x > /output/a; chmod 000 /output; kill -9 1"], submission=folder)
    with result:
        assert (result.exit_status, result.log) == (0, "")
        if os.geteuid() == 0:
            assert os.listdir(result.output) == ["a"]


def test_a_log_shows_what_a_terminal_would_and_cannot_steer_one(folder):
    script = r"""printf 'a\r50%%\r100%%\nb\033[31mred\tend\r\n\xff'"""
    assert run(script, folder, sandbox=TRUSTED).log == "100%\nb\\x1b[31mred       end\n\ufffd"


def test_a_long_log_keeps_its_beginning_and_its_end(folder):
    log = run("seq 100000", folder, sandbox=TRUSTED).log.splitlines()
    assert log[:3] == ["1", "2", "3"]
    assert log[-2:] == ["99999", "100000"]
    cut = [line for line in log if line.endswith("bytes left out ..]")]
    assert int(cut[0].split()[1]) == sum(len(f"{i}\n") for i in range(1, 100_001)) - 16 * 2**10


def test_what_does_not_exist_cannot_be_given(folder):
    with pytest.raises(GradingError, match="nowhere does not exist"):
        run("true", folder, inputs={"/data": folder / "nowhere"})


def test_a_run_leaves_no_descriptors_and_no_processes(folder):
    sandboxes = [TRUSTED] + ([] if needs_sandbox.args[0] else [Sandbox()])
    for sandbox in sandboxes:
        run("true", folder, sandbox=sandbox)
        before = os.listdir("/proc/self/fd")
        run("sleep 60 & exit 0", folder, sandbox=sandbox)
        assert len(os.listdir("/proc/self/fd")) == len(before)
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        assert not children.exists() or not [c for c in children.read_text().split() if _is_ours(c)]


def _is_ours(process: str) -> bool:
    return b"bwrap" in Path("/proc", process, "cmdline").read_bytes()


def test_the_submission_is_where_scripts_start(folder):
    assert SUBMISSION == "/submission"
    assert json.dumps(run("pwd", folder, sandbox=TRUSTED).log) == json.dumps(str(folder))
