import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from grading.sandbox.temporary import mount_points, prefix, remove_litter
from tests.grading.sandboxed import ROOT, TRUSTED, run


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder in which temporary folders are made."""
    monkeypatch.setattr("grading.sandbox.temporary.PLACES", (tmp_path,))
    return tmp_path


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def named(kind: str, process: int) -> str:
    return prefix(kind).replace(f"-{os.getpid()}-", f"-{process}-") + "abc"


def clean() -> None:
    remove_litter.__wrapped__()


def test_only_folders_of_dead_graders_are_removed(place, dead):
    gone = [named(kind, dead) for kind in ("grade", "ray", "probe", "check")]
    namespace = prefix("grade").split("-")[3]
    stays = [
        prefix("grade") + "own",
        named("grade", os.getppid()),
        named("grade", 1),
        "hw2-grade-abcdefgh",
        f"hw2-grade-{dead}-abc",
        f"hw2-other-{dead}-{namespace}-abc",
        f"hw2-grade-{dead}-{int(namespace, 16) ^ 1:04x}-abc",
        f"my-hw2-grade-{dead}-{namespace}-abc",
    ]
    for name in (*gone, *stays):
        (place / name / "deep" / "er").mkdir(parents=True)
        (place / name / "deep" / "file").touch()
    clean()
    assert sorted(os.listdir(place)) == sorted(stays)
    assert all((place / name / "deep" / "file").exists() for name in stays)


def test_no_link_is_followed_and_no_file_removed(place, dead, tmp_path_factory):
    precious = tmp_path_factory.mktemp("precious")
    (precious / "file").touch()
    (place / named("grade", dead)).symlink_to(precious)
    (place / named("ray", dead)).touch()
    inside = place / named("probe", dead)
    inside.mkdir()
    (inside / "link").symlink_to(precious)
    clean()
    assert sorted(os.listdir(place)) == sorted([named("grade", dead), named("ray", dead)])
    assert (precious / "file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_folders_of_other_users_stay(place, dead):
    (place / named("grade", dead)).mkdir()
    os.chown(place / named("grade", dead), 65534, 65534)
    clean()
    assert os.listdir(place) == [named("grade", dead)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_what_is_mounted_in_litter_is_not_entered(place, dead):
    code = """
import subprocess, sys
from pathlib import Path
import grading.sandbox.temporary as temporary
place, name = Path(sys.argv[1]), sys.argv[2]
(place / "precious").mkdir()
(place / "precious" / "file").touch()
(place / name / "mount point").mkdir(parents=True)
subprocess.run(["mount", "--bind", place / "precious", place / name / "mount point"], check=True)
temporary.PLACES = (place,)
temporary.remove_litter()
"""
    private = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", code, place]
    subprocess.run([*private, named("grade", dead)], cwd=ROOT, check=True)
    assert (place / "precious" / "file").exists()
    assert (place / named("grade", dead)).exists()
    clean()  # it is not mounted any more
    assert os.listdir(place) == ["precious"]


def test_the_next_run_removes_what_a_killed_grader_left(place, folder):
    code = (
        "import os, signal, tempfile, sys; from grading.sandbox.temporary import prefix; "
        "tempfile.mkdtemp(prefix=prefix('grade'), dir=sys.argv[1]); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, place], cwd=ROOT)
    left = [name for name in os.listdir(place) if name.startswith("hw2-grade-")]
    assert len(left) == 1
    remove_litter.cache_clear()
    run("true", folder, sandbox=TRUSTED)
    assert not (place / left[0]).exists()


def test_folders_are_named_so_that_they_are_known_again():
    with tempfile.TemporaryDirectory(prefix=prefix("grade")) as own:
        assert Path(own).name.startswith(f"hw2-grade-{os.getpid()}-")
        clean()
        assert Path(own).exists()


def test_mount_points_are_those_of_the_system():
    assert {Path("/"), Path("/proc")} <= mount_points()
