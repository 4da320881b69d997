"""Near misses of scripts, and the fixes of them."""

import os

import pytest

from grading.submission.fixes import fix_submission
from grading.submission.near_misses import near_misses

SCRIPT = "hw2_2.sh"

NEAR = [
    "HW2_2.sh", "Hw2_2.SH", "hw2_2.sh.txt", "hw2_2.sh.sh", "hw2_2.bash", "hw2_2", "hw2-2.sh", "hw2_2.sh ",
    "hw2_2 (1).sh", "hw2_2 copy.sh", "hw2_2_final.sh", "hw2-main/hw2_2.sh", "a/b/HW2_2.sh", "hw2\\hw2_2.sh",
    "a\\b\\Hw2_2.sh", "\ufeffhw2_2.sh",
]  # fmt: skip


def put(folder, path, content=b"echo fine\n"):
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)


@pytest.mark.parametrize("path", NEAR)
def test_a_script_with_nearly_its_name_is_named_and_fixed(tmp_path, path):
    put(tmp_path, path)
    (sentence,) = near_misses(tmp_path, SCRIPT)
    assert "hw2_2" in sentence.lower()
    assert sentence.isprintable()
    assert fix_submission(tmp_path, [SCRIPT])
    assert (tmp_path / SCRIPT).read_text() == "echo fine\n"
    assert near_misses(tmp_path, SCRIPT) == []
    assert fix_submission(tmp_path, [SCRIPT]) == []


@pytest.mark.parametrize("path", ["hw2_1.sh", "hw2_22.sh", "__MACOSX/hw2-main/._hw2_2.sh", ".git/hw2_2.sh", "hw2_2.py"])
def test_other_files_are_no_near_misses(tmp_path, path):
    put(tmp_path, path)
    assert near_misses(tmp_path, SCRIPT) == []
    assert fix_submission(tmp_path, [SCRIPT]) == []


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"a\r\nb\r\n", "CRLF"),
        (b"\xef\xbb\xbfa\n", "BOM"),
        ("a\n".encode("utf-16"), "UTF-16"),
        (b"a\rb\r", "Macintosh"),
    ],
)
def test_what_bash_cannot_read_is_said_also_of_scripts_that_are_started(tmp_path, content, word):
    put(tmp_path, SCRIPT, b"bash run/inner.sh\n")
    put(tmp_path, "run/inner.sh", content)
    put(tmp_path, "run/unused.sh", content)
    (sentence,) = near_misses(tmp_path, SCRIPT)
    assert sentence.startswith("run/inner.sh ")
    assert word in sentence
    (fix,) = fix_submission(tmp_path, [SCRIPT])
    assert "+a" in fix.diff
    assert (tmp_path / "run" / "inner.sh").read_bytes().startswith(b"a\n")
    assert (tmp_path / "run" / "unused.sh").read_bytes() == content


def test_a_good_submission_is_left_as_it_is(tmp_path):
    put(tmp_path, SCRIPT)
    put(tmp_path, "old/hw2_2.sh", b"a\r\n")
    assert near_misses(tmp_path, SCRIPT) == []
    assert fix_submission(tmp_path, [SCRIPT]) == []


@pytest.mark.parametrize("name", ["..\\hw2_2.sh", "\\outside\\hw2_2.sh", "..\\..\\hw2_2.sh", "out\\hw2_2.sh"])
def test_no_name_moves_anything_out_of_the_copy_or_into_it(tmp_path, name):
    copy, outside = tmp_path / "copy", tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("CANARY")
    put(copy, name)
    (copy / "out").symlink_to(outside)
    fix_submission(copy, [SCRIPT])
    assert os.listdir(outside) == ["secret"]
    assert sorted(os.listdir(tmp_path)) == ["copy", "outside"]
    assert not (copy / "secret").exists()


def test_links_are_neither_read_nor_written(tmp_path):
    (tmp_path / "secret.sh").write_bytes(b"a\r\n")
    copy = tmp_path / "copy"
    put(copy, SCRIPT, b"bash inner.sh\n")
    (copy / "inner.sh").symlink_to(tmp_path / "secret.sh")
    assert near_misses(copy, SCRIPT) == []
    assert fix_submission(copy, [SCRIPT]) == []
    assert (tmp_path / "secret.sh").read_bytes() == b"a\r\n"


def test_what_is_at_the_top_stays_when_a_folder_is_moved_up(tmp_path):
    put(tmp_path, "README.md", b"top")
    put(tmp_path, "hw2/README.md", b"inner")
    put(tmp_path, "hw2/hw2_2.sh")
    assert [fix.done for fix in fix_submission(tmp_path, [SCRIPT])] == ["Moved all that is in hw2/ to the top folder."]
    assert ((tmp_path / "README.md").read_text(), (tmp_path / "hw2/README.md").read_text()) == ("top", "inner")
