import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grading.sandbox.folders import remove, usage, walk
from tests.grading.deep import deep_place, nest
from tests.grading.sandboxed import NO_OTHER_USER, ROOT, another_user_runs_python

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..")
) | st.sampled_from(["-rf", "\n", "a\udcffb", "\x1b[31m", "n" * 255, " ", "..."])

TREES = st.recursive(
    st.sampled_from(["file", "link", "pipe"]), lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=20
)


def build(tree: object, path: bytes) -> list[bytes]:
    """Make what a tree says at a path, and return the paths below it."""
    if isinstance(tree, dict):
        os.mkdir(path)
        below = [(os.path.join(path, os.fsencode(name)), inner) for name, inner in tree.items()]
        return [each for inside, inner in below for each in [inside, *build(inner, inside)]]
    if tree == "file":
        with open(path, "wb") as file:
            file.write(b"content")
    elif tree == "link":
        os.symlink("/etc", path)
    else:
        os.mkfifo(path)
    return []


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def found_in(top: Path, most: int = 1000, **options: int) -> list[bytes]:
    return [os.fsencode(each.path(name)) for each in walk(top, most, **options) for name in each.files + each.folders]


@settings(max_examples=40)
@given(st.dictionaries(NAMES, TREES, max_size=4))
def test_a_walk_finds_every_entry_once_and_removal_leaves_nothing(tree):
    with deep_place() as place:
        top = place / "top"
        made = build(tree, os.fsencode(top))
        assert sorted(found_in(top)) == sorted(os.path.relpath(path, os.fsencode(top)) for path in made)
        assert usage(top, 1000)[1] == len(made)
        (place / "beside").touch()
        remove(top)
        assert os.listdir(place) == ["beside"]


def test_the_bytes_are_those_that_du_counts(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "large").write_bytes(bytes(300_000))
    os.link(tmp_path / "a" / "large", tmp_path / "a" / "b" / "again")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**30)
    (tmp_path / "link").symlink_to("a" * 200)
    os.sync()
    counted = int(subprocess.run(["du", "-s", "-B1", tmp_path], capture_output=True, text=True).stdout.split()[0])
    assert usage(tmp_path, 100)[0] == counted - tmp_path.stat().st_blocks * 512


@pytest.mark.parametrize(("depth", "name"), [(5000, "d"), (60, "d" * 255)], ids=["many folders", "long path"])
def test_nothing_is_too_deep_to_be_measured_and_removed(depth, name):
    with deep_place() as place:
        top = place / "top"
        top.mkdir()
        nest(top, depth, name, bytes(2**20))
        before = descriptors()
        used, entries = usage(top, 10_000)
        assert entries == depth + 1
        assert used >= 2**20
        assert sum(1 for _ in walk(top, 10_000, depth=3)) == 4
        remove(top)
        assert not top.exists()
        assert descriptors() == before


def test_a_walk_ends_after_its_most_entries(tmp_path):
    for number in range(50):
        (tmp_path / f"{number}" / "in").mkdir(parents=True)
    assert len(found_in(tmp_path, 20)) == 21
    assert len(found_in(tmp_path, 60)) == 61
    assert len(found_in(tmp_path, 100)) == 100
    assert usage(tmp_path, 99)[1] > 99
    assert usage(tmp_path, 100)[1] == 100
    assert usage(tmp_path, 10)[1] > 10


def test_the_walker_chooses_the_folders_that_are_walked(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "in").mkdir(parents=True)
    seen = []
    for each in walk(tmp_path, 100):
        each.folders[:] = [name for name in each.folders if name != "a"]
        seen.append(each.path(""))
    assert seen == ["", "b/", "b/in/"]


def test_no_link_is_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    top = tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to(precious)
    (tmp_path / "itself").symlink_to(precious)
    assert found_in(top) == [b"link"]
    remove(top)
    remove(tmp_path / "itself")
    assert os.listdir(tmp_path) == ["precious"]
    assert (precious / "file").exists()


def test_what_is_not_there_is_told_with_its_path(tmp_path):
    with pytest.raises(FileNotFoundError) as told:
        remove(tmp_path / "nothing")
    assert told.value.filename == str(tmp_path / "nothing")
    assert usage(tmp_path / "nothing", 10) == (0, 0)


CLOSED = """
import os, sys
from pathlib import Path
from grading.sandbox.folders import remove, usage, walk
top = Path(sys.argv[1], "top")
(top / "a" / "b").mkdir(parents=True)
(top / "a" / "b" / "file").write_bytes(bytes(100_000))
(top / "read").mkdir()
(top / "read" / "file").touch()
for path, mode in ((top / "a" / "b", 0), (top / "a", 0o100), (top / "read", 0o500), (top, 0)):
    path.chmod(mode)
print(sum(1 for each in walk(Path(sys.argv[1]), 100) for name in each.files))
used, entries = usage(top, 100)
print(entries, used >= 100_000)
(top / "a").chmod(0)
top.chmod(0)
remove(top)
print(top.exists())
"""


@pytest.mark.parametrize("user", ["itself", "a user"])
def test_folders_that_are_closed_to_their_owner_hide_nothing_and_are_removed(user):
    with deep_place() as place:
        command = [sys.executable, "-c", CLOSED, str(place)]
        if user == "a user":
            if not another_user_runs_python():
                pytest.skip(NO_OTHER_USER)
            os.chown(place, 1000, 1000)
            command = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", *command]
        done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        visible = "2" if os.geteuid() == 0 and user == "itself" else "0"
        assert (done.stdout.split(), done.stderr) == ([visible, "5", "True", "False"], "")


@pytest.fixture
def restless():
    """A folder in which another thread moves folders to and fro, also out of it."""
    with deep_place() as place:
        for number in range(20):
            (place / "top" / "a" / f"{number}").mkdir(parents=True)
            nest(place / "top" / "a" / f"{number}", 10)
        (place / "top" / "b").mkdir()
        (place / "outside").mkdir()
        (place / "outside" / "secret").touch()
        stop = threading.Event()
        pairs = [(f"top/a/{n}", f"top/b/{n}") for n in range(20)]
        pairs += [(f"top/a/{n}/d/d/d", f"outside/{n}") for n in range(20)]

        def move():
            while not stop.is_set():
                for pair in pairs:
                    for one, other in (pair, pair[::-1]):
                        with suppress(OSError):
                            os.rename(place / one, place / other)

        thread = threading.Thread(target=move)
        thread.start()
        yield place
        stop.set()
        thread.join()


def test_folders_that_move_during_a_walk_neither_stop_it_nor_lead_it_out(restless):
    for _ in range(25):
        seen = [name for each in walk(restless / "top", 5000) for name in each.files]
        assert "secret" not in seen
        assert len(seen) < 1000
        assert usage(restless / "top", 5000)[1] < 1000


def moved_while_in(place: Path, inside: str, old: str, new: str) -> list[str]:
    """The folders that a walk visits if one of them is moved while it is in another."""
    seen = []
    for each in walk(place / "top", 1000):
        path = each.path("").strip("/")
        seen.append(path)
        if path == inside:
            os.rename(place / old, place / new)
    return seen


def test_a_walk_goes_on_above_a_folder_that_was_moved_away(tmp_path):
    for path in ("top/a/x/y", "top/a/z", "top/b", "outside/o"):
        (tmp_path / path).mkdir(parents=True)
    assert moved_while_in(tmp_path, "a/x/y", "top/a/x", "outside/x") == ["", "a", "a/x", "a/x/y", "a/z", "b"]
    assert moved_while_in(tmp_path, "a/z", "top/a", "outside/a") == ["", "a", "a/z", "b"]


def test_a_folder_that_takes_the_name_of_the_one_above_is_not_taken_for_it(tmp_path):
    (tmp_path / "top" / "a" / "x" / "y").mkdir(parents=True)
    (tmp_path / "top" / "a" / "z").mkdir()
    (tmp_path / "other" / "z").mkdir(parents=True)
    seen = []
    for each in walk(tmp_path / "top", 1000):
        path = each.path("").strip("/")
        seen.append(path)
        if path == "a/x":
            os.rename(tmp_path / "top" / "a" / "x", tmp_path / "x")
            os.rename(tmp_path / "top" / "a", tmp_path / "a")
            os.rename(tmp_path / "other", tmp_path / "top" / "a")
    assert seen == ["", "a", "a/x", "a/x/y"]


def test_a_removal_stops_if_what_it_removes_was_moved(tmp_path, monkeypatch):
    (tmp_path / "top" / "a").mkdir(parents=True)
    (tmp_path / "top" / "a" / "file").touch()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    unlink = os.unlink

    def then_move(name, **options):
        unlink(name, **options)
        if name == "file":
            os.rename(tmp_path / "top" / "a", tmp_path / "outside" / "a")

    monkeypatch.setattr(os, "unlink", then_move)
    with pytest.raises(OSError, match="it was moved meanwhile"):
        remove(tmp_path / "top")
    assert sorted(os.listdir(tmp_path / "outside")) == ["a", "file"]
