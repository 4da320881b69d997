import io
import os
import struct
import threading
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from grading.core.bounds import MAX_FILE_BYTES
from grading.files.images import STAFF, DecodedImages, GradedImage, ImageRefused, read_image, read_png
from grading.files.picture import MAX_SCANS
from tests.grading.files.pngs import PIXELS, chunk, png


def refusal(folder, size=(8, 8), name="x.png") -> str:
    with pytest.raises(ImageRefused) as error:
        read_png(folder, name, size)
    return str(error.value)


def test_rgb_pixels_come_back_untouched(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "x.png")
    image = read_png(tmp_path, "x.png", (8, 8))
    np.testing.assert_array_equal(image.pixels_u8, PIXELS)
    assert image.note == ""


@pytest.mark.parametrize(
    ("mode", "note"),
    [("L", "is greyscale"), ("1", "is black and white"), ("P", "is a palette image"), ("RGBA", "opaque everywhere")],
)
def test_other_modes_that_lose_nothing_are_graded_and_noted(tmp_path, mode, note):
    original = Image.fromarray(PIXELS).convert(mode)
    original.save(tmp_path / "x.png")
    image = read_png(tmp_path, "x.png", (8, 8))
    np.testing.assert_array_equal(image.pixels_u8, np.asarray(original.convert("RGB")))
    assert note in image.note


def test_transparent_pixels_are_refused_however_they_are_stored(tmp_path):
    rgba = np.dstack([PIXELS, np.full((8, 8), 255, np.uint8)])
    rgba[3, 3, 3] = 254
    Image.fromarray(rgba).save(tmp_path / "x.png")
    assert "transparent pixels" in refusal(tmp_path)
    Image.fromarray(PIXELS).save(tmp_path / "x.png", transparency=tuple(PIXELS[0, 0].tolist()))
    assert "transparent pixels" in refusal(tmp_path)
    Image.fromarray(PIXELS).convert("P").save(tmp_path / "x.png", transparency=0)
    Image.fromarray(np.zeros((8, 8), np.uint8)).convert("P").save(tmp_path / "x.png", transparency=0)
    assert "transparent pixels" in refusal(tmp_path)


@pytest.mark.parametrize("colour", [0, 2])
def test_sixteen_bits_are_refused(tmp_path, colour):
    channels = 3 if colour == 2 else 1
    (tmp_path / "x.png").write_bytes(png(8, 8, 16, colour, (b"\0" + bytes(16 * channels)) * 8))
    assert refusal(tmp_path) == "has 16 bits per channel; expected 8"


def test_the_wrong_size_is_told_with_the_right_one(tmp_path):
    Image.fromarray(PIXELS).resize((9, 7)).save(tmp_path / "x.png")
    assert refusal(tmp_path) == "is 9x7 pixels; expected 8x8"


def test_an_animation_is_refused(tmp_path):
    frames = [Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1].copy())]
    frames[0].save(tmp_path / "x.png", save_all=True, append_images=frames[1:])
    assert "animation" in refusal(tmp_path)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_a_truncated_image_is_refused(tmp_path, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(content[: int(len(content) * share)])
    assert refusal(tmp_path, size=(64, 64)).startswith("is broken and cannot be decoded")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty; expected a PNG image"),
        (b"\x89PNG\r\n\x1a\n", "ends within its header"),
        (b"<html>404</html>", "is not a PNG image (it is a web page, not the file itself)"),
        (b"\xff\xd8\xff\xe0 JPEG", "is not a PNG image"),
        (png(8, 8, pixels=b"\0" * 10), "is broken"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path, content, sentence):
    (tmp_path / "x.png").write_bytes(content)
    assert sentence in refusal(tmp_path)


def test_a_jpeg_called_png_is_refused(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "x.png", format="JPEG")
    assert refusal(tmp_path) == "is not a PNG image"


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    (tmp_path / "x.png").write_bytes(png(50_000, 50_000, pixels=bytes(1000)))
    assert refusal(tmp_path) == "is 50000x50000 pixels; expected 8x8"
    assert refusal(tmp_path, size=None) == "claims 50000x50000 pixels; that is too large to be read"


@pytest.mark.parametrize(
    ("width", "height", "depth", "colour"), [(16, 16, 8, 2), (10_000, 10_000, 8, 0), (8, 8, 16, 0)]
)
def test_a_second_header_does_not_get_past_the_first(tmp_path, width, height, depth, colour):
    second = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    (tmp_path / "x.png").write_bytes(png(8, 8, extra=second))
    assert refusal(tmp_path) == "is broken and cannot be decoded (it has two headers)"


def test_a_palette_image_without_a_palette_is_refused(tmp_path):
    (tmp_path / "x.png").write_bytes(png(8, 8, colour=3, pixels=(b"\0" + bytes(8)) * 8))
    assert refusal(tmp_path).startswith("is broken and cannot be decoded")


def test_transparency_of_few_bits_is_not_overlooked(tmp_path):
    (tmp_path / "x.png").write_bytes(png(8, 8, 2, 0, (b"\0\xff\xff") * 8, chunk(b"tRNS", b"\0\3")))
    assert "transparent pixels" in refusal(tmp_path)


def test_a_text_bomb_in_a_small_image_is_refused(tmp_path):
    bomb = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80 * 2**20)))
    (tmp_path / "x.png").write_bytes(png(8, 8, pixels=(b"\0" + bytes(24)) * 8, extra=bomb))
    assert refusal(tmp_path).startswith("is broken")


def test_more_pixels_than_the_header_claims_are_ignored(tmp_path):
    (tmp_path / "x.png").write_bytes(png(8, 8, pixels=(b"\0" + bytes(24)) * 8 + bytes(64 * 2**20)))
    assert not read_png(tmp_path, "x.png", (8, 8)).pixels_u8.any()


def test_a_folder_called_png_is_refused(tmp_path):
    (tmp_path / "x.png").mkdir()
    assert refusal(tmp_path) == "is a folder; expected an image"


@pytest.mark.parametrize("target", ["real.png", "/etc/passwd", "nowhere"])
def test_links_are_not_followed(tmp_path, target):
    Image.fromarray(PIXELS).save(tmp_path / "real.png")
    (tmp_path / "x.png").symlink_to(target)
    assert refusal(tmp_path) == "is a link; expected the image itself"


@pytest.mark.parametrize("name", ["a\0.png", "a" * 5000, "a/" * 3000])
def test_a_name_that_no_file_can_have_is_refused(tmp_path, name):
    with pytest.raises(ImageRefused, match=r"is no name of a file|cannot be opened"):
        read_png(tmp_path, name)


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    assert refusal(tmp_path) == "is a pipe, socket or device; expected an image"


def test_a_device_is_refused():
    assert refusal(Path("/dev"), name="zero") == "is a pipe, socket or device; expected an image"


def test_a_huge_file_is_not_read(tmp_path):
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert refusal(tmp_path) == f"has {MAX_FILE_BYTES + 1} bytes; at most {MAX_FILE_BYTES} are read"


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch):
    Image.fromarray(PIXELS).save(tmp_path / "x.png")
    real, calls = os.fstat, []

    def growing(descriptor):
        status = real(descriptor)
        if not calls:
            with (tmp_path / "x.png").open("ab") as file:
                file.write(b"more")
        calls.append(descriptor)
        return status

    monkeypatch.setattr(os, "fstat", growing)
    assert "changed while it was being read" in refusal(tmp_path)


def test_a_file_that_is_rewritten_while_it_is_read_is_refused(tmp_path, monkeypatch):
    Image.fromarray(PIXELS).save(tmp_path / "x.png")
    content, real, calls = (tmp_path / "x.png").read_bytes(), os.fstat, []

    def rewriting(descriptor):
        if len(calls) == 1:
            (tmp_path / "x.png").write_bytes(content)
            os.utime(tmp_path / "x.png", ns=(0, 0))
        calls.append(descriptor)
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", rewriting)
    assert "changed while it was being read" in refusal(tmp_path)


def test_a_file_that_vanishes_is_refused(tmp_path):
    assert "cannot be opened (No such file or directory)" in refusal(tmp_path)


def test_reading_does_not_depend_on_other_threads(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "x.png")
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(read_png(tmp_path, "x.png").pixels_u8)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert all(np.array_equal(pixels, PIXELS) for pixels in seen)


@given(st.binary(max_size=300))
def test_any_bytes_behind_a_valid_header_are_graded_or_refused(tmp_path_factory, junk):
    folder = tmp_path_factory.getbasetemp()
    start = png(8, 8)[:33]
    (folder / "fuzz.png").write_bytes(start + junk)
    with suppress(ImageRefused):
        assert read_png(folder, "fuzz.png", (8, 8)).pixels_u8.shape == (8, 8, 3)


RGBA = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8), "RGBA")


@pytest.mark.filterwarnings("ignore:Palette images")  # PIL's advice on what the test itself opens
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("x.png", "RGB"), ("x.png", "RGBA"), ("x.png", "L"), ("x.png", "LA"), ("x.png", "P"), ("x.png", "1"),
        ("x.png", "I;16"), ("x.jpg", "RGB"), ("x.jpeg", "L"), ("x.jpg", "CMYK"), ("x.bmp", "RGB"), ("x.bmp", "1"),
        ("x.bmp", "P"), ("x.gif", "P"),
    ],
)  # fmt: skip
def test_any_format_and_mode_is_read_as_pil_converts_it(tmp_path, name, mode):
    RGBA.convert("L" if mode == "I;16" else mode).convert(mode).save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.mode == mode
        expected = np.asarray(image.convert("RGB"))
    found = read_image(tmp_path, name)
    assert (found.shape, found.dtype) == ((9, 7, 3), np.uint8)
    np.testing.assert_array_equal(found, expected)


def test_a_transparent_palette_is_read_without_its_transparency(tmp_path):
    """As the official script: a grader's taste in what lies behind would be another score."""
    palette = RGBA.convert("RGB").convert("P")
    palette.save(tmp_path / "x.gif", transparency=palette.getpixel((0, 0)))
    np.testing.assert_array_equal(read_image(tmp_path, "x.gif"), np.asarray(palette.convert("RGB")))


def test_the_content_decides_what_an_image_is(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "x.jpg", format="PNG")
    np.testing.assert_array_equal(read_image(tmp_path, "x.jpg"), PIXELS)


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_of_a_moving_picture_the_first_frame_is_read(tmp_path, kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "x.gif", format=kind, save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path, "x.gif") == (255, 0, 0)).all()


def test_a_picture_that_would_grow_beyond_all_memory_is_refused(tmp_path):
    """CLIP makes the shorter side 224 pixels: of a file of 254 bytes that was 12 GB."""
    for size in ((200, 1), (3, 600)):
        Image.new("RGB", size).save(tmp_path / "x.png")
        assert read_image(tmp_path, "x.png").shape == (size[1], size[0], 3)
    for width, height in ((60000, 1), (2, 401)):
        Image.new("RGB", (width, height)).save(tmp_path / "x.png")
        sentence = f"is {width}x{height} pixels; one side may be at most 200 times the other"
        assert refused(tmp_path) == sentence
        elsewhere = DecodedImages(tmp_path, {"x.png": GradedImage(np.zeros((height, width, 3), np.uint8))})
        with pytest.raises(ImageRefused, match=sentence):
            elsewhere.read_image(tmp_path, "x.png")


def test_staff_may_bring_larger_pictures_of_other_kinds(tmp_path):
    large = Image.new("1", (5000, 3400))
    large.putpixel((4999, 0), 1)
    for name, kind in (("x.png", "PNG"), ("x.jpg", "TIFF")):
        large.save(tmp_path / name, format=kind)
        assert read_image(tmp_path, name, STAFF)[0, 4999].tolist() == [255] * 3
    assert refused(tmp_path) == "claims 5000x3400 pixels; that is too large to be read"
    (tmp_path / "x.png").write_bytes(bytes(MAX_FILE_BYTES + 1))
    assert refused(tmp_path) == f"has {MAX_FILE_BYTES + 1} bytes; at most {MAX_FILE_BYTES} are read"
    with pytest.raises(ImageRefused, match="is no image"):
        read_image(tmp_path, "x.png", STAFF)


def refused(folder, name="x.png"):
    with pytest.raises(ImageRefused) as error:
        read_image(folder, name)
    return str(error.value)


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "PPM", "ICO"])
def test_other_formats_are_refused_whatever_they_are_called(tmp_path, kind):
    Image.fromarray(PIXELS).save(tmp_path / "x.png", format=kind)
    assert refused(tmp_path) == "is not a PNG, JPEG, BMP or GIF image"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF"])
def test_a_cut_image_is_refused_in_every_format(tmp_path, kind):
    buffer = io.BytesIO()
    RGBA.convert("RGB").resize((64, 64)).save(buffer, format=kind)
    (tmp_path / "x.png").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    assert refused(tmp_path).startswith("is broken and cannot be decoded")


def test_what_is_not_a_regular_file_is_refused_in_every_format(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "real.png")
    (tmp_path / "x.png").symlink_to("real.png")
    (tmp_path / "x.gif").mkdir()
    os.mkfifo(tmp_path / "x.bmp")
    (tmp_path / "x.jpg").write_bytes(b"")
    assert refused(tmp_path, "x.png") == "is a link; expected the image itself"
    assert refused(tmp_path, "x.gif") == "is a folder; expected an image"
    assert refused(tmp_path, "x.bmp") == "is a pipe, socket or device; expected an image"
    assert refused(tmp_path, "x.jpg") == "is empty"


def jpeg_of(scans: int) -> bytes:
    """A progressive JPEG whose last scan is there again and again."""
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert("L").save(buffer, format="JPEG", progressive=True)
    content = buffer.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * (scans - content.count(b"\xff\xda")) + content[-2:]


def test_a_jpeg_of_endless_scans_is_refused(tmp_path):
    """500 of them keep PIL busy for half a minute at the largest size, with a file of 80 kB."""
    (tmp_path / "x.jpg").write_bytes(jpeg_of(MAX_SCANS))
    assert read_image(tmp_path, "x.jpg").shape == (8, 8, 3)
    (tmp_path / "x.jpg").write_bytes(jpeg_of(MAX_SCANS + 1))
    assert refused(tmp_path, "x.jpg") == f"has {MAX_SCANS + 1} scans; at most {MAX_SCANS} are decoded"


def test_a_gif_whose_frame_is_larger_than_its_screen_is_refused(tmp_path):
    screen = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0)
    (tmp_path / "x.gif").write_bytes(screen + b"," + struct.pack("<HHHHB", 0, 0, 60_000, 2_000, 0) + b"\x08\x01\0\0;")
    assert refused(tmp_path, "x.gif") == "claims 60000x2000 pixels; that is too large to be read"


@given(st.sampled_from(["PNG", "JPEG", "BMP", "GIF"]), st.integers(0, 400), st.binary(max_size=300))
def test_any_bytes_after_any_beginning_are_read_or_refused(tmp_path_factory, kind, length, junk):
    folder = tmp_path_factory.getbasetemp()
    buffer = io.BytesIO()
    RGBA.convert("RGB").save(buffer, format=kind)
    (folder / "fuzz.any").write_bytes(buffer.getvalue()[:length] + junk)
    with suppress(ImageRefused):
        assert read_image(folder, "fuzz.any").ndim == 3
