import json
import os

import pytest

from grading.core.results import StageResult
from grading.submission.journal import Journal


@pytest.mark.parametrize(
    ("fingerprint", "packages", "kept"),
    [
        ("f", ["numpy==1", "pandas==2"], True),
        ("f", ["numpy==1", "omegaconf==1", "pandas==2"], True),
        ("f", ["numpy==2", "pandas==2"], False),
        ("f", ["pandas==2"], False),
        ("g", ["numpy==1", "pandas==2"], False),
    ],
)
def test_stages_are_kept_while_all_that_they_ran_with_is_there(tmp_path, fingerprint, packages, kept):
    path = tmp_path / "journal.jsonl"
    Journal(path, "f", ["numpy==1", "pandas==2"]).add(StageResult("copy", "pass", "The submission was copied."))
    assert Journal(path, fingerprint, packages).has("copy") is kept


@pytest.mark.parametrize("line", [b"", b"\n", b"[]\n", b'{"fingerprint": "f"}\n', b"{broken\n"])
def test_a_journal_without_its_first_line_begins_anew(tmp_path, line):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line + b'{"stage": "copy", "status": "pass", "message": ""}\n')
    assert not Journal(path, "f").has("copy")


NAMES = ["copy", "fetch", "freeze", "hw2_1.sh"]


def written(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, "f")
    for number, name in enumerate(NAMES):
        journal.add(StageResult(name, "pass", "", seconds=number, files={f"{name}\udcff": "0" * 64}))
    return path


def test_stages_are_read_as_they_were_written(tmp_path):
    again = Journal(written(tmp_path), "f")
    assert list(again.done) == NAMES
    assert again.done["fetch"] == StageResult("fetch", "pass", "", seconds=1, files={"fetch\udcff": "0" * 64})
    assert again.damage == ""


def test_one_changed_byte_anywhere_loses_that_stage_and_those_after_it_and_is_said(tmp_path):
    path = written(tmp_path)
    whole = path.read_bytes()
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        journal = Journal(path, "f")
        line = sum(end < place for end in ends)
        assert list(journal.done) == NAMES[: max(line - 1, 0)], place
        if place < len(whole) - 1:
            after = f"the stages after its line {line}" if line else "all stages"
            assert journal.damage == f"The journal was damaged or of another version, so {after} ran again."
        assert Journal(path, "f").damage == ""


def test_a_torn_last_line_is_dropped_silently_and_written_again(tmp_path):
    path = written(tmp_path)
    whole = path.read_bytes()
    for left in range(whole.rindex(b"\n", 0, -1) + 1, len(whole)):
        path.write_bytes(whole[:left])
        journal = Journal(path, "f")
        assert (list(journal.done), journal.damage) == (NAMES[:3], "")
    journal.add(StageResult("hw2_1.sh", "pass", "", seconds=3, files={"hw2_1.sh\udcff": "0" * 64}))
    assert path.read_bytes() == whole


@pytest.mark.parametrize("order", [[0, 2, 3, 4], [0, 2, 1, 3, 4], [0, 1, 1, 2, 3, 4], [1, 2, 3, 4]])
def test_a_line_that_was_removed_moved_or_repeated_is_found(tmp_path, order):
    path = written(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[number] for number in order))
    journal = Journal(path, "f")
    kept = next(place for place, number in enumerate(order) if number != place)
    assert list(journal.done) == NAMES[: max(kept - 1, 0)]
    assert "damaged" in journal.damage


@pytest.mark.parametrize(
    "content", [bytes(range(256)) * 40, b"\n" * 9, b"[" * 10**6 + b"\n", b"{}\n", b"\xff\xfe\n", b"1\n"]
)
def test_garbage_is_said_and_begins_anew(tmp_path, content):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content + b"\n")
    journal = Journal(path, "f")
    assert journal.done == {}
    assert journal.damage == "The journal was damaged or of another version, so all stages ran again."
    journal.add(StageResult("copy", "pass", ""))
    assert Journal(path, "f").has("copy")


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "huge"])
def test_what_is_no_journal_is_replaced_and_never_followed(tmp_path, kind):
    path, other = tmp_path / "journal.jsonl", tmp_path / "other"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(2**40)
    else:
        if kind == "link":
            written(tmp_path).rename(other)
        path.symlink_to(other)
    before = other.read_bytes() if other.exists() else None
    journal = Journal(path, "f")
    assert "The journal could not be read (it is" in journal.damage
    assert not path.is_symlink()
    assert path.is_file()
    assert (other.read_bytes() if other.exists() else None) == before


def test_a_folder_in_place_of_the_journal_is_left_alone(tmp_path):
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(IsADirectoryError) as raised:
        Journal(tmp_path / "journal.jsonl", "f")
    assert raised.value.filename.endswith("journal.jsonl")
    assert os.listdir(tmp_path) == ["journal.jsonl"]


def test_every_line_is_a_json_object_on_its_own(tmp_path):
    lines = [json.loads(line) for line in written(tmp_path).read_bytes().splitlines()]
    assert [line.get("stage") for line in lines] == [None, *NAMES]
    assert len({line["digest"] for line in lines}) == 5


@pytest.mark.parametrize("line", [b"{broken", b"\xff", b"[" * 100_000, b'{"stage": 1}', b"[]", b"9" * 5000])
def test_a_line_that_no_journal_has_is_left_out(tmp_path, line):
    path = tmp_path / "journal.jsonl"
    Journal(path, "f").add(StageResult("copy", "pass", "The submission was copied."))
    path.write_bytes(path.read_bytes() + line + b"\n")
    journal = Journal(path, "f")
    assert list(journal.done) == ["copy"]
    assert "damaged" in journal.damage
    journal.add(StageResult("copy", "pass", "The submission was copied."))
    assert Journal(path, "f").has("copy")
