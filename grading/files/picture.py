"""Reads pictures. Files are untrusted, so every property is checked before it is used.

Every sandbox that decodes pictures imports this module. It does without numpy, whose import takes longer than all else.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from grading.core.bounds import MAX_FILE_BYTES, MAX_PIXELS
from grading.files.leftovers import described

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE, JPEG_SCAN = b"\xff\xd8", b"\xff\xda"

MAX_RATIO = 200
"""Our limit on the ratio of the sides. CLIP enlarges the shorter side to 224 pixels, so 60000x1 would need 12 GB."""

MAX_SCANS = 64
"""Our limit on the scans of a JPEG, each over the whole image. About ten are usual; 16 MiB can hold half a million."""

TOO_MUCH_MEMORY = "needs more memory than the image reader may use"


class ImageRefused(Exception):  # noqa: N818 - a verdict on the file, not an error of ours
    """The file cannot be graded. The message continues the sentence "NAME ..."."""


class ImageTooCostly(ImageRefused):
    """The file was not decoded to its end, because that would exceed one of our limits."""


class TooManyPixels(ImageTooCostly):
    """The header claims more pixels than may be decoded."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture. rgb: its pixels, 3 bytes each, row by row. note: as in `images.GradedImage`."""

    width: int
    height: int
    rgb: bytes
    note: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, 3)."""
        return self.height, self.width, 3

    def digest(self) -> str:
        """SHA-256 of the shape and the pixels, whatever file they come from."""
        return hashlib.sha256(f"{self.shape}".encode() + self.rgb).hexdigest()


def png_picture(folder: Path, name: str, size: tuple[int, int] | None = None, most_pixels: int = MAX_PIXELS) -> Picture:
    """Read one PNG of a folder as 8-bit RGB. size: the (width, height) it must have, if known.

    Greyscale, palette and opaque alpha images are converted without loss, and the note says so. Nothing is
    decoded before the header is known to be harmless. Raises ImageRefused for links, folders, pipes, devices, files
    that exceed 16 MiB or change while they are read, transparent pixels, and anything but a complete PNG with a single
    picture of the right size and at most 8 bits per channel. Those that exceed our limits raise ImageTooCostly.
    """
    content = _read_regular_file(folder, name)
    width, height, bit_depth = _png_header(content)
    check_size((width, height), size)
    _check_pixels(width, height, most_pixels)
    if bit_depth > 8:
        raise ImageRefused(f"has {bit_depth} bits per channel; expected 8")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL warns about unusual files; all that matters is checked here
            with Image.open(BytesIO(content), formats=("PNG",)) as image:
                if image.size != (width, height):
                    raise ImageRefused("is broken and cannot be decoded (it has two headers)")
                if getattr(image, "n_frames", 1) != 1:
                    raise ImageRefused("is an animation; expected a single picture")
                image.load()
                return _opaque_rgb(image, bit_depth)
    except ImageRefused:
        raise
    except MemoryError:
        raise ImageTooCostly(TOO_MUCH_MEMORY) from None
    except Exception as error:  # on arbitrary bytes, PIL raises nearly every exception type
        raise ImageRefused(f"is broken and cannot be decoded ({error or type(error).__name__})") from None


@dataclass(frozen=True)
class Bounds:
    """The bounds of `any_picture`.

    formats: PIL's names; None accepts every format that PIL supports. sizes: (width, height) of the images that are
    decoded; None decodes all.
    """

    file_bytes: int = MAX_FILE_BYTES
    pixels: int = MAX_PIXELS
    formats: tuple[str, ...] | None = ("PNG", "JPEG", "BMP", "GIF")
    sizes: frozenset[tuple[int, int]] | None = None


GRADED = Bounds()
"""Bounds for the pictures of a submission."""

STAFF = Bounds(file_bytes=2**28, pixels=2**27, formats=None)
"""Bounds for staff's own pictures, which may be photographs straight from a camera."""


def any_picture(folder: Path, name: str, bounds: Bounds = GRADED) -> Picture:
    """Read one PNG, JPEG, BMP or GIF of a folder as the official CLIP scripts do: `.convert("RGB")`.

    Accepts any mode and nearly any size; reads the first frame of an animation. The content decides the format, not the
    name. Raises ImageRefused for links, folders, pipes, devices, files that exceed 16 MiB or change while they are
    read, more than 4096x4096 pixels, one side over 200 times the other, a JPEG that would take minutes, and anything
    that PIL cannot decode as one of the four formats. Those that exceed our limits raise ImageTooCostly.
    """
    content = _read_regular_file(folder, name, bounds.file_bytes)
    if content.startswith(JPEG_SIGNATURE) and (scans := content.count(JPEG_SCAN)) > MAX_SCANS:
        raise ImageTooCostly(f"has {scans} scans; at most {MAX_SCANS} are decoded")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(content), formats=bounds.formats) as image:
                width, height = image.size  # read from the header; nothing is decoded yet
                if bounds.sizes is not None and (width, height) not in bounds.sizes:
                    raise ImageRefused(f"is {width}x{height} pixels; no image of that size is needed")
                _check_pixels(width, height, bounds.pixels)
                check_ratio(width, height)
                return _rgb(image)
    except ImageRefused:
        raise
    except UnidentifiedImageError:
        *others, last = bounds.formats or ("",)
        kinds = f"not a {', '.join(others)} or {last} image" if others else "no image"
        raise ImageRefused(f"is {kinds}{_instead(content)}" if content else "is empty") from None
    except MemoryError:
        raise ImageTooCostly(TOO_MUCH_MEMORY) from None
    except Exception as error:
        raise ImageRefused(f"is broken and cannot be decoded ({error or type(error).__name__})") from None


def check_size(found: tuple[int, int], size: tuple[int, int] | None) -> None:
    """Raise ImageRefused for another (width, height) than `size`, if that is known."""
    if size is not None and found != size:
        raise ImageRefused(f"is {found[0]}x{found[1]} pixels; expected {size[0]}x{size[1]}")


def _check_pixels(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise TooManyPixels(f"claims {width}x{height} pixels; that is too large to be read")


def check_ratio(width: int, height: int) -> None:
    """Raise ImageRefused if one side is too long for the other."""
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ImageRefused(f"is {width}x{height} pixels; one side may be at most {MAX_RATIO} times the other")


def _read_regular_file(folder: Path, name: str, limit: int = MAX_FILE_BYTES) -> bytes:
    """Read the file's bytes once, so that nothing can change between the checks and their use."""
    try:
        # O_NONBLOCK: opening a pipe without a writer would wait forever.
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:  # a table may name anything
        raise ImageRefused("is no name of a file; expected an image") from None
    except OSError as error:
        if os.path.islink(folder / name):  # noqa: PTH114 - takes paths of any length
            raise ImageRefused("is a link; expected the image itself") from None
        raise ImageRefused(f"cannot be opened ({error.strerror})") from None
    try:
        before = os.fstat(descriptor)
        if stat.S_ISDIR(before.st_mode):
            raise ImageRefused("is a folder; expected an image")
        if not stat.S_ISREG(before.st_mode):
            raise ImageRefused("is a pipe, socket or device; expected an image")
        if before.st_size > limit:
            raise ImageTooCostly(f"has {before.st_size} bytes; at most {limit} are read")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(limit + 1)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if len(content) != before.st_size or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ImageRefused("changed while it was being read; grade again once the run has ended")
    return content


def _instead(content: bytes) -> str:
    """What a download or a program left in an image's place: " (it is a web page, ..)"; empty if that is not known."""
    what = described(content).partition("; ")[0]
    return f" (it {what})" if what else ""


def _png_header(content: bytes) -> tuple[int, int, int]:
    """(width, height, bit depth) from the first chunk, which must be IHDR (PNG specification, 11.2.1)."""
    if not content.startswith(PNG_SIGNATURE):
        raise ImageRefused(
            "is empty; expected a PNG image" if not content else f"is not a PNG image{_instead(content)}"
        )
    if len(content) < 25 or content[12:16] != b"IHDR":
        raise ImageRefused("is broken and cannot be decoded (it ends within its header)")
    # PIL uses the last header, but the first is the one that was checked.
    position = 8
    while content[position + 4 : position + 8] not in (b"IDAT", b""):
        position += 12 + int.from_bytes(content[position : position + 4], "big")
        if content[position + 4 : position + 8] == b"IHDR":
            raise ImageRefused("is broken and cannot be decoded (it has two headers)")
    width, height, bit_depth = struct.unpack(">IIB", content[16:25])
    return width, height, bit_depth


def _opaque_rgb(image: Image.Image, bit_depth: int) -> Picture:
    note = ""
    if "transparency" in image.info and image.mode in ("1", "L") and bit_depth < 8:
        raise ImageRefused("has transparent pixels; expected an opaque RGB image")  # PIL compares them without scaling
    if image.has_transparency_data:
        if image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            raise ImageRefused("has transparent pixels; expected an opaque RGB image")
        note = "has an alpha channel, opaque everywhere; it was graded without it"
    elif image.mode != "RGB":
        kind = {"L": "greyscale", "1": "black and white", "P": "a palette image"}.get(image.mode, image.mode)
        note = f"is {kind}; it was graded as the RGB image that it shows"
    return _rgb(image, note)


def _rgb(image: Image.Image, note: str = "") -> Picture:
    return Picture(image.width, image.height, image.convert("RGB").tobytes(), note)
