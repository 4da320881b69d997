import errno
import os
import subprocess
from pathlib import Path

import pytest

from grading.sandbox.duplicate import duplicate
from tests.grading.deep import deep_place, nest


def copied(source: Path) -> Path:
    place = source.parent / "place"
    place.mkdir()
    duplicate(source, place / "copy")
    assert os.listdir(place) == ["copy"]
    return place / "copy"


def told(folder: Path) -> bytes:
    """What `find` tells about all entries: kind, mode, owner, size, time, number of names, target, path."""
    shown = ["-printf", "%y %m %U %G %T@ %n %l %P\\n"]
    entries = subprocess.run(["find", folder, *shown], capture_output=True, check=True).stdout.split(b"\n")
    sums = subprocess.run(
        "find . -type f -print0 | sort -z | xargs -0r sha256sum", shell=True, cwd=folder, capture_output=True
    )
    return b"\n".join([*sorted(entries), sums.stdout])


@pytest.fixture
def source(tmp_path):
    """A folder with one of everything that a download may leave."""
    source = tmp_path / "source"
    (source / "folder" / "closed").mkdir(parents=True)
    (source / "file").write_bytes(os.urandom(3_000_000))
    (source / "empty").touch()
    os.link(source / "file", source / "folder" / "again")
    (source / "link").symlink_to("/etc/passwd")
    (source / "nowhere").symlink_to("x" * 255)
    os.mkfifo(source / "folder" / "pipe", 0o640)
    for name in (b"a\xffb", b"-rf", b"new\nline", b"n" * 255):
        with open(os.path.join(os.fsencode(source), name), "wb") as file:
            file.write(name)
    (source / "file").chmod(0o751)
    (source / "folder" / "closed").chmod(0o500)
    os.utime(source / "folder", ns=(1, 10**18 + 1))
    os.utime(source / "link", ns=(1, 10**18 + 1), follow_symlinks=False)
    if os.geteuid() == 0:
        os.chown(source / "folder", 64202, 64202)
        os.chown(source / "link", 64202, 64202, follow_symlinks=False)
    return source


def test_a_copy_is_the_same_in_all_that_a_script_can_see(source):
    before = told(source)
    assert told(copied(source)) == before == told(source)


def test_holes_stay_holes(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.seek(2**30)
        file.write(b"middle")
        file.truncate(2**33)
    copy = copied(source) / "sparse"
    assert copy.stat().st_size == 2**33
    assert copy.stat().st_blocks * 512 < 2**20
    with copy.open("rb") as file:
        file.seek(2**30 - 2)
        assert file.read(10) == b"\0\0middle\0\0"


@pytest.mark.parametrize(("depth", "name"), [(3000, "d"), (60, "d" * 255)], ids=["many folders", "long path"])
def test_nothing_is_too_deep_to_be_copied(depth, name):
    with deep_place() as place:
        (place / "source").mkdir()
        nest(place / "source", depth, name, b"content")
        before = len(os.listdir("/proc/self/fd"))
        copy = copied(place / "source")
        assert len(os.listdir("/proc/self/fd")) == before
        found = subprocess.run(["find", copy, "-name", "leaf", "-printf", "%d %s"], capture_output=True, text=True)
        assert found.stdout == f"{depth + 1} 7"


def test_a_file_with_as_many_names_as_the_disk_allows_is_copied(source, monkeypatch):
    link = os.link

    def full(known, name, **options):
        if name == "again":
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        link(known, name, **options)

    monkeypatch.setattr(os, "link", full)
    copy = copied(source)
    assert (copy / "folder" / "again").read_bytes() == (copy / "file").read_bytes() == (source / "file").read_bytes()
    assert (copy / "file").stat().st_nlink == 1


def test_a_full_disk_is_told(source, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("grading.sandbox.duplicate._fill", full)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No space left on device"):
        copied(source)
    assert len(os.listdir("/proc/self/fd")) == before
