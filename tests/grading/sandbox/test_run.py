import os
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from grading.core.errors import GradingError
from grading.sandbox.backend import Job
from grading.sandbox.cgroups import Found
from grading.sandbox.channel import Log, open_folder, open_pipe
from grading.sandbox.run import BACKENDS, SUBMISSION, Sandbox, run_sandboxed
from tests.grading.sandboxed import BOTH, SMALL, TRUSTED, needs_sandbox, run


@BOTH
def test_the_result_says_how_the_command_ended(folder, sandbox):
    result = run("echo out; echo err >&2; exit 3", folder, sandbox=sandbox)
    assert (result.exit_status, result.limit, result.log) == (3, "", "out\nerr")
    assert 0 < result.seconds < 5
    assert run("kill -TERM $$", folder, sandbox=sandbox).exit_status in (143, -15)
    result = run("sleep 100", folder, replace(SMALL, seconds=0.2), sandbox=sandbox)
    assert result.limit == "seconds"
    assert 0.2 <= result.seconds < 3


@BOTH
def test_a_run_that_the_kernel_killed_for_want_of_memory_is_not_the_submissions_doing(folder, sandbox, monkeypatch):
    monkeypatch.setattr("grading.sandbox.cgroups.find_groups", Found)
    assert run("kill -KILL $$", folder, sandbox=sandbox).exit_status in (137, -9)
    kills = iter([4, 5])
    monkeypatch.setattr("grading.sandbox.run.oom_kills", lambda: next(kills))
    with pytest.raises(GradingError, match="the machine ran out of memory"):
        run("kill -KILL $$", folder, sandbox=sandbox)


@BOTH
def test_the_output_folder_lives_until_it_is_let_go(folder, sandbox):
    command = ["bash", "-c", 'echo x > "$0/file"', "/output"]
    with run_sandboxed(command, submission=folder, sandbox=sandbox) as result:
        assert os.listdir(result.output) == ["file"]
    with pytest.raises(OSError):
        os.listdir(result.output)


def test_what_does_not_exist_cannot_be_given(folder):
    with pytest.raises(GradingError, match=r"nowhere does not exist, .* as /data; check the path"):
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


@BOTH
def test_scripts_start_in_the_submission_and_logs_name_the_paths_that_they_know(folder, sandbox):
    (folder / "here").touch()
    assert run("pwd; ls", folder, sandbox=sandbox).log.splitlines() == ["/submission", "here"]


class Pretended:
    """A backend whose command runs for as many seconds as its first word says, and prints the rest."""

    def __init__(self, job: Job, resources: ExitStack) -> None:
        self.job, self.calls = job, []
        reader, self.writer = open_pipe(resources)
        self.log = Log(reader)
        self.output = open_folder(str(job.folders[SUBMISSION]), resources)
        resources.callback(self.calls.append, "freed")
        made.append(self)

    @property
    def gpu_bytes(self) -> int | None:
        return None

    cpu, sees_kills = None, False

    def start(self) -> None:
        self.writer.write(" ".join(self.job.command[1:]).encode())
        self.left = float(self.job.command[0])

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        self.left -= seconds
        return self.left <= 0

    def exceeded(self) -> str:
        return "memory" if "greedy" in self.job.command and self.left < 59.9 else ""

    def kill(self) -> int:
        self.calls.append("killed")
        return 7


made: list[Pretended] = []


@pytest.mark.parametrize(
    ("command", "seconds", "limit"),
    [(["0.1", "word"], 5, ""), (["60", "word"], 0.1, "seconds"), (["60", "greedy"], 5, "memory")],
)
def test_another_backend_is_a_row_of_the_table(folder, monkeypatch, command, seconds, limit):
    monkeypatch.setitem(BACKENDS, "pretended", Pretended)
    made.clear()
    limits, sandbox = replace(SMALL, seconds=seconds), Sandbox(backend="pretended")
    with run_sandboxed(command, submission=folder, limits=limits, sandbox=sandbox) as result:
        assert (result.exit_status, result.limit, result.log) == (7, limit, command[1])
        assert made[0].calls == ["killed"]
    assert made[0].calls == ["killed", "freed"]
    assert result.seconds < 3


@pytest.mark.parametrize("name", ["trusted", "docker", ""])
def test_untrusted_code_runs_in_a_backend_that_protects_or_not_at_all(folder, name):
    with pytest.raises(GradingError, match="is not a backend for untrusted code; choose bubblewrap") as error:
        run("touch ran", folder, sandbox=Sandbox(backend=name))
    assert error.value.option == "backend"
    assert not (folder / "ran").exists()
