"""What a download left in place of a file is named for what it is, by every reader."""

import gzip
import io
import zipfile

import pytest
import torch

from grading.files.leftovers import described, leftover, leftovers_in, switches_off


def archive(*names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name in names:
            file.writestr(name, "x" * 5000)
    return content.getvalue()


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


LEFTOVERS = {
    "a web page (Google Drive - Quota exceeded)": b"<!DOCTYPE html><title>Google Drive - Quota exceeded</title>",
    "a web page, not": b"\xef\xbb\xbf\n  <HTML lang=en>",
    "an XML message of a server (AccessDenied)": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
    "empty": b"",
    "zeros only": bytes(10_000),
    "gzip": gzip.compress(b"x"),
    "cut off": archive("a/data.pkl", "a/data/0")[:4000],
    "a TorchScript archive": archive("jit/data.pkl", "jit/constants.pkl", "jit/code/__torch__.py"),
    "a zip archive of other files": archive("UNet.pt"),
}


@pytest.mark.parametrize("what", LEFTOVERS)
def test_a_leftover_is_named(tmp_path, what):
    path = tmp_path / "UNet.pt"
    path.write_bytes(LEFTOVERS[what])
    assert what in leftover(path)
    assert leftover(path) == described(LEFTOVERS[what])
    assert leftovers_in(tmp_path) == f"UNet.pt {leftover(path)}"
    assert leftover(path).isprintable()


def test_whole_files_are_no_leftovers(tmp_path):
    for name, content in {
        "a.pt": saved({"weight": torch.ones(3)}),
        "b.safetensors": b"\x10\0\0\0\0\0\0\0{}              ",
        "c.csv": b"image_name,label\n0.png,1\n",
        "d.json": b'{"text": "<html>"}'.replace(b"<html>", b"<b>"),
        "e.txt.gz": gzip.compress(b"x"),
    }.items():
        (tmp_path / name).write_bytes(content)
    assert leftovers_in(tmp_path) == ""
    assert leftover(tmp_path / "nowhere") == ""


@pytest.mark.parametrize("name", ["UNet.pt.part", "UNet.pt.crdownload", "UNet.pt.aria2"])
def test_an_unfinished_download_is_named_for_its_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    assert "is an unfinished download" in leftover(tmp_path / name)
    (tmp_path / "UNet.pt").write_bytes(b"x")
    assert ("unfinished" in leftover(tmp_path / "UNet.pt")) == name.endswith("aria2")


def test_a_title_controls_no_terminal(tmp_path):
    assert described(b"<html><title>\x1b[2Jquota\nexceeded</title>").isprintable()


@pytest.mark.parametrize(
    "advice",
    [
        "In PyTorch 2.6 .. re-running torch.load with `weights_only` set to `False` will likely succeed",
        "please pass the argument `trust_remote_code=True`", "Object arrays cannot be loaded when allow_pickle=False",
        "Please use safe_globals to allowlist", "use_safetensors=False", "set ImageFile.LOAD_TRUNCATED_IMAGES",
    ],
)  # fmt: skip
def test_advice_to_switch_a_protection_off_is_recognized(advice):
    assert switches_off(advice)
    assert not switches_off("the file is truncated")
