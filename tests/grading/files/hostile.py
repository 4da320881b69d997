"""Small files that cost whoever decodes them much time or memory."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache

from PIL import Image

from tests.grading.files.pngs import chunk, png

SIDE = 4096
"""The largest side that the reader accepts."""


@cache
def transparent_png(side: int = SIDE) -> bytes:
    """A PNG that is refused only after its 4 bytes per pixel were decoded. The largest has 75 kB."""
    return png(side, side, colour=6, pixels=bytes(side * (side * 4 + 1)))


@cache
def slow_bmp(side: int = SIDE) -> bytes:
    """A run-length-encoded BMP that PIL decodes byte by byte in Python. The largest has 17 kB and takes seconds."""
    lines = b"\1\0\0\0" * side  # a run of one pixel, and the end of the line
    size = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(lines), 0, 0, 0, 0)
    start = 14 + len(size) + 1024
    return b"BM" + struct.pack("<IHHI", start + len(lines), 0, 0, start) + size + bytes(1024) + lines


@cache
def cut_jpeg(scans: int = 60, side: int = SIDE) -> bytes:
    """A progressive JPEG of many scans. It is refused only after all of them were decoded, because its end is gone."""
    buffer = io.BytesIO()
    Image.new("L", (side, side)).save(buffer, format="JPEG", progressive=True)
    content = buffer.getvalue()
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * (scans - content.count(b"\xff\xda") - 1) + last[:-100]


def padded_jpeg(size: int = 2**24 - 2) -> bytes:
    """A JPEG of fill bytes alone. The largest takes a quarter of a minute to open."""
    return b"\xff\xd8" + b"\xff" * size


@cache
def text_png(chunks: int = 60) -> bytes:
    """A PNG of 8x8 pixels with 1 MiB of compressed text in each chunk."""
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**20 - 16)))
    return png(8, 8, pixels=(b"\0" + bytes(24)) * 8, extra=text * chunks)


def large_gif(side: int = SIDE) -> bytes:
    """A GIF of one colour. The largest has 14 kB and 48 MiB of pixels."""
    buffer = io.BytesIO()
    Image.new("P", (side, side)).save(buffer, format="GIF")
    return buffer.getvalue()
