import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import grading.files.decode
from grading.core.errors import GradingError
from grading.files.decode import DECODE_LIMITS, decode, read_images
from grading.files.images import DecodedImages, GradedImage, ImageRefused, read_image, read_png
from tests.grading.files.pngs import PIXELS, png
from tests.grading.sandboxed import BOTH, needs_sandbox

INVALID = "the image reader failed to start or returned invalid data"


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def several(folder: Path) -> list[str]:
    """Images that are graded, with and without a note, and others that are refused."""
    (folder / "sub").mkdir()
    Image.fromarray(PIXELS).save(folder / "sub" / "rgb.png")
    Image.fromarray(PIXELS).convert("L").save(folder / "grey.png")
    Image.fromarray(PIXELS).resize((9, 7)).save(folder / "size.png")
    Image.fromarray(PIXELS).save(folder / "jpeg.png", format="JPEG")
    (folder / "text.png").write_text("no image")
    (folder / "bomb.png").write_bytes(png(50_000, 50_000, pixels=bytes(1000)))
    return ["sub/rgb.png", "grey.png", "size.png", "jpeg.png", "text.png", "bomb.png", "missing.png", "sub"]


@BOTH
@pytest.mark.parametrize("only_png", [True, False])
def test_images_are_what_the_reader_says_they_are(source, sandbox, only_png):
    names = several(source)
    results = read_images(source, *((names, []) if only_png else ([], names)), sandbox)
    assert list(results) == names
    for name, result in results.items():
        if isinstance(result, GradedImage):
            expected = read_png(source, name) if only_png else GradedImage(read_image(source, name))
            np.testing.assert_array_equal(result.pixels_u8, expected.pixels_u8)
            assert result.note == expected.note
        else:
            with pytest.raises(ImageRefused) as refusal:
                (read_png if only_png else read_image)(source, name)
            assert str(result) == str(refusal.value)
    assert isinstance(results["sub/rgb.png"], GradedImage)
    assert isinstance(results["jpeg.png"], ImageRefused if only_png else GradedImage)
    assert isinstance(results["text.png"], ImageRefused)


def test_decoded_images_stand_in_for_the_files(source):
    """The code that grades a submission's images never opens them itself."""
    stand_in = DecodedImages(source, read_images(source, several(source)))
    np.testing.assert_array_equal(stand_in.read_png(source / "sub", "rgb.png").pixels_u8, PIXELS)
    np.testing.assert_array_equal(stand_in.read_image(source, "sub/rgb.png"), PIXELS)
    assert stand_in.read_png(source, "size.png", (9, 7)).pixels_u8.shape == (7, 9, 3)
    Image.fromarray(PIXELS).save(source / "later.png")
    for name, size in (("size.png", (7, 9)), ("text.png", None), ("later.png", None)):
        with pytest.raises(ImageRefused) as refusal:
            stand_in.read_png(source, name, size)
        if name != "later.png":
            with pytest.raises(ImageRefused) as same:
                read_png(source, name, size)
            assert str(refusal.value) == str(same.value)


def test_images_together_are_bounded(source, monkeypatch):
    for name in "abc":
        Image.fromarray(PIXELS).save(source / f"{name}.png")
    monkeypatch.setattr(grading.files.decode, "run_sandboxed", None)  # the part that runs in the sandbox, run here
    monkeypatch.setattr(grading.files.decode, "MAX_DECODED_BYTES", PIXELS.nbytes)
    request, output = source / "request.json", source / "output"
    output.mkdir()
    request.write_text(json.dumps({"names": ["a.png", "b.png", "c.png"], "others": [], "taken": 0}))
    decode(str(source), str(request), str(output))
    _ready, *lines = [json.loads(line) for line in (output / "index").read_text().splitlines()]
    assert ["refused" in line for line in lines] == [False, False, True]
    assert (output / "pixels").stat().st_size == 2 * PIXELS.nbytes


def test_no_names_start_no_process(source, monkeypatch):
    monkeypatch.setattr(grading.files.decode, "run_sandboxed", lambda *a, **o: 1 / 0)
    assert read_images(source, []) == {}


def test_a_bomb_explodes_in_an_ordinary_reader(source):
    (source / "bomb.png").write_bytes(png(4000, 4000, pixels=bytes(4000 * (4000 * 3 + 1))))
    assert (source / "bomb.png").stat().st_size < 200_000
    with Image.open(source / "bomb.png") as image:
        image.load()
        assert len(image.getbands()) * image.width * image.height == 48_000_000


@needs_sandbox
def test_an_image_that_breaks_the_reader_is_refused_and_the_others_are_graded(source):
    (source / "b.png").write_bytes(png(4096, 4096, pixels=bytes(4096 * (4096 * 3 + 1))))
    for name in ("a.png", "c.png"):
        Image.fromarray(PIXELS).save(source / name)
    limits = replace(DECODE_LIMITS, memory_bytes=100 * 2**20)
    results = read_images(source, ["a.png", "b.png", "c.png"], limits=limits)
    assert str(results["b.png"]) == "crashes the image reader; expected a plain image"
    assert all(isinstance(results[name], GradedImage) for name in ("a.png", "c.png"))


@needs_sandbox
def test_a_reader_that_breaks_by_itself_is_not_the_images_fault(source, monkeypatch):
    names = several(source)
    with pytest.raises(GradingError, match=INVALID):
        read_images(source, names, limits=replace(DECODE_LIMITS, memory_bytes=2**20))
    monkeypatch.setattr(
        grading.files.decode, "DECODE", "open('/output/pixels', 'w'); open('/output/index', 'w').write('1\\n')"
    )
    with pytest.raises(GradingError, match=r"the image reader crashed 6 times on the images in .*; check that"):
        read_images(source, names)


@needs_sandbox
@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[" * 100_000,
        '{"shape": [8, 1e999, 3], "note": ""}',
        "[1]",
        '{"shape": [20, 20, 3], "note": ""}',
        '{"shape": [-8, -8, 3], "note": ""}',
        '{"shape": [8, 8, 4], "note": ""}',
        '{"shape": [100000, 100000, 3], "note": ""}',
        '{"shape": [0, 8, 3], "note": ""}',
        '{"shape": [8, 8], "note": ""}',
    ],
)
def test_a_reader_taken_over_by_an_image_cannot_harm_us(source, monkeypatch, line):
    several(source)
    (source / "line").write_text(line)
    code = "open('/output/pixels', 'w').write('x' * 300); "
    code += "open('/output/index', 'w').write('1\\n' + open('/submission/line').read() + '\\n')"
    monkeypatch.setattr(grading.files.decode, "DECODE", code)
    with pytest.raises(GradingError, match=INVALID):
        read_images(source, ["grey.png"])


@needs_sandbox
def test_a_reader_taken_over_cannot_make_us_read_something_else(source, monkeypatch):
    several(source)
    ready = "import os; open('/output/index', 'w').write('1\\n'); "
    for code in (
        "import os; os.symlink('/etc/passwd', '/output/index'); os.mkfifo('/output/pixels')",
        ready + "os.symlink('/etc/passwd', '/output/pixels')",
        ready + "os.mkfifo('/output/pixels')",
        ready + "os.mkdir('/output/pixels')",
        ready,
    ):
        monkeypatch.setattr(grading.files.decode, "DECODE", code)
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(GradingError, match=INVALID):
            read_images(source, ["grey.png"])
        assert len(os.listdir("/proc/self/fd")) == before


@needs_sandbox
def test_a_reader_taken_over_cannot_steer_the_terminal(source, monkeypatch):
    several(source)
    code = "open('/output/pixels', 'w'); open('/output/index', 'w').write('1\\n{\"refused\": \"\\\\u001b[31mred\"}\\n')"
    monkeypatch.setattr(grading.files.decode, "DECODE", code)
    assert str(read_images(source, ["grey.png"])["grey.png"]) == "\\x1b[31mred"


@BOTH
def test_modules_among_the_images_are_not_loaded(source, sandbox, tmp_path):
    Image.fromarray(PIXELS).save(source / "a.png")
    for name in ("numpy", "PIL", "grading", "json", "sitecustomize", "usercustomize", "conftest", "torch"):
        (source / f"{name}.py").write_text("import os; os.mkdir('owned'); raise SystemExit('owned')")
    own = tmp_path / "own"
    own.mkdir()
    (own / "numpy.py").write_text((source / "numpy.py").read_text())
    subprocess.run([sys.executable, "-c", "import numpy"], cwd=own, capture_output=True)
    assert (own / "owned").exists()
    assert isinstance(read_images(source, ["a.png"], sandbox=sandbox)["a.png"], GradedImage)
    assert not (source / "owned").exists()
