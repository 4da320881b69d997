import errno
import hashlib
import os
import shutil
import socket
import subprocess
import sys

import pytest

from grading.core.errors import GradingError
from grading.files.take import Caps, collect_folder
from tests.grading.deep import deep_place, nest
from tests.grading.sandboxed import NO_OTHER_USER, ROOT, another_user_runs_python


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def test_regular_files_are_copied_and_hashed(tmp_path, source):
    (source / "svhn").mkdir()
    (source / "svhn" / "0_001.png").write_bytes(b"digit")
    (source / "a.sh").write_bytes(b"")
    (source / "a.sh").chmod(0o4777)
    into = tmp_path / "deep" / "into"
    taken = collect_folder(source, into)
    assert taken.files == {
        "a.sh": hashlib.sha256(b"").hexdigest(),
        "svhn/0_001.png": hashlib.sha256(b"digit").hexdigest(),
    }
    assert taken.refused == []
    assert (into / "svhn" / "0_001.png").read_bytes() == b"digit"
    assert (into / "a.sh").stat().st_mode & 0o7777 == 0o755
    assert collect_folder(into, None) == taken


def test_nothing_is_copied_into_a_folder_that_is_there(tmp_path, source):
    with pytest.raises(GradingError, match="File exists"):
        collect_folder(source, tmp_path)


def test_sockets_are_refused(tmp_path, source):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(source / "s"))
        assert collect_folder(source, tmp_path / "into").refused == ["s is a pipe, socket or device; expected a file."]


@pytest.mark.parametrize("kind", ["link to a file", "link to a folder", "pipe"])
def test_what_changes_between_the_look_and_the_opening_is_not_followed(tmp_path, source, monkeypatch, kind):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "gt.png").write_bytes(b"CANARY")
    entry = source / "entry"
    entry.mkdir() if kind == "link to a folder" else entry.write_bytes(b"harmless")
    look = os.stat

    def then_swap(path, **options):
        status = look(path, **options)
        if path == "entry":
            entry.rmdir() if entry.is_dir() else entry.unlink()
            if kind == "pipe":
                os.mkfifo(entry)
            else:
                entry.symlink_to(secret if kind == "link to a folder" else secret / "gt.png")
        return status

    monkeypatch.setattr(os, "stat", then_swap)
    taken = collect_folder(source, tmp_path / "into")
    assert taken.files == {}
    assert len(taken.refused) == 1
    assert not any(path.is_file() for path in (tmp_path / "into").rglob("*"))


def test_too_many_entries_or_bytes_are_refused_as_a_whole(tmp_path, source):
    for i in range(12):
        (source / f"{i}.png").write_bytes(bytes(10))
    taken = collect_folder(source, tmp_path / "a", Caps(entries=11))
    assert taken.refused == ["There are more than 11 files and folders, which is the limit; none was collected."]
    taken = collect_folder(source, tmp_path / "b", Caps(total_bytes=119))
    assert taken.refused == ["The files have more than 119 bytes, which is the limit; none was collected."]
    assert taken.files == {}
    assert not any((tmp_path / "b").iterdir())
    assert len(collect_folder(source, tmp_path / "c", Caps(entries=12, total_bytes=120)).files) == 12


def test_a_huge_sparse_file_is_not_read(tmp_path, source):
    with (source / "huge.png").open("wb") as file:
        file.truncate(2**40)
    taken = collect_folder(source, tmp_path / "into")
    assert taken.refused == ["huge.png has 1099511627776 bytes; at most 16777216 are read."]


def test_a_thousand_refusals_take_a_hundred_lines(tmp_path, source):
    for i in range(1000):
        (source / f"{i:03d}").symlink_to("/")
    refused = collect_folder(source, tmp_path / "into").refused
    assert len(refused) == 101
    assert refused[-1] == "900 more entries were refused."
    for i in range(101, 1000):
        (source / f"{i:03d}").unlink()
    assert collect_folder(source, tmp_path / "again").refused[-1] == "1 more entry was refused."


def test_a_folder_that_cannot_be_opened_is_not_the_submissions_fault(tmp_path, source):
    with pytest.raises(GradingError, match=r"nowhere cannot be opened \(No such file or directory\); check the path"):
        collect_folder(source / "nowhere", tmp_path / "into")


NAMES = [b"a\xffb", "\u4f5c\u696d".encode("big5"), "3.02.11\u202fPM.png".encode(), b"new\nline", b"\x1b[31mred"]


def test_files_are_copied_whatever_bytes_their_names_have(tmp_path, source):
    for name in NAMES:
        with open(os.fsencode(source) + b"/" + name, "wb") as file:
            file.write(name)
    taken = collect_folder(source, tmp_path / "into")
    assert taken.refused == []
    assert sorted(map(os.fsencode, taken.files)) == sorted(os.listdir(os.fsencode(tmp_path / "into"))) == sorted(NAMES)


@pytest.mark.parametrize(
    ("target", "leads_out"),
    [("a", False), ("../a", False), ("/submission/a", False), ("../../a", True), ("/etc/passwd", True),
     ("/submission2", True), ("/submission/../etc", True)],
)  # fmt: skip
def test_links_stay_links_and_those_that_lead_out_are_said(tmp_path, source, target, leads_out):
    (source / "deep").mkdir()
    (source / "deep" / "link").symlink_to(target)
    taken = collect_folder(source, tmp_path / "into", Caps(links=True))
    assert os.readlink(tmp_path / "into" / "deep" / "link") == target
    assert bool(taken.refused) == bool(taken.reasons) == leads_out


def test_the_reason_of_each_refusal_is_kept_by_path(tmp_path, source):
    (source / "svhn").mkdir()
    (source / "svhn" / "0_001.png").symlink_to("x")
    taken = collect_folder(source, tmp_path / "into")
    assert taken.reasons == {"svhn/0_001.png": "is a link; expected the file itself"}


def failing(monkeypatch, call: str, name: str, number: int) -> None:
    """Let a call of the system fail for one name, as on another disk."""
    works = getattr(os, call)

    def fails(*arguments, **options):
        if name in arguments and ("dir_fd" in options and (call != "open" or arguments[1] & os.O_CREAT)):
            raise OSError(number, os.strerror(number))
        return works(*arguments, **options)

    monkeypatch.setattr(os, call, fails)


def one_of_each(source):
    (source / "folder").mkdir()
    (source / "folder" / "in").write_bytes(b"in")
    (source / "file").write_bytes(b"file")
    (source / "link").symlink_to("file")
    (source / "other").write_bytes(b"other")


@pytest.mark.parametrize(("call", "name"), [("mkdir", "folder"), ("open", "file"), ("symlink", "link")])
@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EEXIST])
def test_what_the_disk_of_the_copies_cannot_hold_is_refused_alone(tmp_path, source, monkeypatch, call, name, number):
    one_of_each(source)
    failing(monkeypatch, call, name, number)
    taken = collect_folder(source, tmp_path / "into", Caps(links=True))
    assert list(taken.reasons) == [name]
    assert sorted(os.listdir(tmp_path / "into")) == sorted({"folder", "file", "link", "other"} - {name})
    assert {each.split("/")[0] for each in taken.files} == {"folder", "file", "link", "other"} - {name}


@pytest.mark.parametrize(("call", "name"), [("mkdir", "folder"), ("open", "file"), ("symlink", "link")])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_a_disk_that_is_full_or_broken_is_not_the_submissions_fault(tmp_path, source, monkeypatch, call, name, number):
    one_of_each(source)
    failing(monkeypatch, call, name, number)
    with pytest.raises(GradingError, match=f"^{name} cannot be written .*; free some space or choose another folder"):
        collect_folder(source, tmp_path / "into", Caps(links=True))


def test_a_disk_without_links_costs_only_the_links(tmp_path, source, monkeypatch):
    one_of_each(source)
    failing(monkeypatch, "symlink", "link", errno.EPERM)
    taken = collect_folder(source, tmp_path / "into", Caps(links=True))
    assert taken.refused == ["link cannot be copied to the grader's disk (Operation not permitted)."]


def test_a_file_that_grew_too_large_for_the_disk_leaves_no_part(tmp_path, source, monkeypatch):
    one_of_each(source)
    code = (
        "import resource, sys; from pathlib import Path; from grading.files.take import collect_folder; import signal; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4)); "
        "print(*collect_folder(Path(sys.argv[1]), Path(sys.argv[2])).refused, sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, source, tmp_path / "into"], cwd=ROOT, capture_output=True, text=True
    )
    assert "other cannot be copied to the grader's disk (File too large)." in done.stdout.splitlines(), done.stderr
    assert sorted(os.listdir(tmp_path / "into")) == ["file", "folder"]


def test_an_entry_that_cannot_be_read_for_a_reason_of_the_machine_is_not_the_submissions_fault(
    tmp_path, source, monkeypatch
):
    one_of_each(source)
    opens = os.open

    def fails(name, *arguments, **options):
        if name == "file":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opens(name, *arguments, **options)

    monkeypatch.setattr(os, "open", fails)
    with pytest.raises(GradingError, match=r"file in the submission cannot be read \(Input/output error\); check"):
        collect_folder(source, None)


CLOSED = """
import sys
from pathlib import Path
from grading.core.errors import GradingError
from grading.files.take import collect_folder
from grading.submission.provenance import listing_hash
source = Path(sys.argv[1])
try:
    listing_hash(source)
    taken = collect_folder(source, Path(sys.argv[2]))
    print(list(taken.files), *taken.refused, sep="\\n")
except GradingError as error:
    print(error)
"""


def as_user(place) -> list[str]:
    before = modes(place / "source")
    command = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", sys.executable, "-c", CLOSED]
    done = subprocess.run(
        [*command, place / "source", place / "into"], cwd=ROOT, capture_output=True, text=True, env={"PYTHONPATH": ROOT}
    )
    assert done.stderr == ""
    assert modes(place / "source") == before
    return done.stdout.splitlines()


def modes(folder):
    return {path: path.lstat().st_mode for path in (folder, *folder.rglob("*"))}


def closed_source(place, owner: int) -> None:
    source = place / "source"
    source.mkdir()
    one_of_each(source)
    (source / "link").unlink()
    (source / "other").chmod(0)
    (source / "folder").chmod(0o400)
    for path in (place, source, *source.rglob("*")):
        os.chown(path, owner if path != place else 1000, -1)


@pytest.mark.skipif(not another_user_runs_python(), reason=NO_OTHER_USER)
def test_what_a_submission_closed_to_its_owner_is_refused_and_what_another_user_closed_is_told_to_staff():
    denied = "cannot be opened (Permission denied)."
    with deep_place() as place:
        closed_source(place, 1000)
        assert as_user(place) == ["['file']", f"folder {denied}", f"other {denied}"]
        shutil.rmtree(place / "into")
        (place / "source").chmod(0)
        assert as_user(place) == ["[]", f"The folder {denied}"]
    with deep_place() as place:
        closed_source(place, 0)
        (place / "source").chmod(0o755)
        assert "in the submission cannot be read (Permission denied)" in as_user(place)[0]


def test_paths_may_be_longer_than_the_system_allows(source):
    with deep_place() as place:
        nest(source, 31, "n" * 255, b"deep")
        (source / "file").touch()
        taken = collect_folder(source, place / "into", Caps(depth=32))
        assert taken.refused == []
        assert collect_folder(place / "into", None, Caps(depth=32)) == taken
        path = "/".join(["n" * 255] * 31 + ["leaf"])
        assert taken.files[path] == hashlib.sha256(b"deep").hexdigest()


def test_a_folder_whose_names_are_too_long_together_is_refused_as_a_whole(tmp_path):
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    for number in range(10):
        (source / "folder" / f"{number}{'x' * 99}").touch()
    names = len('"folder"') + 10 * len('"folder/"' + 100 * "x")
    assert len(collect_folder(source, tmp_path / "all", Caps(name_bytes=names)).files) == 10
    taken = collect_folder(source, tmp_path / "none", Caps(name_bytes=names - 1))
    assert taken.files == {}
    assert taken.refused[0].startswith("The names of the files and folders, with those of the folders above them, have")
    assert list((tmp_path / "none").iterdir()) == []


def test_bytes_that_json_escapes_count_as_it_writes_them(tmp_path):
    (tmp_path / os.fsdecode(b"\xff" * 100)).touch()
    assert collect_folder(tmp_path, None, Caps(name_bytes=602)).refused == []
    assert collect_folder(tmp_path, None, Caps(name_bytes=601)).files == {}
