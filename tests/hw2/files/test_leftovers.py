"""What a download left in place of a file is named for what it is, by every reader."""

import gzip
import io
import zipfile

import pytest
import torch

from hw2.files.leftovers import described, leftover, leftovers_in, switches_off
from tests.models.tiny_clip import register_tiny_open_clip


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


def readers():
    """Every reader of files that a person downloads, by a name, and the name of the file that it reads."""
    from hw2.concepts.clip import load_clip
    from hw2.concepts.embeddings import read_embeddings
    from hw2.concepts.inversion import read_json
    from hw2.concepts.prompts import read_prompts
    from hw2.concepts.stable_diffusion import load_stable_diffusion
    from hw2.concepts.zero_shot import read_class_names, read_pixels
    from hw2.digits.checkpoint import load_digit_model
    from hw2.digits.data import read_labels
    from hw2.digits.prepare import load_photographs
    from hw2.faces.checkpoint import load_face_unet
    from hw2.faces.sample import load_noises
    from hw2.files.pictures import read_images

    return {
        "embeddings .pt": ("e.pt", lambda path: read_embeddings(path, "<a>")),
        "embeddings .safetensors": ("e.safetensors", lambda path: read_embeddings(path, "<a>")),
        "face network .pt": ("UNet.pt", load_face_unet),
        "face network .safetensors": ("UNet.safetensors", load_face_unet),
        "digit network": ("model.safetensors", load_digit_model),
        "noise": ("00.pt", lambda path: load_noises(path.parent)),
        "Stable Diffusion": ("sd-v1-4.ckpt", load_stable_diffusion),
        "CLIP": ("ViT-B-32.pt", lambda path: load_clip(f"tiny-test:{path}")),
        "prompts": ("input.json", read_prompts),
        "json": ("x.json", lambda path: read_json(path, "expected JSON")),
        "classes": ("id2label.json", read_class_names),
        "table": ("train.csv", read_labels),
        "photographs": ("a.png", lambda path: load_photographs(path.parent)),
        "pictures": ("a.png", lambda path: read_images(path.parent, 8)),
        "picture": ("0_450.png", read_pixels),
    }


@pytest.fixture(scope="module", autouse=True)
def _tiny_clip(tmp_path_factory):
    """An architecture that is made in no time."""
    register_tiny_open_clip(tmp_path_factory.mktemp("architectures"))


@pytest.mark.parametrize("reader", readers())
@pytest.mark.parametrize("what", LEFTOVERS)
def test_every_reader_names_a_leftover_and_advises_no_risk(tmp_path, reader, what):
    from hw2.errors import InputError

    name, read = readers()[reader]
    (tmp_path / name).write_bytes(LEFTOVERS[what])
    with pytest.raises(InputError) as caught:
        read(tmp_path / name)
    assert what in str(caught.value)
    assert not switches_off(str(caught.value))
