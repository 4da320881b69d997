import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import grading.files.decode
from grading.core.arrays import pixel_digest
from grading.core.errors import GradingError
from grading.files.decode import DECODE_LIMITS, Request, read_digests, read_images
from grading.files.decoder import CRASHES
from grading.files.images import DecodedImages, GradedImage, ImageRefused, ImageTooCostly, read_image, read_png
from grading.sandbox.run import Sandbox
from tests.commands import ROOT
from tests.grading.files import hostile
from tests.grading.files.pngs import PIXELS, png
from tests.grading.sandboxed import BOTH, TRUSTED, needs_sandbox

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


@BOTH
def test_pixels_together_are_bounded(source, sandbox):
    for name in "abc":
        Image.fromarray(PIXELS).save(source / f"{name}.png")
    asked = Request((), pixel_bytes=PIXELS.nbytes)
    results = read_images(source, ["a.png", "b.png", "c.png"], sandbox=sandbox, request=asked)
    assert [isinstance(each, GradedImage) for each in results.values()] == [True, True, False]
    assert isinstance(results["c.png"], ImageTooCostly)
    assert str(results["c.png"]).startswith("was not read, because the images read before it have 384 bytes of pixels")


@pytest.fixture
def starts(monkeypatch):
    """The number of sandboxes that were started."""
    real, started = grading.files.decode.run_sandboxed, []

    def counting(*arguments, **options):
        started.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(grading.files.decode, "run_sandboxed", counting)
    return started


@pytest.mark.parametrize(
    ("content", "sandbox"),
    [
        (hostile.slow_bmp(), TRUSTED),
        pytest.param(hostile.slow_bmp(), Sandbox(), marks=needs_sandbox),
        (hostile.cut_jpeg(), TRUSTED),
        (hostile.padded_jpeg(), TRUSTED),
    ],
    ids=["bmp", "bmp in a sandbox", "jpeg", "fill"],
)
def test_an_image_that_takes_long_is_refused_and_the_others_are_read(source, sandbox, starts, content):
    """Without the limit each keeps the reader busy for seconds: see the test below."""
    for name in ("a.png", "z.png"):
        Image.fromarray(PIXELS).save(source / name)
    (source / "b.png").write_bytes(content)
    asked = Request((), picture_seconds=0.2)
    results = read_images(source, [], ["a.png", "b.png", "z.png"], sandbox, request=asked)
    assert isinstance(results["b.png"], ImageTooCostly)
    assert str(results["b.png"]) == "takes more than 0.2 seconds of computing to be read; expected a plain image"
    np.testing.assert_array_equal(results["a.png"].pixels_u8, PIXELS)
    np.testing.assert_array_equal(results["z.png"].pixels_u8, PIXELS)
    assert len(starts) == 1


@pytest.mark.long
def test_images_that_take_long_are_read_by_an_ordinary_reader(source):
    for content in (hostile.slow_bmp(), hostile.cut_jpeg()):
        (source / "x.png").write_bytes(content)
        assert len(content) < 120_000
        before = time.process_time()
        with suppress(ImageRefused):
            assert read_image(source, "x.png").shape == (4096, 4096, 3)
        assert time.process_time() - before > 0.2


@pytest.mark.parametrize(
    ("content", "sandbox"),
    [
        (hostile.transparent_png(), TRUSTED),
        (hostile.cut_jpeg(), TRUSTED),
        (hostile.text_png(), TRUSTED),
        pytest.param(hostile.text_png(), Sandbox(), marks=needs_sandbox),
    ],
    ids=["transparent", "jpeg", "text", "text in a sandbox"],
)
def test_a_hundred_costly_images_end_with_a_reason_for_each_and_hide_no_other(source, sandbox, starts, content):
    """As many of 75 kB took 12 minutes, and then nothing could be checked."""
    names = [f"{i:03d}.png" for i in range(100)]
    for name in names:
        (source / name).write_bytes(content)
    Image.fromarray(PIXELS).save(source / "small.png")
    asked = Request((), picture_seconds=0.1, seconds=0.5)
    results = read_images(source, [], [*names, "small.png"], sandbox, request=asked)
    np.testing.assert_array_equal(results.pop("small.png").pixels_u8, PIXELS)
    late = ImageTooCostly("was not read, because the images together take more than 0.5 seconds of computing")
    assert str(results["099.png"]) == str(late)
    assert sum(str(each) == str(late) for each in results.values()) > 50
    assert len(starts) == 1


def test_large_images_that_are_worth_nothing_leave_the_others_their_time(source):
    for i in range(3):
        (source / f"{i}.png").write_bytes(hostile.transparent_png())
    for name in ("y.png", "z.png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)).save(source / name)
    asked = Request((), picture_seconds=0.3, seconds=1.0)
    assert (source / "y.png").stat().st_size > (source / "0.png").stat().st_size
    results = read_images(source, ["0.png", "1.png", "2.png", "y.png", "z.png"], sandbox=TRUSTED, request=asked)
    assert [isinstance(each, GradedImage) for each in results.values()] == [False] * 3 + [True] * 2


def reader_that(does: str) -> str:
    """A reader that does something else with images whose names begin with "evil"."""
    return (
        grading.files.decode.DECODE.replace("decode(*sys.argv", "decoder.decode(*sys.argv")
        .replace("from grading.files.decoder import decode", "from grading.files import decoder")
        .replace(
            "decoder.decode(",
            f"""real = decoder.png_picture
def read(folder, name, **options):
    if name.startswith("evil"):
        {does}
    return real(folder, name, **options)
decoder.png_picture = read
decoder.decode(""",
        )
    )


def evil(folder: Path, count: int) -> list[str]:
    names = ["a.png", *(f"evil{i}.png" for i in range(count)), "z.png"]
    for name in names:
        Image.fromarray(PIXELS).save(folder / name)
    return names


@BOTH
@pytest.mark.parametrize("does", ["os.abort()", "os.kill(os.getpid(), 11)"])
def test_images_that_crash_the_reader_one_after_the_other_are_refused(source, sandbox, monkeypatch, starts, does):
    names = evil(source, 20)
    monkeypatch.setattr(grading.files.decode, "DECODE", reader_that(does))
    results = read_images(source, names, sandbox=sandbox)
    assert [isinstance(results[name], GradedImage) for name in names] == [True] + [False] * 20 + [True]
    assert {str(results[name]) for name in names if name.startswith("evil")} == {CRASHES}
    assert len(starts) == 1


@pytest.mark.parametrize(
    "does",
    [
        "os.kill(os.getppid(), 9); os.abort()",
        "open(sys.argv[4] + '/index', 'a').write('nonsense\\n'); os.abort()",
        "open(sys.argv[4] + '/index', 'w').close(); os.abort()",
        "os.remove(sys.argv[4] + '/index'); os.symlink('/etc/passwd', sys.argv[4] + '/index'); os.abort()",
    ],
)
def test_images_that_break_the_sandbox_again_and_again_are_no_fault_of_the_grader(source, monkeypatch, starts, does):
    names = evil(source, 20)
    monkeypatch.setattr(grading.files.decode, "DECODE", reader_that(does))
    monkeypatch.setattr(grading.files.decode, "MAX_BREAKS", 2)
    results = read_images(source, names, sandbox=TRUSTED)
    assert list(results) == names
    assert all(isinstance(results[name], ImageTooCostly) for name in names if name.startswith("evil"))
    assert str(results["evil19.png"]) == "was not read, because other images break the image reader 2 times"
    assert len(starts) == 2 * 2  # each time our own image is read, too


@BOTH
def test_one_image_that_breaks_the_sandbox_leaves_the_others(source, sandbox, monkeypatch):
    names = evil(source, 1)
    monkeypatch.setattr(grading.files.decode, "DECODE", reader_that("os._exit(1)"))
    results = read_images(source, names, sandbox=sandbox)
    assert str(results["evil0.png"]) == CRASHES
    assert all(isinstance(results[name], GradedImage) for name in ("a.png", "z.png"))


def test_a_sandbox_that_breaks_once_is_no_images_fault(source, monkeypatch, tmp_path):
    names = evil(source, 1)
    does = f"if not os.path.exists({str(tmp_path / 'once')!r}): os.mkdir({str(tmp_path / 'once')!r}); os._exit(1)"
    monkeypatch.setattr(grading.files.decode, "DECODE", reader_that(does))
    assert all(isinstance(each, GradedImage) for each in read_images(source, names, sandbox=TRUSTED).values())
    assert (tmp_path / "once").exists()


def test_a_reader_that_is_kept_from_the_processor_blames_no_image(source, monkeypatch):
    names = evil(source, 1)
    monkeypatch.setattr(grading.files.decode, "DECODE", reader_that("import time; time.sleep(60)"))
    with pytest.raises(GradingError, match=r"were not read within 2 seconds, because other processes kept the machine"):
        read_images(source, names, sandbox=TRUSTED, limits=replace(DECODE_LIMITS, seconds=2.0))


@BOTH
def test_digests_are_those_of_the_pixels_whatever_the_file(source, sandbox):
    Image.fromarray(PIXELS).save(source / "a.png")
    Image.fromarray(PIXELS).save(source / "b.bmp")
    Image.fromarray(PIXELS ^ 1).save(source / "c.png")
    Image.fromarray(PIXELS[:4]).save(source / "d.png")
    found = read_digests(source, ["a.png", "b.bmp", "c.png", "d.png"], {(8, 8)}, sandbox)
    assert found["a.png"] == found["b.bmp"] == pixel_digest(PIXELS)
    assert found["c.png"] == pixel_digest(PIXELS ^ 1)
    assert str(found["d.png"]) == "is 8x4 pixels; no image of that size is needed"
    assert not isinstance(found["d.png"], ImageTooCostly)


def test_pixels_that_are_not_kept_are_not_bounded(source):
    for name in "abc":
        Image.fromarray(PIXELS).save(source / f"{name}.png")
    found = read_digests(source, ["a.png", "b.png", "c.png"], {(8, 8)}, TRUSTED, request=Request((), pixel_bytes=0))
    assert set(found.values()) == {pixel_digest(PIXELS)}


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
        read_images(source, names, limits=replace(DECODE_LIMITS, memory_bytes=2**23))
    ends = "open('/output/pixels', 'w'); open('/output/index', 'w').write('{\"begin\": 0}\\n')"
    monkeypatch.setattr(grading.files.decode, "DECODE", ends)
    with pytest.raises(GradingError, match=INVALID):
        read_images(source, names)


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[" * 100_000,
        '{"of": 0, "spent": 0, "shape": [8, 1e999, 3], "offset": 0, "note": ""}',
        "[1]",
        "7",
        '{"begin": 1}',
        '{"of": -1, "spent": 0, "refused": "x", "costly": false}',
        '{"of": 0, "spent": 0, "digest": "0"}',
        '{"of": 0, "spent": 0, "digest": 0}',
        '{"of": 0, "spent": 0}',
        '{"of": 0, "spent": 0, "shape": [20, 20, 3], "offset": 0, "note": ""}',
        '{"of": 0, "spent": 0, "shape": [-8, -8, 3], "offset": 0, "note": ""}',
        '{"of": 0, "spent": 0, "shape": [8, 8, 4], "offset": 0, "note": ""}',
        '{"of": 0, "spent": 0, "shape": [100000, 100000, 3], "offset": 0, "note": ""}',
        '{"of": 0, "spent": 0, "shape": [0, 8, 3], "offset": 0, "note": ""}',
        '{"of": 0, "spent": 0, "shape": [8, 8], "offset": 0, "note": ""}',
        '{"of": 0, "spent": 0, "shape": [8, 8, 3], "offset": -9, "note": ""}',
        '{"of": 0, "spent": 0, "shape": [8, 8, 3], "offset": 200, "note": ""}',
        '{"of": 0, "spent": 0, "shape": [8, 8, 3], "offset": 1e999, "note": ""}',
    ],
)
def test_a_reader_taken_over_by_an_image_cannot_harm_us(source, monkeypatch, tmp_path, line):
    (tmp_path / "pixels").write_text("x" * 300)
    (tmp_path / "index").write_text(f"{line}\n")

    @contextmanager
    def taken_over(*_arguments, **_options):
        output = os.open(tmp_path, os.O_RDONLY)
        yield SimpleNamespace(output=output, limit="", log="")
        os.close(output)

    monkeypatch.setattr(grading.files.decode, "run_sandboxed", taken_over)
    with pytest.raises(GradingError, match=INVALID):
        read_images(source, ["grey.png"])


@needs_sandbox
def test_a_reader_taken_over_cannot_make_us_read_something_else(source, monkeypatch):
    several(source)
    ready = "import os; open('/output/index', 'w').write('{}\\n'); "
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
    line = json.dumps({"of": 0, "spent": 0, "refused": "\x1b[31mred", "costly": False})
    (source / "line").write_text(line + "\n")
    code = "open('/output/pixels', 'w'); open('/output/index', 'w').write(open('/submission/line').read())"
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


def test_the_reader_starts_without_numpy():
    """Its import takes longer than reading the pictures of a submission."""
    asked = "import sys, grading.files.decoder; print('numpy' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"
