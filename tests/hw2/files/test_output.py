import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hw2.errors import InputError
from hw2.files.output import OutputFolder, png_bytes, write_file
from tests.commands import ROOT

NAMES = ["a.png", "b.png"]


def test_files_appear_all_together(tmp_path):
    out = tmp_path / "new" / "out"
    folder = OutputFolder(out, NAMES, settings=1)
    folder.write("a.png", b"A")
    assert [p.name for p in out.iterdir()] == [".partial"]
    folder.write("b.png", b"B")
    folder.finish()
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {"a.png": b"A", "b.png": b"B"}


def test_a_stopped_run_finds_its_finished_files(tmp_path):
    OutputFolder(tmp_path, NAMES, settings=(1, "x")).write("a.png", b"A")
    again = OutputFolder(tmp_path, NAMES, settings=(1, "x"))
    assert again.missing() == ["b.png"]
    again.write("b.png", b"B")
    again.finish()
    assert (tmp_path / "a.png").read_bytes() == b"A"


def test_a_run_with_other_settings_starts_afresh(tmp_path):
    OutputFolder(tmp_path, NAMES, settings=(1, "x")).write("a.png", b"A")
    assert OutputFolder(tmp_path, NAMES, settings=(2, "x")).missing() == NAMES


def test_a_run_whose_settings_are_damaged_starts_afresh(tmp_path):
    OutputFolder(tmp_path, NAMES, settings=1).write("a.png", b"A")
    (tmp_path / ".partial" / "settings").write_bytes(b"\xff\xfe\0")
    assert OutputFolder(tmp_path, NAMES, settings=1).missing() == NAMES


def test_a_half_written_file_does_not_count(tmp_path):
    OutputFolder(tmp_path, NAMES, settings=1)
    (tmp_path / ".partial" / ".a.png.partial").write_bytes(b"half")
    folder = OutputFolder(tmp_path, NAMES, settings=1)
    assert folder.missing() == NAMES


def test_an_earlier_result_is_replaced(tmp_path):
    for content in (b"1", b"2"):
        folder = OutputFolder(tmp_path, ["a.png"], settings=content)
        folder.write("a.png", content)
        folder.finish()
    assert (tmp_path / "a.png").read_bytes() == b"2"


def test_an_interrupted_end_never_leaves_old_and_new_files_side_by_side(tmp_path, monkeypatch):
    for name in NAMES:
        (tmp_path / name).write_bytes(b"old")
    folder = OutputFolder(tmp_path, NAMES, settings=1)
    for name in NAMES:
        folder.write(name, b"new")
    real, moved = Path.replace, []

    def interrupted(path, target):
        if moved:
            raise KeyboardInterrupt
        moved.append(target)
        return real(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        folder.finish()
    assert [path.name for path in tmp_path.glob("*.png")] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"new"


def test_other_files_are_never_mixed_with_ours(tmp_path):
    (tmp_path / "thesis.doc").write_text("x")
    with pytest.raises(InputError, match=r"already holds other files \(thesis.doc\)"):
        OutputFolder(tmp_path, NAMES, settings=1)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.doc"]


def test_what_a_file_manager_leaves_behind_is_no_obstacle(tmp_path):
    (tmp_path / ".DS_Store").write_text("x")
    OutputFolder(tmp_path, NAMES, settings=1)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(InputError, match="is a file; expected a folder"):
        OutputFolder(tmp_path / "out", NAMES, settings=1)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file/out cannot be written to: Not a directory"):
        OutputFolder(tmp_path / "file" / "out", NAMES, settings=1)


def test_a_full_disk_leaves_no_half_file_and_keeps_the_finished_ones(tmp_path, monkeypatch):
    folder = OutputFolder(tmp_path, NAMES, settings=1)
    folder.write("a.png", b"A")

    def full(path, content):
        with path.open("wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(InputError, match=r"No space left on device; .*; 1 finished file is kept, run the same"):
        folder.write("b.png", b"BBBB")
    assert sorted(p.name for p in (tmp_path / ".partial").iterdir()) == ["a.png", "lock", "settings"]
    folder.discard_if_empty()
    assert folder.missing() == ["b.png"], "finished files are not lost"


@pytest.fixture
def other_run(tmp_path):
    """A process that claims tmp_path / "out", has made a.png, and goes on for a minute unless stopped."""
    script = (
        "import sys, time; from pathlib import Path; from hw2.files.output import OutputFolder; "
        "folder = OutputFolder(Path(sys.argv[1]), ['a.png', 'b.png'], settings=1); folder.write('a.png', b'A'); "
        "print('claimed', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, tmp_path / "out"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline() == "claimed\n"
        yield run
        run.kill()


@pytest.mark.parametrize(("names", "settings"), [(NAMES, 1), (NAMES, 2), (["c.png"], 1)])
def test_a_folder_that_another_run_fills_is_left_to_it(tmp_path, other_run, names, settings):
    for _ in range(2):
        with pytest.raises(InputError, match=r"another run is writing to .*out; wait until it is done, or choose"):
            OutputFolder(tmp_path / "out", names, settings)
    assert sorted(p.name for p in tmp_path.glob("out/.partial/*")) == ["a.png", "lock", "settings"]


def test_a_killed_run_holds_its_folder_no_longer(tmp_path, other_run):
    other_run.send_signal(signal.SIGKILL)
    other_run.wait()
    folder = OutputFolder(tmp_path / "out", NAMES, settings=1)
    assert folder.missing() == ["b.png"]
    folder.write("b.png", b"B")
    folder.finish()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == NAMES


def test_a_finished_or_discarded_folder_is_free_and_untouched_by_those_who_had_it(tmp_path):
    for end in ("finish", "discard"):
        first = OutputFolder(tmp_path / "out", NAMES, settings=1)
        for name in NAMES:
            first.write(name, b"1")
        getattr(first, end)()
        second = OutputFolder(tmp_path / "out", NAMES, settings=1)
        first.discard_if_empty()
        first.discard()
        with pytest.raises(InputError, match="another run is writing to"):
            OutputFolder(tmp_path / "out", NAMES, settings=1)
        second.discard()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == NAMES


def test_further_processes_of_a_run_write_to_the_folder_that_its_first_has_claimed(tmp_path):
    first = OutputFolder(tmp_path, NAMES, settings=1)
    second = OutputFolder(tmp_path, NAMES, settings=1, claim=False)
    second.discard_if_empty()
    first.write("a.png", b"A")
    assert second.missing() == ["b.png"]
    second.write("b.png", b"B")
    first.finish()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a.png": b"A", "b.png": b"B"}


def test_runs_that_come_and_go_at_once_are_served_one_by_one_or_refused(tmp_path):
    """Whoever claims a folder has it alone, though the one before has just taken the lock's file away."""
    script = (
        "import os, sys, time; from pathlib import Path; from hw2.errors import InputError; "
        "from hw2.files.output import OutputFolder\n"
        "done = 0\n"
        "while done < 60:\n"
        "    try: folder = OutputFolder(Path(sys.argv[1]) / 'out', ['a.png'], settings=1)\n"
        "    except InputError: continue\n"
        "    alone = Path(sys.argv[1]) / 'alone'\n"
        "    os.close(os.open(alone, os.O_CREAT | os.O_EXCL)); time.sleep(1e-3); alone.unlink()\n"
        "    folder.discard(); done += 1\n"
    )
    command = [sys.executable, "-c", script, tmp_path]
    runs = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [run.communicate(timeout=120)[1] for run in runs] == ["", "", ""]
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_written_to(tmp_path, monkeypatch):
    def without(descriptor, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", without)
    folder = OutputFolder(tmp_path, ["a.png"], settings=1)
    folder.write("a.png", b"A")
    folder.finish()
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_folder_in_the_place_of_a_file_is_refused_before_the_work(tmp_path):
    (tmp_path / "b.png").mkdir()
    with pytest.raises(InputError, match=r"b\.png is a folder, but a file of that name must be written"):
        OutputFolder(tmp_path, NAMES, settings=1)


def test_write_file_follows_a_link_and_refuses_a_pipe(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    write_file(tmp_path / "link.png", b"x")
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").read_bytes() == b"x"
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match=r"pipe\.png is not a file"):
        write_file(tmp_path / "pipe.png", b"x")


def test_write_file_to_the_device_that_is_always_full():
    with pytest.raises(InputError, match="could not be written"):
        write_file(Path("/dev/full/x.png"), b"x")


def test_png_bytes_hold_the_pixels(tmp_path):
    pixels = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    (tmp_path / "x.png").write_bytes(png_bytes(pixels))
    with Image.open(tmp_path / "x.png") as image:
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), pixels)
