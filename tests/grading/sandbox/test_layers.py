import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

import grading.sandbox.layers
from grading.core.errors import GradingError
from grading.sandbox.backend import SUBMISSION, UID
from grading.sandbox.run import run_sandboxed
from tests.grading.sandboxed import ROOT, SMALL, TRUSTED, needs_sandbox, run

LAYERED = {"layered": [SUBMISSION]}

HOWS = [
    pytest.param("overlay", marks=[needs_sandbox, pytest.mark.skipif(os.geteuid() != 0, reason="only root has these")]),
    pytest.param("copy", marks=needs_sandbox),
    "trusted",
]


@pytest.fixture(params=HOWS)
def how(request, monkeypatch):
    """How the layer is made; as an option of `run_sandboxed`."""
    if request.param == "copy":
        monkeypatch.setattr(grading.sandbox.layers, "LAYER", "layer() { false; }")
    return {"sandbox": TRUSTED, **LAYERED} if request.param == "trusted" else LAYERED


@pytest.fixture
def folder(folder):
    """A submission that the user of the sandbox owns, with one of everything."""
    (folder / "ckpt").mkdir()
    (folder / "ckpt" / "weights.pt").write_text("weights")
    (folder / "latest").symlink_to("ckpt")
    (folder / "secret").symlink_to("../secret")
    os.mkfifo(folder / "pipe")
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, UID, UID, follow_symlinks=False)
    return folder


def listing(folder: Path) -> list[tuple[str, int, int, int, str]]:
    found = []
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        text = path.read_text() if path.is_file() and not path.is_symlink() else ""
        found.append((str(path), status.st_mode, status.st_uid, status.st_size if text else 0, text))
    return found


def test_a_run_changes_its_layer_as_it_likes_and_the_hosts_folder_stays(folder, how):
    before = listing(folder.parent)
    script = """
    set -e
    mkdir debug; echo hello > debug/log.txt; cat debug/log.txt
    echo more >> latest/weights.pt; cat ckpt/weights.pt
    python3 -c "import os; os.rename('ckpt', 'moved')"
    rm latest pipe; chmod 700 moved; ls -F
    """
    for _ in range(2):
        result = run(script, folder, **how)
        assert result.log.split() == ["hello", "weightsmore", "debug/", "moved/", "secret@"]
        assert result.exit_status == 0
    assert listing(folder.parent) == before
    assert sorted(os.listdir(folder.parent)) == ["secret", "submission"]


@needs_sandbox
def test_a_folder_that_is_not_layered_stays_read_only(folder):
    result = run("touch x; touch ~/x", folder, inputs={"/home/student": folder}, **LAYERED)
    assert result.log.count("Read-only file system") == 1


@pytest.mark.parametrize(
    ("script", "limit"),
    [
        ("for i in 1 2 3 4; do head -c 10M /dev/zero > $i; done; sleep 60", "space"),
        ("for i in $(seq 2000); do : > $i; done; sleep 60", "files"),
        ("head -c 40M /dev/zero > big", "file size"),
    ],
)
def test_what_is_written_in_a_layer_counts(folder, how, script, limit):
    if "sandbox" in how:
        pytest.skip("trusted code has no limits")
    result = run(script, folder, **how)
    assert (result.limit, result.seconds < 5) == (limit, True)


def test_what_the_submission_holds_already_does_not_count(folder, how):
    with (folder / "large").open("wb") as file:
        file.write(bytes(40 * 2**20))
    for number in range(1100):
        (folder / f"{number}").touch()
    result = run("touch x; sleep 1.3", folder, **how)
    assert (result.limit, result.exit_status) == ("", 0)


@needs_sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="a layer in memory needs root")
def test_what_is_written_in_a_layer_in_memory_counts_as_memory(folder):
    fill = "head -c 15M /dev/zero > a; head -c 15M /dev/zero > b; head -c 15M /dev/zero > /tmp/a; sleep 5"
    assert run(fill, folder, replace(SMALL, memory_bytes=40 * 2**20), **LAYERED).limit == "memory"


@needs_sandbox
def test_the_mounts_tell_no_path_of_the_host(folder):
    mounts = run("grep -E 'overlay|layer' /proc/self/mountinfo", folder, **LAYERED).log
    assert str(folder.parent) not in mounts
    assert "hw2-grade" not in mounts


def mounts(folder: Path, part: str) -> str:
    """What a run of one part sees of its mounts, without their numbers."""
    for name in ("noise", "model"):
        (folder.parent / part / name).mkdir(parents=True, exist_ok=True)
    model = folder.parent / part / "model" / "model.ckpt"
    model.write_text(part)
    model.parent.chmod(0o700)
    inputs = {"/data/noise": folder.parent / part / "noise", "/data/model.ckpt": model}
    script = "cat /data/model.ckpt; echo; cut -d ' ' -f 4- /proc/self/mountinfo; cat /proc/self/mounts"
    said, _, seen = run(script, folder, inputs=inputs, **LAYERED).log.partition("\n")
    assert said == part
    return seen


@needs_sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has overlays, which tell no path")
def test_a_run_learns_no_path_of_the_host_and_not_whether_it_is_the_private_one(folder, monkeypatch):
    public, private = mounts(folder, "public"), mounts(folder, "private")
    assert " /data/noise " in public
    assert public == private
    assert folder.parent.name not in public
    assert "hw2-grade" not in public
    monkeypatch.setattr("grading.sandbox.bubblewrap.can_veil", lambda path: False)  # not protected
    assert f"{folder.parent.name}/public/noise" in mounts(folder, "public")


@needs_sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_what_is_mounted_below_an_input_is_there_to_be_read(folder):
    code = """
import subprocess, sys
from pathlib import Path
from grading.sandbox.run import run_sandboxed
inner = Path(sys.argv[2], "inner mount")
inner.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", inner], check=True)
(inner / "file").write_text("CANARY")
command = ["bash", "-c", "cat '/data/inner mount/file'"]
with run_sandboxed(command, submission=Path(sys.argv[1]), inputs={"/data": Path(sys.argv[2])}) as ended:
    print(ended.log)
"""
    data = folder.parent / "data"
    data.mkdir()
    private = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", code, folder, data]
    done = subprocess.run(private, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("CANARY\n", "")


def test_a_copy_that_cannot_be_made_is_our_failure(folder, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("grading.sandbox.duplicate._fill", full)
    said = r"submission cannot be copied for the run \(No space left on device\); free some space and grade again"
    with ExitStack() as resources, pytest.raises(GradingError, match=said):
        grading.sandbox.layers._copy(folder, resources)
    assert sorted(os.listdir(folder.parent)) == ["secret", "submission"]


@needs_sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="a mount that could be left behind needs root")
def test_a_grader_that_is_killed_leaves_no_mount_and_no_file(folder):
    code = (
        "import sys; from pathlib import Path; from grading.sandbox.run import run_sandboxed; run_sandboxed("
        "['bash', '-c', 'echo x > file; sleep 60'], submission=Path(sys.argv[1]), layered=['/submission'])"
    )
    before = listing(folder.parent)
    grader = subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT)
    points = []
    deadline = time.monotonic() + 20
    while not points and time.monotonic() < deadline:
        time.sleep(0.1)
        points = list(Path("/tmp").glob(f"hw2-grade-{grader.pid}-*"))
    time.sleep(0.5)
    grader.send_signal(signal.SIGKILL)
    grader.wait()
    try:
        assert points
        assert "hw2-grade" not in Path("/proc/self/mountinfo").read_text()
        assert not any(path.is_file() for point in points for path in point.rglob("*"))
        assert listing(folder.parent) == before
    finally:
        for point in points:
            shutil.rmtree(point, ignore_errors=True)  # another grader may have removed it


@needs_sandbox
def test_the_output_is_there_after_a_layered_run(folder):
    command = ["bash", "-c", "cp ckpt/weights.pt /output"]
    with run_sandboxed(command, submission=folder, **LAYERED) as result:
        assert os.listdir(result.output) == ["weights.pt"]
