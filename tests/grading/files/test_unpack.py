"""Zip files of strangers: what is unpacked, and what is refused in one sentence, as the submission's own failure."""

import hashlib
import io
import os
import stat
import struct
import zipfile
from dataclasses import replace

import pytest

from grading.core.errors import GradingError
from grading.files import unpack
from grading.files.unpack import ZIP_CAPS, is_zip, names_in_zip, submission_name, unpack_zip
from grading.homeworks.fall2024 import FALL2024
from grading.preflight.handin import examine_handin
from grading.submission.stages import Workplace, check_fetch, copy_submission

SCRIPT = b"echo hello\n"


def packed(*entries, method=zipfile.ZIP_DEFLATED):
    """The bytes of a zip file. entries: (name, content) or (name, content, mode)."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, body, *mode in entries:
            info = zipfile.ZipInfo(name)
            usual = stat.S_IFDIR | 0o755 if name.endswith("/") else stat.S_IFREG | 0o644
            info.external_attr = (mode[0] if mode else usual) << 16
            info.compress_type = method
            archive.writestr(info, body)
    return content.getvalue()


@pytest.fixture
def unzip(tmp_path):
    def unzip(content, **caps):
        (tmp_path / "hw2.zip").write_bytes(content)
        return unpack_zip(tmp_path / "hw2.zip", tmp_path / "new" / "into", replace(ZIP_CAPS, **caps))

    return unzip


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_come_out_with_their_hashes_and_rights(unzip, tmp_path):
    done = unzip(
        packed(("hw2_1.sh", SCRIPT, stat.S_IFREG | 0o4755), ("a/", b"", stat.S_IFDIR | 0o777), ("a/é.py", b"x"))
    )
    assert files_in(tmp_path / "new" / "into") == {"hw2_1.sh": SCRIPT, "a/é.py": b"x"}
    assert done.files == {"hw2_1.sh": hashlib.sha256(SCRIPT).hexdigest(), "a/é.py": hashlib.sha256(b"x").hexdigest()}
    assert done.refused == []
    assert stat.S_IMODE((tmp_path / "new" / "into" / "hw2_1.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "new" / "into" / "a" / "é.py").stat().st_mode) == 0o644


@pytest.mark.parametrize("others", [(), (("__MACOSX/._hw2", b"x"), ("hw2/", b""))])
def test_one_folder_on_top_is_left_out(unzip, others):
    assert set(unzip(packed(("hw2/hw2_1.sh", SCRIPT), ("hw2/a/b.py", b""), *others)).files) == {"hw2_1.sh", "a/b.py"}


def test_two_folders_or_a_file_beside_the_folder_are_kept(unzip):
    assert set(unzip(packed(("a/x", b""), ("b/x", b""))).files) == {"a/x", "b/x"}


LINK, PIPE, DEVICE = stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o666, stat.S_IFBLK | 0o666

HOSTILE = {
    "traversal": ([("a/../../up.sh", SCRIPT)], "is not a path below its folder"),
    "only dots": ([("..", SCRIPT)], "is not a path below its folder"),
    "absolute": ([("/etc/passwd", SCRIPT)], "is not a path below its folder"),
    "drive": ([("C:/x", SCRIPT)], "is not a path below its folder"),
    "backslash": ([("a\\..\\x", SCRIPT)], "is not a path below its folder"),
    "empty part": ([("a//x", SCRIPT)], "is not a path below its folder"),
    "link": ([("a", b"/etc/passwd", LINK)], "has a link in it, a"),
    "link and through it": ([("a", b"/tmp", LINK), ("a/x", SCRIPT)], "has a link in it, a"),
    "pipe": ([("a", b"", PIPE)], "an entry that is no file"),
    "device": ([("a", b"", DEVICE)], "an entry that is no file"),
    "twice": ([("a", b"1"), ("a", b"2")], "two entries for one name, a and a"),
    "case": ([("x/Ab", b"1"), ("x/aB", b"2")], "two entries for one name, x/Ab and x/aB"),
    "case of a folder": ([("A/x", b"1"), ("a/y", b"2")], "two entries for one name, A and a"),
    "forms of a letter": ([("\u00e9", b"1"), ("e\u0301", b"2")], "two entries for one name"),
    "file and folder": ([("a", b"1"), ("a/x", b"2")], "two entries for one name, a and a"),
    "folder and file": ([("a/x", b"1"), ("a", b"2")], "two entries for one name, a and a"),
    "long name": ([("a" * 256, b"")], "more than 255 bytes"),
    "deep": ([("/".join("a" * 40), b"")], "at depth 40"),
    "nothing": ([], "has no files in it"),
    "20,001 names": ([(f"{i}", b"") for i in range(20000)], "has 20001 entries; at most 20000"),
    "long names": ([(f"{i:05d}/{'x' * 250}", b"") for i in range(19000)], "names with more than"),
    "control": ([("\x1b[31m/../x", b"")], "\\x1b[31m/../x, which is not a path"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_is_refused_as_a_whole_in_one_sentence(unzip, tmp_path, name):
    entries, said = HOSTILE[name]
    done = unzip(packed(("good.sh", SCRIPT), *entries) if entries else packed(*entries))
    assert done.files == {}
    (sentence,) = done.refused
    assert sentence.startswith("hw2.zip ")
    assert sentence.isprintable()
    assert said in sentence
    assert os.listdir(tmp_path / "new") == ["into"]
    assert os.listdir(tmp_path / "new" / "into") == []


def test_a_bomb_is_stopped_while_it_is_read_whatever_its_header_says(unzip, tmp_path):
    content = packed(("bomb", b"0" * 2_000_000))
    lying = content.replace(struct.pack("<L", 2_000_000), struct.pack("<L", 10))
    assert lying != content
    for bomb in (content, lying):
        (sentence,) = unzip(bomb, file_bytes=100_000).refused
        assert "with more than 100000" in sentence or "is not a whole zip file" in sentence
        (tmp_path / "new" / "into").rmdir()
    assert (
        "more than 150000 bytes"
        in unzip(packed(("a", b"0" * 99_999), ("b", b"0" * 99_999)), total_bytes=150_000).refused[0]
    )


def test_an_encrypted_file_and_an_unusual_method_are_refused(unzip, tmp_path):
    content = bytearray(packed(("a", SCRIPT), method=zipfile.ZIP_STORED))
    for start, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(start) + offset] |= 1
    assert "is encrypted" in unzip(bytes(content)).refused[0]
    (tmp_path / "new" / "into").rmdir()
    assert "unusual compression" in unzip(packed(("a", SCRIPT), method=zipfile.ZIP_LZMA)).refused[0]


def test_a_file_that_was_cut_or_changed_anywhere_is_refused_and_is_never_the_graders_failure(unzip, tmp_path):
    content = packed(("hw2_1.sh", SCRIPT * 9), ("a/b", b"x" * 99), method=zipfile.ZIP_STORED)
    for length in range(0, len(content) - 1, 7):
        assert unzip(content[:length]).files == {}, length
        (tmp_path / "new" / "into").rmdir()
    for place in (content.index(SCRIPT), content.index(b"PK\1\2") + 42, len(content) - 6, len(content) - 10):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        assert "is not a whole zip file" in unzip(bytes(changed)).refused[0], place
        (tmp_path / "new" / "into").rmdir()


def test_a_list_of_entries_of_any_size_is_not_read_into_memory(unzip, monkeypatch):
    monkeypatch.setattr(unpack, "MAX_READ", 1000)
    assert "has a list of entries with" in unzip(packed(*((f"{i}", b"") for i in range(50)))).refused[0]


def test_what_is_not_the_submissions_doing_is_no_refusal(tmp_path):
    (tmp_path / "hw2.zip").write_bytes(packed(("a", b"")))
    (tmp_path / "file").touch()
    with pytest.raises(GradingError, match="cannot be written"):
        unpack_zip(tmp_path / "hw2.zip", tmp_path / "file" / "into")
    with pytest.raises(GradingError, match="cannot be opened"):
        unpack_zip(tmp_path / "none.zip", tmp_path / "into")


def test_a_submission_is_a_zip_file_by_its_name_and_called_without_it(tmp_path):
    (tmp_path / "b01.ZIP").write_bytes(packed(("a", b"")))
    (tmp_path / "b02.zip").mkdir()
    (tmp_path / "b03.zip").symlink_to(tmp_path / "b01.ZIP")
    assert [is_zip(tmp_path / name) for name in ("b01.ZIP", "b02.zip", "b03.zip", "b04.zip")] == [
        True,
        False,
        False,
        False,
    ]
    assert submission_name(tmp_path / "b01.ZIP") == "b01"
    assert submission_name(tmp_path / "b02.zip") == "b02.zip"


def test_a_submission_is_copied_out_of_its_zip_file_and_a_bad_one_fails_itself(tmp_path):
    zipped = tmp_path / "b01.zip"
    zipped.write_bytes(packed(("hw2/hw2_1.sh", SCRIPT)))
    place = Workplace(tmp_path / "work")
    assert copy_submission(zipped, place).status == "pass"
    assert (place.submission / "hw2_1.sh").read_bytes() == SCRIPT
    zipped.write_bytes(packed(("a", b"/etc/passwd", LINK)))
    done = copy_submission(zipped, place)
    assert (done.status, done.message) == ("fail", "b01.zip has a link in it, a; hand in the file itself.")
    assert not any(place.submission.iterdir())


def test_a_download_in_a_zip_file_is_seen_before_anything_runs(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("grading.submission.stages.check_network", asked.append)
    for name, entries in {"with": ["hw2/hw2_download_ckpt.sh"], "without": ["hw2_1.sh"], "bad": ["../x"]}.items():
        (tmp_path / f"{name}.zip").write_bytes(packed(*((entry, SCRIPT) for entry in entries)))
        check_fetch([tmp_path / f"{name}.zip"], None)
        assert len(asked) == 1, name
    assert names_in_zip(tmp_path / "with.zip") == {"hw2_download_ckpt.sh"}


def test_check_reads_a_zip_file_as_it_does_its_folder(tmp_path):
    zipped = tmp_path / "hw2.zip"
    zipped.write_bytes(packed(("hw2/hw2_1.sh", SCRIPT)))
    said = [finding.sentence for finding in examine_handin(zipped, FALL2024).findings]
    assert not any(sentence.startswith("hw2_1.sh is not in the top folder") for sentence in said)
    assert any(sentence.startswith("hw2_2.sh is not in the top folder") for sentence in said)
    zipped.write_bytes(b"no zip")
    (finding,) = examine_handin(zipped, FALL2024).findings
    assert (finding.status, finding.sentence) == ("fail", "hw2.zip is not a whole zip file (File is not a zip file).")
