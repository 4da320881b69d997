import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from grading.core.errors import GradingError
from grading.core.results import Part, StageResult
from grading.files.decode import read_images
from grading.files.images import ImageRefused
from grading.files.texts import read_texts
from grading.homeworks.fall2024 import FALL2024
from grading.sandbox.routes import own_addresses
from grading.sandbox.run import HOME, SUBMISSION, UID, Limits, Sandbox, run_sandboxed
from grading.submission.near_misses import visible_files
from grading.submission.provenance import listing_hash
from grading.submission.stages import (
    Workplace,
    compare_runs,
    copy_submission,
    fetch,
    freeze,
    run_script,
)
from tests.grading.deep import deep_place, nest
from tests.grading.sandboxed import ATTACKS, BOTH, SMALL, needs_network, needs_sandbox

TRUSTED = Sandbox(trust=True)
HOSTS_NETWORK = Sandbox(host_network=True)
"""For downloads that need no network, on machines where they can have none of their own."""

OURS = "The grader could not check this"


def greet(server: socket.socket) -> None:
    while True:
        try:
            with server.accept()[0] as caller:
                caller.sendall(b"hello")
        except OSError:
            return


class World:
    """One submission at work, and everything around it that it should leave alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output"
        self.workplace = Workplace(folder / "work")
        self.ground_truth = folder / "data" / "canary.png"
        self.results = folder / "results.json"
        self.python = folder / "python"
        self.site = self.python / "lib" / "site-packages"
        for parent in (self.ground_truth.parent, self.site):
            parent.mkdir(parents=True)
        self.ground_truth.write_bytes(b"the ground truth")
        self.results.write_text('{"score": 0}')
        self.mark = f"hw2-sleeper-{os.getpid()}"
        self.victim = subprocess.Popen(["sleep", "120"])
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(120)
        threading.Thread(target=greet, args=[self.server], daemon=True).start()

    def close(self) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.victim.kill()
        self.victim.wait()
        for process in self.sleepers():
            os.kill(process, 9)

    def sleepers(self) -> list[int]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if line.startswith(self.mark.encode()):
                found.append(int(folder.name))
        return found

    def written(self, name: str) -> bytes:
        path = self.output / name
        return path.read_bytes() if path.exists() else b""

    def run(self, attack: str, sandbox: Sandbox, limits: Limits = SMALL) -> StageResult:
        assert copy_submission(ATTACKS / attack, self.workplace).status == "pass"
        (self.workplace.submission / "targets").write_text(
            f"GROUND_TRUTH='{self.ground_truth}'\nRESULTS='{self.results}'\nSITE='{self.site}'\nMARK='{self.mark}'\n"
            f"PORT={self.server.getsockname()[1]}\nVICTIM={self.victim.pid}\n"
        )
        shutil.rmtree(self.output, ignore_errors=True)
        return ran(self.workplace, 1, {}, self.output, sandbox, limits)


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


# What shows that an attack succeeded, and what the student reads if it did not.
EXPECTED: dict[str, tuple[Callable[[World], bool], str]] = {
    "fork_bomb": (
        lambda w: int(w.written("alive") or 0) == 400,
        r"hw2_1\.sh was stopped: it started 64 processes and threads at once, which is the limit\.",
    ),
    "memory_bomb": (
        lambda w: bool(w.written("done")),
        r"hw2_1\.sh was stopped: it used more than 256 MiB of memory\.",
    ),
    "unmapped_memory": (
        lambda w: w.written("held") == b"memfd System V",
        r"hw2_1\.sh was stopped: it used more than 256 MiB of memory\.",
    ),
    "disk_filler": (
        lambda w: bool(w.written("done")),
        r"hw2_1\.sh was stopped: it wrote more than 32 MiB to one place\.",
    ),
    "huge_file": (
        lambda w: w.refused == ["huge has 20971520 bytes; at most 16777216 are read."],
        r"hw2_1\.sh was stopped: it wrote a file of more than 18 MiB\.",
    ),
    "inode_filler": (
        lambda w: bool(w.written("done")),
        r"hw2_1\.sh was stopped: it made more than 1000 files in one place\.",
    ),
    "sleeper": (lambda w: bool(w.sleepers()), r"hw2_1\.sh ran to its end in \d+\.\d s and wrote nothing\."),
    "read_ground_truth": (lambda w: w.written("stolen") == b"the ground truth", "ended with exit status 1"),
    "write_results": (lambda w: "100" in w.results.read_text(), "ended with exit status 1"),
    "network": (lambda w: w.written("heard") == b"hello", "ended with exit status 1"),
    "steal_environment": (lambda w: b"CANARY" in w.written("secret"), "ended with exit status 1"),
    "kill_grader": (lambda w: w.victim.poll() is not None, "ended with exit status 1"),
    "startup_files": (lambda w: (w.site / "sitecustomize.py").exists(), "ended with exit status 1"),
    "new_namespaces": (lambda w: bool(w.written("done")), "ended with exit status 1"),
    "system_calls": (lambda w: bool(w.written("answered").strip()), "ended with exit status 1"),
    "pickle_checkpoint": (lambda w: "owned" in w.results.read_text(), r"hw2_1\.sh ran to its end"),
}


@needs_sandbox
@pytest.mark.parametrize("attack", EXPECTED)
def test_an_attack_succeeds_where_it_is_trusted_and_not_in_the_sandbox(world, monkeypatch, attack):
    succeeded, sentence = EXPECTED[attack]
    monkeypatch.setenv("SECRET", "CANARY")
    world.refused = world.run(attack, TRUSTED).refused
    assert succeeded(world)

    world.results.write_text('{"score": 0}')
    for path in world.site.iterdir():
        path.unlink()
    if world.victim.poll() is not None:
        world.victim = subprocess.Popen(["sleep", "120"])
    for process in world.sleepers():
        os.kill(process, 9)
    while world.sleepers():
        pass

    held = world.run(attack, Sandbox(python=world.python) if attack == "startup_files" else Sandbox())
    world.refused = held.refused
    assert not succeeded(world)
    assert held.status == ("pass" if "ran to its end" in sentence.replace("\\", "") else "fail")
    assert re.search(sentence, held.message)

    usual = world.run("harmless", Sandbox())
    assert (usual.status, list(usual.files)) == ("pass", ["0_001.png"])
    assert usual.log == "sampling 1 digit"


@needs_sandbox
def test_a_submission_that_rewrites_itself_finds_nothing_of_it_in_the_next_run(world):
    assert copy_submission(ATTACKS / "rewrite_itself", world.workplace).status == "pass"
    copy = world.workplace.submission
    assert ran(world.workplace, 1, {}, world.output / "first").status == "pass"
    assert not (copy / "answers.txt").exists()
    run_sandboxed(["bash", "hw2_1.sh"], submission=copy, writable={SUBMISSION: copy}).close()  # not protected
    assert (copy / "answers.txt").exists()


def lending_rights(folder: Path) -> list[str]:
    """The names of a folder's files that run as their owner, at any depth."""
    found = subprocess.run(["find", folder, "-type", "f", "-perm", "/7000", "-printf", "%f\n"], capture_output=True)
    return found.stdout.decode().split()


@needs_sandbox
def test_a_download_leaves_no_program_that_lends_the_rights_of_its_owner(world, monkeypatch):
    assert copy_submission(ATTACKS / "setuid_files", world.workplace).status == "pass"
    with monkeypatch.context() as without:
        without.setattr("grading.submission.stages._sweep", lambda workplace: None)
        assert fetch(world.workplace, HOSTS_NETWORK).status == "pass"
        copy = world.workplace.submission
        if os.geteuid() == 0:
            assert (copy / "locked").stat().st_mode & 0o777 == 0
            assert lending_rights(copy) == ["helper"] * 3
    assert copy_submission(ATTACKS / "setuid_files", world.workplace).status == "pass"  # in place of closed folders
    assert fetch(world.workplace, HOSTS_NETWORK).status == "pass"
    assert lending_rights(copy) == []
    assert (copy / "helper").exists()
    assert (copy / "locked" / "in" / "helper").stat().st_mode & 0o7777 == 0o755
    frozen = freeze(world.workplace)
    assert (frozen.status, "locked/in/helper" in frozen.files) == ("pass", True)
    assert ran(world.workplace, 1, {}, world.output).message.startswith("hw2_1.sh ran to its end")


@needs_sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_no_other_user_reaches_what_a_download_leaves(monkeypatch):
    asked = "mkdir -p ~/in; cp /usr/bin/id ~/in/helper; chmod 4755 ~/in/helper; chmod 777 ~ ~/in"
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", '"$0" -u']
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        workplace = at_work(Path(folder), hw2_download_ckpt=asked)
        monkeypatch.setattr("grading.submission.stages._sweep", lambda workplace: None)  # as while the download runs
        assert fetch(workplace, HOSTS_NETWORK).status == "pass"

        def user() -> str:
            helper = workplace.home / "in" / "helper"
            return subprocess.run([*other, helper], capture_output=True, text=True).stdout.strip()

        assert user() == ""
        workplace.path.chmod(0o755)  # not protected
        assert user() == str(UID)


def by_paths(folder: Path, _most: int) -> tuple[int, int]:
    """What a walk by paths finds: bytes and number of files."""
    files = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
    return sum(path.stat().st_blocks * 512 for path in files), len(files)


@needs_sandbox
def test_a_download_hides_no_disk_space_below_the_longest_path(world, monkeypatch):
    def downloaded() -> StageResult:
        assert copy_submission(ATTACKS / "deep_hides_space", world.workplace).status == "pass"
        return fetch(world.workplace, HOSTS_NETWORK, SMALL)

    held = downloaded()
    assert held.status == "fail"
    assert held.message == "hw2_download_ckpt.sh was stopped: it wrote more than 32 MiB to one place."
    assert freeze(world.workplace).status == "pass"
    monkeypatch.setattr("grading.sandbox.limits.usage", by_paths)  # not protected
    assert downloaded().status == "pass"
    world.workplace.discard()
    assert not world.workplace.path.exists()


@needs_sandbox
def test_what_a_download_writes_last_is_counted_as_well(world, monkeypatch):
    monkeypatch.setattr("grading.sandbox.limits.DISK_INTERVAL", 60.0)
    workplace = at_work(world.folder, hw2_download_ckpt="sleep 0.3; head -c 17M /dev/zero > a; head -c 17M a > b")
    held = fetch(workplace, HOSTS_NETWORK, SMALL)
    assert held.message == "hw2_download_ckpt.sh was stopped: it wrote more than 32 MiB to one place."


@needs_sandbox
def test_a_submission_and_its_download_may_be_deep_without_any_error(world, monkeypatch):
    with deep_place() as place:
        source = place / "source"
        source.mkdir()
        nest(source, 1200)
        nest(source, 30, "n" * 255, b"deep")
        (source / "hw2_1.sh").write_text("echo > $1/0_001.png")
        (source / "hw2_download_ckpt.sh").write_text(
            "python3 -c \"import os\nfor _ in range(1500): os.mkdir('x'); os.chdir('x')\nopen('y', 'w')\""
        )
        workplace = Workplace(place / "work")
        first = listing_hash(source)
        copied = copy_submission(source, workplace)
        folders = "/".join(["d"] * 33)
        assert copied.refused == [f"{folders} is a folder at depth 33; folders are searched to depth 32."]
        assert (copied.status, len(copied.files)) == ("pass", 3)
        for _ in range(2):
            assert fetch(workplace, HOSTS_NETWORK).status == "pass"
            assert freeze(workplace).status == "pass"
            assert visible_files(workplace.submission) == ["hw2_1.sh", "hw2_download_ckpt.sh"]
            assert read_texts(workplace.submission, (".sh",)).keys() == {"hw2_1.sh", "hw2_download_ckpt.sh"}
            assert ran(workplace, 1, {}, world.output / "overlay").status == "pass"
            with monkeypatch.context() as without:
                without.setattr("grading.sandbox.bubblewrap.can_overlay", lambda job: False)
                assert ran(workplace, 1, {}, world.output / "copy").status == "pass"
            shutil.rmtree(world.output)
            assert copy_submission(source, workplace).status == "pass"
        assert listing_hash(source) == first
        workplace.discard()
        assert os.listdir(place) == ["source"]


def test_every_attack_has_a_test():
    own = {"rewrite_itself", "setuid_files", "harmless", "endless_output", "endless_run", "hostile_output"}
    own |= {"deep_hides_space", "cpu_hog", "reach_host", "reference_solution", "learn_private"}  # tests/grading/sandbox
    own.add("picture_bombs")  # test_submission.py
    assert {path.name for path in ATTACKS.iterdir() if path.is_dir()} == EXPECTED.keys() | own


@needs_sandbox
@pytest.mark.parametrize("sandbox", [TRUSTED, Sandbox()], ids=["trusted", "sandboxed"])
@pytest.mark.parametrize("attack", ["endless_run", "endless_output"])
def test_what_never_ends_is_stopped_in_time_and_its_log_is_bounded(world, attack, sandbox):
    result = world.run(attack, sandbox, replace(SMALL, seconds=0.5))
    assert (result.status, result.limit) == ("fail", "seconds")
    assert result.message == "hw2_1.sh was stopped: it ran longer than 0.5 seconds."
    assert 0.5 <= result.seconds < 3
    if attack == "endless_output":
        assert re.search(r"bytes left out", result.log)
        assert result.log.startswith("PASS score 100\n")
        assert len(result.log) < 20_000


def test_endless_output_would_fill_the_memory_of_a_plain_grader():
    with pytest.raises(subprocess.TimeoutExpired) as stopped:
        subprocess.run(["bash", ATTACKS / "endless_output" / "hw2_1.sh"], capture_output=True, timeout=0.3)
    assert len(stopped.value.stdout) > 2**20


@needs_sandbox
def test_hostile_files_are_refused_one_by_one_and_the_others_kept_whatever_their_names(world):
    result = world.run("hostile_output", TRUSTED)
    assert list(result.files) == [
        "\x1b[31mred.png", "-rf", "..\\..\\windows.png", "0_001.png", "new\nline.png", "not-utf8-\udcff.png",
    ]  # fmt: skip
    expected = {
        "0_002.png": "0_002.png is a link; expected the file itself.",
        "0_003.png": "0_003.png is a pipe, socket or device; expected a file.",
        "0_004.png": "0_004.png is a pipe, socket or device; expected a file.",
        "0_005.png": "0_005.png is one of 2 names of the same file (a hard link); expected a file of its own.",
        "0_006.png": "0_006.png is one of 2 names of the same file (a hard link); expected a file of its own.",
        "0_007.png": "0_007.png is one of 2 names of the same file (a hard link); expected a file of its own.",
        "0_009.png": "0_009.png has 17825792 bytes; at most 16777216 are read.",
        "a/b/c/d/e": "a/b/c/d/e is a folder at depth 5; folders are searched to depth 4.",
        "mnistm": "mnistm is a link; expected the file itself.",
    }
    if os.geteuid() != 0:  # only root makes devices
        del expected["0_004.png"]
    assert {sentence.split()[0]: sentence for sentence in result.refused} == expected
    held = world.run("hostile_output", Sandbox())
    assert held.files.keys() == result.files.keys()
    beyond_reach = {"0_004.png", "0_005.png"}  # neither a device nor a link to another file system can be made there
    assert {s.split()[0] for s in held.refused} == {s.split()[0] for s in result.refused} - beyond_reach
    assert not any(b"ground truth" in path.read_bytes() for path in world.output.rglob("*") if path.is_file())


def submission(folder: Path, **scripts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in scripts.items():
        (folder / f"{name}.sh").write_text(text)
    return folder


def ran(workplace: Workplace, number: int, data: dict[str, Path], output: Path, *rest) -> StageResult:
    problem = FALL2024.problem(number)
    return run_script(workplace, problem, problem.parts[0], data, output, *rest)


def at_work(tmp_path: Path, **scripts: str) -> Workplace:
    workplace = Workplace(tmp_path / "work")
    assert copy_submission(submission(tmp_path / "student", **scripts), workplace).status == "pass"
    return workplace


@needs_sandbox
def test_scripts_get_the_official_arguments_as_absolute_paths(tmp_path):
    echo = 'for a in "$@"; do echo "$a"; test -e "$a" || exit 9; done; pwd'
    workplace = at_work(tmp_path, hw2_1=echo, hw2_2=echo, hw2_3=echo)
    inputs = {1: [], 2: ["noise", "UNet.pt"], 3: ["input.json", "model.ckpt"]}
    for name in inputs[2] + inputs[3]:
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o755)
    (tmp_path / "noise" / "00.pt").touch()
    for number, arguments in {  # slides p35-38
        1: ["/output"],
        2: ["/data/noise", "/output", "/data/UNet.pt"],
        3: ["/data/input.json", "/output", "/data/model.ckpt"],
    }.items():
        result = ran(workplace, number, {n: tmp_path / n for n in inputs[number]}, tmp_path / str(number))
        assert result.log.splitlines() == [*arguments, "/submission"]
        assert result.status == "pass"


def test_a_trusted_script_gets_the_same_paths_as_they_are_outside(tmp_path):
    workplace = at_work(tmp_path, hw2_2='ls "$1"; cat "$3"; echo x > "$2/00.png"')
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "00.pt").write_text("")
    (tmp_path / "UNet.pt").write_text("weights")
    data = {"noise": tmp_path / "noise", "UNet.pt": tmp_path / "UNet.pt"}
    result = ran(workplace, 2, data, tmp_path / "out", TRUSTED)
    assert (result.status, result.log) == ("pass", "00.pt\nweights")
    assert (tmp_path / "out" / "00.png").read_text() == "x\n"


@needs_sandbox
def test_inputs_are_read_only_and_what_is_written_beside_the_code_is_thrown_away(tmp_path):
    workplace = at_work(tmp_path, hw2_3='ls; ls ~; echo x >> "$1"; echo x >> "$3"; echo x > own; echo x > ~/own')
    before = freeze(workplace).files
    data = {"input.json": tmp_path / "input.json", "model.ckpt": tmp_path / "model.ckpt"}
    for path in data.values():
        path.write_text("before")
        path.chmod(0o666)
    for again in ("first", "second"):
        result = ran(workplace, 3, data, tmp_path / again)
        assert result.status == "pass"
        assert result.log.splitlines()[0] == "hw2_3.sh"
        assert result.log.count("\n") == result.log.count("Read-only file system") == 2
    assert freeze(workplace).files == before
    assert os.listdir(workplace.home) == []
    assert sorted(os.listdir(workplace.path)) == ["home", "submission"]
    assert [path.read_text() for path in data.values()] == ["before", "before"]


def test_the_official_time_holds_even_if_more_is_allowed(tmp_path):
    workplace = at_work(tmp_path, hw2_1="sleep 100")
    hasty = replace(FALL2024.problem(1), seconds=0.3)
    result = run_script(workplace, hasty, Part.WHOLE, {}, tmp_path / "out", TRUSTED, Limits(seconds=1000))
    assert result.message == "hw2_1.sh was stopped: it ran longer than 0.3 seconds."
    result = run_script(workplace, hasty, Part.WHOLE, {}, tmp_path / "twice", TRUSTED, Limits(seconds=1000), 2)
    assert result.message.endswith("it ran longer than 0.6 seconds (the official 0.3 seconds x 2).")
    assert result.seconds > 0.5


@needs_sandbox
def test_what_a_failed_script_wrote_is_collected_all_the_same(tmp_path):
    workplace = at_work(tmp_path, hw2_1='echo x > "$1/a.png"; echo "no weights" >&2; exit 7')
    result = ran(workplace, 1, {}, tmp_path / "out")
    assert (result.status, result.exit_status, list(result.files)) == ("fail", 7, ["a.png"])
    assert result.message == "hw2_1.sh ended with exit status 7; its last line is: no weights."
    assert result.log == "no weights"


def test_a_missing_script_is_the_students_failure_and_missing_data_is_ours(tmp_path):
    workplace = at_work(tmp_path, hw2_2="true")
    result = ran(workplace, 1, {}, tmp_path / "out", TRUSTED)
    assert result.status == "fail"
    assert result.message == "hw2_1.sh is missing; expected it in the submission's top folder."
    result = ran(workplace, 2, {"noise": tmp_path}, tmp_path / "out", TRUSTED)
    assert (result.status, result.message) == (
        "error",
        f"{OURS}: hw2_2.sh needs UNet.pt, but no path is set; add it to the inputs.",
    )
    (tmp_path / "00.pt").touch()
    nowhere = {"noise": tmp_path, "UNet.pt": tmp_path / "nowhere"}
    result = ran(workplace, 2, nowhere, tmp_path / "out", TRUSTED)
    assert result.status == "error"
    assert "nowhere does not exist" in result.message


def test_a_fault_of_ours_is_never_the_students(tmp_path, monkeypatch):
    workplace = at_work(tmp_path, hw2_1='echo x > "$1/a.png"')

    def full(*arguments, **options):
        raise GradingError("a.png cannot be written (No space left on device); free some space")

    monkeypatch.setattr("grading.files.take._copied", full)
    result = ran(workplace, 1, {}, tmp_path / "out", TRUSTED)
    assert (result.status, result.message) == (
        "error",
        f"{OURS}: a.png cannot be written (No space left on device); free some space.",
    )

    def broken(*arguments, **options):
        raise GradingError("bubblewrap is not installed")

    monkeypatch.setattr("grading.submission.stages.run_sandboxed", broken)
    result = ran(workplace, 1, {}, tmp_path / "out")
    assert (result.status, result.message) == ("error", f"{OURS}: bubblewrap is not installed.")

    monkeypatch.setattr("grading.submission.stages.run_sandboxed", lambda *a, **o: 1 / 0)
    assert ran(workplace, 1, {}, tmp_path / "out").status == "error"


@needs_sandbox
def test_what_was_fetched_is_there_to_be_read_and_the_students_folder_is_untouched(tmp_path):
    workplace = at_work(
        tmp_path,
        hw2_download_ckpt="mkdir ckpt; echo weights > ckpt/unet.pt; chmod 600 ckpt/unet.pt; echo cached > ~/cached",
        hw2_1='cat ckpt/unet.pt ~/cached; echo $HOME; echo x > ckpt/unet.pt; echo x > "$1/a.png"',
    )
    before = freeze(workplace)
    assert fetch(workplace, HOSTS_NETWORK).status == "pass"
    after = freeze(workplace)
    assert after.files.keys() - before.files.keys() == {"ckpt/unet.pt"}
    result = ran(workplace, 1, {}, tmp_path / "out")
    assert result.log.splitlines()[:3] == ["weights", "cached", HOME]
    assert freeze(workplace) == after
    assert sorted(os.listdir(tmp_path / "student")) == ["hw2_1.sh", "hw2_download_ckpt.sh"]


@needs_network
@pytest.mark.parametrize("sandbox", [Sandbox(host_network=True), Sandbox()], ids=["host's network", "own network"])
def test_a_download_does_not_reach_this_machine(world, sandbox):
    assert copy_submission(ATTACKS / "reach_host", world.workplace).status == "pass"
    places = {"127.0.0.1", *(str(each.ip) for each in own_addresses())}
    with contextlib.ExitStack() as stack:
        everywhere = stack.enter_context(socket.create_server(("0.0.0.0", 0)))
        hidden = stack.enter_context(socket.socket(socket.AF_UNIX))
        hidden.bind(f"\0hw2-test-{os.getpid()}")
        hidden.listen()
        stack.callback(lambda: [each.shutdown(socket.SHUT_RDWR) for each in (everywhere, hidden)])
        for each in (everywhere, hidden):
            threading.Thread(target=greet, args=[each], daemon=True).start()
        (world.workplace.submission / "targets").write_text(
            f"PORT={everywhere.getsockname()[1]}\nABSTRACT=hw2-test-{os.getpid()}\nADDRESSES='{' '.join(places)}'\n"
        )
        said = [line.split()[0] for line in fetch(world.workplace, sandbox).log.splitlines()]
    count = len(places) + 1
    assert (said.count("reached"), said.count("refused")) == ((count, 0) if sandbox.host_network else (0, count))


@needs_sandbox
def test_only_the_fetch_stage_has_a_network_and_it_has_no_secrets(world, monkeypatch):
    monkeypatch.setenv("SECRET", "CANARY")
    call = f'env; exec 3<> /dev/tcp/127.0.0.1/{world.server.getsockname()[1]} && cat <&3; ls "{world.folder}"'
    workplace = at_work(world.folder, hw2_download_ckpt=call, hw2_1=call)
    fetched = fetch(workplace, HOSTS_NETWORK)
    assert "hello" in fetched.log
    assert "CANARY" not in fetched.log
    assert "cannot access" in fetched.log
    assert "hello" not in ran(workplace, 1, {}, world.output).log


@needs_sandbox
def test_a_fetch_that_takes_too_much_is_stopped(tmp_path):
    workplace = at_work(tmp_path, hw2_download_ckpt="head -c 40M /dev/zero > big; sleep 60")
    result = fetch(workplace, HOSTS_NETWORK, replace(SMALL, file_bytes=2**30))
    assert result.message == "hw2_download_ckpt.sh was stopped: it wrote more than 32 MiB to one place."
    workplace = at_work(tmp_path, hw2_download_ckpt="for i in $(seq 2000); do : > $i; done; sleep 60")
    result = fetch(workplace, HOSTS_NETWORK, SMALL)
    assert result.message == "hw2_download_ckpt.sh was stopped: it made more than 1000 files in one place."


@needs_sandbox
def test_a_disk_of_ours_that_gets_full_is_our_fault(tmp_path, monkeypatch):
    monkeypatch.setattr("grading.sandbox.limits.DISK_RESERVE", 2**62)
    workplace = at_work(tmp_path, hw2_download_ckpt="sleep 60")
    result = fetch(workplace, HOSTS_NETWORK)
    assert result.status == "error"
    assert "free some space" in result.message


@needs_sandbox
def test_a_machine_that_runs_out_of_memory_is_our_fault(tmp_path, monkeypatch):
    monkeypatch.setattr("grading.sandbox.limits.MEMORY_RESERVE", 2**62)
    result = ran(at_work(tmp_path, hw2_1="sleep 60"), 1, {}, tmp_path / "out")
    assert result.status == "error"
    assert "the machine ran out of memory" in result.message.lower()


@needs_sandbox
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_submission_is_graded_whatever_the_umask_of_staff(tmp_path, mask):
    draw = "from PIL import Image; import sys; Image.new('RGB', (28, 28)).save(sys.argv[1] + '/mnistm/0_001.png')"
    script = f'umask; mkdir debug $1/mnistm; python3 -c "{draw}" $1'
    before = os.umask(mask)
    try:
        workplace = at_work(tmp_path, hw2_1=script)
        result = ran(workplace, 1, {}, tmp_path / "new" / "out")
        images = read_images(tmp_path / "new" / "out", ["mnistm/0_001.png"])
    finally:
        os.umask(before)
    assert (result.status, result.log) == ("pass", "0022")
    assert not isinstance(images["mnistm/0_001.png"], ImageRefused)


def test_nothing_to_fetch_is_no_failure(tmp_path):
    assert (
        fetch(at_work(tmp_path, hw2_1="true")).message == "There is no hw2_download_ckpt.sh, so nothing was downloaded."
    )


def test_a_copy_takes_links_as_links_and_no_pipes(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("CANARY")
    student = submission(tmp_path / "student", hw2_1="true")
    (student / "link").symlink_to(secret)
    (student / "hw2_1.sh").chmod(0o755)
    os.mkfifo(student / "pipe")
    workplace = Workplace(tmp_path / "work")
    result = copy_submission(student, workplace)
    assert result.status == "pass"
    assert result.refused == [
        f"link is a link to {secret}, which is not in the folder; expected the file itself.",
        "pipe is a pipe, socket or device; expected a file.",
    ]
    assert (workplace.submission / "link").readlink() == secret
    assert os.access(workplace.submission / "hw2_1.sh", os.X_OK)
    assert secret.stat().st_uid == os.getuid()
    assert (student / "hw2_1.sh").stat().st_uid == os.getuid()


def test_what_is_no_submission_is_told(tmp_path):
    result = copy_submission(tmp_path / "nowhere", Workplace(tmp_path / "work"))
    assert (result.status, result.message[-39:]) == ("error", "is not a folder; expected a submission.")


def test_two_runs_must_agree_byte_for_byte(tmp_path):
    script = 'echo same > "$1/0.png"; cat seed > "$1/1.png"; test -e more && echo x > "$1/2.png"; true'
    workplace = at_work(tmp_path, hw2_1=script)
    results = []
    for i, seed in enumerate("AAB"):
        (workplace.submission / "seed").write_text(seed)
        results.append(ran(workplace, 1, {}, tmp_path / str(i), TRUSTED))
    (workplace.submission / "more").write_text("")
    results.append(ran(workplace, 1, {}, tmp_path / "3", TRUSTED))
    first, again, other, more = results
    assert compare_runs(first, again).message == "Two runs of hw2_1.sh gave the same 2 files."
    assert compare_runs(first, again).status == "pass"
    assert compare_runs(first, other).status == "fail"
    assert compare_runs(first, other).message == (
        "Two runs of hw2_1.sh differ in 1 of 2 files (1.png); expected the same files, because seeds must be fixed."
    )
    assert "differ in 1 of 3 files (2.png)" in compare_runs(other, more).message
    error = StageResult("hw2_1.sh", "error", "The disk is full.")
    assert compare_runs(first, error) == StageResult(
        "hw2_1.sh twice", "error", "The runs could not be compared: The disk is full.", kind="repeat", problem=1
    )


def test_stages_load_no_torch():
    code = "import sys, grading.submission.stages; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ATTACKS.parents[2]).returncode == 0


@BOTH
def test_only_the_noises_are_given_and_not_what_systems_add_to_the_folder(tmp_path, sandbox):
    workplace = at_work(tmp_path, hw2_2='ls -A "$1"; cat "$1"/*.pt')
    noise = tmp_path / "noise"
    noise.mkdir(mode=0o755)
    for name in ("00.pt", "01.pt", "._00.pt", ".DS_Store", "Thumbs.db"):
        (noise / name).write_text(f"{name} ")
    (tmp_path / "UNet.pt").touch()
    data = {"noise": noise, "UNet.pt": tmp_path / "UNet.pt"}
    result = ran(workplace, 2, data, tmp_path / "out", sandbox)
    assert result.log.split() == ["00.pt", "01.pt", "00.pt", "01.pt"]
    for name in ("00.pt", "01.pt"):
        (noise / name).unlink()
    result = ran(workplace, 2, data, tmp_path / "again", sandbox)
    assert (result.status, result.message) == (
        "error",
        f"{OURS}: noise has no files *.pt; expected the homework's files there.",
    )


@BOTH
def test_a_script_that_only_has_comments_is_called_the_template(tmp_path, sandbox):
    workplace = at_work(tmp_path, hw2_1="#!/bin/bash\n\n# TODO - run your inference Python3 code")
    result = ran(workplace, 1, {}, tmp_path / "out", sandbox)
    assert re.fullmatch(
        r"hw2_1\.sh ran to its end in \d\.\d s and wrote nothing\. hw2_1\.sh is the template, unchanged: it has no "
        r"commands\. Add those that run your code\.",
        result.message,
    )


def test_a_download_script_with_its_old_name_is_said(tmp_path):
    done = fetch(at_work(tmp_path, hw2_download="true"))
    assert done.hints == ["There is hw2_download.sh: rename it to hw2_download_ckpt.sh."]
    assert done.message.endswith(done.hints[0])
