import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

import grading.sandbox.layers
from grading.core.errors import GradingError
from grading.sandbox.backend import SUBMISSION, UID
from grading.sandbox.run import run_sandboxed
from tests.grading.sandboxed import ATTACKS, ROOT, SMALL, TRUSTED, needs_sandbox, remove_left_over_groups, run

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
@pytest.mark.skipif(os.geteuid() != 0, reason="a user may lack overlays, which tell no path")
def test_the_mounts_tell_no_path_of_the_host(folder):
    mounts = run("grep -E 'overlay|layer' /proc/self/mountinfo", folder, **LAYERED).log
    assert str(folder.parent) not in mounts
    assert "hw2-grade-" not in mounts


LEARN = "cat /data/model.ckpt; echo; bash hw2_2.sh"


def mounts(folder: Path, part: str) -> str:
    """What a run of one part sees of its mounts, without their numbers."""
    shutil.copy(ATTACKS / "learn_private" / "hw2_2.sh", folder)
    for name in ("noise", "model"):
        (folder.parent / part / name).mkdir(parents=True, exist_ok=True)
    model = folder.parent / part / "model" / f"{part}.ckpt"
    model.write_text(part)
    model.parent.chmod(0o700)
    inputs = {"/data/noise": folder.parent / part / "noise", "/data/model.ckpt": model}
    with run_sandboxed(["bash", "-c", LEARN], submission=folder, inputs=inputs, limits=SMALL) as ended:
        said, _, seen = re.sub("/bindfile.{6}", "/bindfile", ended.log).partition("\n")  # names are drawn at random
    assert said == part
    return seen


@needs_sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="a user may lack overlays, which tell no path")
def test_a_run_learns_no_path_of_the_host_and_not_whether_it_is_the_private_one(folder, monkeypatch):
    public, private = mounts(folder, "public"), mounts(folder, "private")
    assert " /data/noise " in public
    assert public == private
    assert folder.parent.name not in public
    assert "hw2-grade-" not in public
    monkeypatch.setattr("grading.sandbox.mounts.can_veil", lambda path: False)  # not protected
    assert f"{folder.parent.name}/public/noise" in mounts(folder, "public")


AS_A_USER = """
import json, sys
from pathlib import Path
import grading.sandbox.mounts
from grading.sandbox.run import Sandbox, run_sandboxed
folder, learn, seen = Path(sys.argv[1]), sys.argv[2], []
for can_veil in (grading.sandbox.mounts.can_veil, lambda path: False):
    grading.sandbox.mounts.can_veil = can_veil
    for part in ("public", "private"):
        inputs = {"/data/noise": folder / part / "noise", "/data/model.ckpt": folder / part / f"{part}.ckpt"}
        sandbox = Sandbox(python=Path("/usr"))
        with run_sandboxed(["bash", "-c", learn], submission=folder / "sub", inputs=inputs, sandbox=sandbox) as ended:
            seen.append(ended.log.splitlines())
print(json.dumps(seen))
"""


@needs_sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_run_of_a_grader_that_is_not_root_learns_no_more(open_place):
    for part in ("public", "private"):
        (open_place / part / "noise").mkdir(parents=True)
        (open_place / part / f"{part}.ckpt").write_text(part)
    shutil.copytree(ATTACKS / "learn_private", open_place / "sub")
    subprocess.run(["chown", "-R", "1000:1000", open_place], check=True)
    user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
    environment = {"PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}", "PATH": os.defpath}

    def as_user(*command: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*user, *command], capture_output=True, text=True, env=environment, cwd="/")

    trial = ("sh", "-c", '"$0" -c "import grading.sandbox.run, pyseccomp"')  # sh, because setpriv starts it as root
    python = next((p for p in (sys.executable, "/usr/bin/python3") if as_user(*trial, p).returncode == 0), None)
    if python is None or as_user("unshare", "--user", "--map-root-user", "--mount", "true").returncode:
        pytest.skip("another user can run no Python or make no namespace here")
    done = as_user(python, "-c", AS_A_USER, open_place, LEARN)
    assert done.returncode == 0, done.stderr
    public, private, *unprotected = json.loads(done.stdout)
    assert (public[0], private[0]) == ("public", "private")
    assert public[1:] == private[1:]
    assert not [line for line in public if open_place.name in line or "hw2-grade-" in line or "public/" in line]
    assert any(f"{open_place.name}/public/noise" in line for line in unprotected[0])


@pytest.fixture
def open_place():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@needs_sandbox
def test_a_large_file_is_given_without_a_copy_and_its_mount_tells_only_its_name(folder):
    large = folder.parent / "data" / "large.ckpt"
    large.parent.mkdir()
    with large.open("wb") as file:
        file.truncate(grading.sandbox.layers.SMALL + 1)
    result = run("stat -c %s /data/UNet.pt; grep UNet /proc/self/mountinfo", folder, inputs={"/data/UNet.pt": large})
    size, line = result.log.splitlines()
    assert int(size) == grading.sandbox.layers.SMALL + 1
    if os.geteuid() == 0:
        assert line.split()[3] == "/large.ckpt"


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
        remove_left_over_groups()


@needs_sandbox
def test_the_output_is_there_after_a_layered_run(folder):
    command = ["bash", "-c", "cp ckpt/weights.pt /output"]
    with run_sandboxed(command, submission=folder, **LAYERED) as result:
        assert os.listdir(result.output) == ["weights.pt"]
