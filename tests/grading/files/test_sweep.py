import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from grading.files.sweep import sweep

OTHER = 65534


def modes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): oct(stat.S_IMODE(path.lstat().st_mode)) for path in folder.rglob("*")}


def test_bits_that_lend_rights_go_and_folders_and_files_can_be_read(tmp_path):
    folder = tmp_path / "folder"
    (folder / "closed" / "in").mkdir(parents=True)
    before = {"setuid": 0o6755, "sticky": 0o1666, "none": 0, "plain": 0o444, "closed/in/setuid": 0o4711}
    for name, mode in before.items():
        (folder / name).touch()
        (folder / name).chmod(mode)
    os.mkfifo(folder / "pipe")
    (folder / "pipe").chmod(0o4600)
    (folder / "closed" / "in").chmod(0o3777)
    (folder / "closed").chmod(0)
    folder.chmod(0o4100)
    sweep(folder)
    assert modes(folder) == {
        "setuid": "0o755",
        "sticky": "0o666",
        "none": "0o400",
        "plain": "0o444",
        "pipe": "0o600",
        "closed": "0o700",
        "closed/in": "0o777",
        "closed/in/setuid": "0o711",
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_no_link_is_followed(tmp_path):
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "file").touch()
    for path in (outside / "file", outside / "sub"):
        path.chmod(0o4711)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").symlink_to(outside / "file")
    (folder / "sub").symlink_to(outside / "sub")
    (folder / "nowhere").symlink_to("nothing")
    sweep(folder, OTHER if os.geteuid() == 0 else None)
    assert modes(outside) == {"file": "0o4711", "sub": "0o4711"}
    assert (outside / "file").stat().st_uid == (outside / "sub").stat().st_uid == os.geteuid()
    (tmp_path / "link").symlink_to(outside)
    sweep(tmp_path / "link")
    assert modes(outside) == {"file": "0o4711", "sub": "0o4711"}


@pytest.mark.parametrize(("depth", "name"), [(40, "d" * 200), (1500, "d")], ids=["long path", "many folders"])
def test_nothing_is_too_deep(depth, name):
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        try:
            folder = Path(place, "folder")
            folder.mkdir()
            deep = "import os, sys\nfor _ in range(int(sys.argv[1])): os.mkdir(sys.argv[2]); os.chdir(sys.argv[2])\n"
            deep += "open('x', 'w').close(); os.chmod('x', 0o6755)"
            subprocess.run([sys.executable, "-I", "-c", deep, str(depth), name], cwd=folder, check=True)
            before = len(os.listdir("/proc/self/fd"))
            sweep(folder)
            assert len(os.listdir("/proc/self/fd")) == before
            found = subprocess.run(["find", folder, "-name", "x", "-printf", "%m"], capture_output=True, text=True)
            assert found.stdout == "755"
        finally:
            subprocess.run(["rm", "-rf", place], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away and grant capabilities")
def test_owners_and_capabilities_of_others_go(tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").touch()
    (folder / "link").symlink_to("sub")
    cap_setuid = bytes.fromhex("0100000280000000000000000000000000000000")  # a revision 2 value of the kernel's
    try:
        os.setxattr(folder / "sub" / "file", "security.capability", cap_setuid)
    except OSError as error:
        pytest.skip(f"files have no capabilities here ({error.strerror})")
    sweep(folder)
    assert "security.capability" not in os.listxattr(folder / "sub" / "file")
    sweep(folder, OTHER)
    for path in (folder, *folder.rglob("*")):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (OTHER, OTHER)


def test_what_cannot_be_changed_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        sweep(tmp_path / "nothing")
