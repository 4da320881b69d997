"""Code of strangers: read without following links, the same however it is laid out."""

import os
import time

import pytest

from grading.files.code import MAX_BYTES, is_code, plain_code, read_code

CODE = """import torch


def draw(noise, steps=50):
    for step in range(steps):
        noise = noise * 0.5
    return noise
"""


def same(path, first, second):
    return plain_code(path, first) == plain_code(path, second)


@pytest.mark.parametrize(
    "other",
    [
        CODE.replace("    ", "\t"),
        CODE.replace("    ", "  ").replace(" = ", "="),
        CODE.replace("\n", "\r\n"),
        "\ufeff" + CODE,
        "# Author: me\n" + CODE.replace("range(steps):", "range(steps):  # every step"),
        CODE.replace("noise * 0.5", "noise  *  0.5"),
    ],
)
def test_layout_and_comments_of_python_do_not_count(other):
    assert same("a.py", CODE, other)


@pytest.mark.parametrize("other", [CODE.replace("50", "51"), CODE.replace("noise", "x"), CODE.replace("draw", "dr aw")])
def test_anything_else_counts(other):
    assert not same("a.py", CODE, other)


def test_a_hash_in_a_string_is_no_comment():
    assert not same("a.py", 'colour = "#fff"\n', 'colour = "#000"\n')
    assert not same("a.sh", 'curl "http://a/#1"\n', 'curl "http://a/#2"\n')


def test_comments_and_spaces_of_scripts_do_not_count():
    assert same("a.sh", "#!/bin/bash\n# mine\npython3  a.py $1 # run\n\n", "python3 a.py $1\r\n")
    assert not same("a.sh", "python3 a.py $1", "python3 a.py $2")


@pytest.mark.parametrize("text", ["def broken(:\n", "'''never ends", "  a\n b\n", "(" * 5000, "$?`", "\ud800"])
def test_what_is_no_python_is_compared_as_text(text):
    assert isinstance(plain_code("a.py", text), str)
    assert same("a.py", text, text + "\n# more\n")


@pytest.mark.parametrize(
    "text", ["(" * MAX_BYTES, "é" * MAX_BYTES, "a=1;" * (MAX_BYTES // 4), "'" * MAX_BYTES, " \n" * 10**5]
)
def test_no_file_takes_long(text):
    began = time.monotonic()
    plain_code("a.py", text)
    plain_code("a.sh", text)
    assert time.monotonic() - began < 5


def test_links_pipes_and_what_is_no_text_are_not_read(tmp_path):
    inside = tmp_path / "submission"
    inside.mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.py").write_text("secret")
    (inside / "link.py").symlink_to(tmp_path / "secret" / "a.py")
    (inside / "folder").symlink_to(tmp_path / "secret")
    (inside / "binary.py").write_bytes(b"\x7fELF\0")
    (inside / "d.py").mkdir()
    os.mkfifo(inside / "pipe.py")
    for path in ("link.py", "folder/a.py", "binary.py", "d.py", "pipe.py", "missing.py"):
        assert read_code(inside, path) is None


def test_text_in_any_encoding_is_read_up_to_a_bound(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "big5.py").write_bytes("# 中文\n".encode("big5"))
    (tmp_path / "long.py").write_bytes(b"x" * (MAX_BYTES + 1))
    assert read_code(tmp_path, "a/big5.py").startswith("# ")
    assert len(read_code(tmp_path, "long.py")) == MAX_BYTES


def test_code_is_known_by_its_name():
    assert [is_code(name) for name in ("a.py", "A.PY", "x/hw2_1.sh", "a.pyc", "a.txt")] == [
        True,
        True,
        True,
        False,
        False,
    ]
