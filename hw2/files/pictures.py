"""Folders of photographs, read as squares of one size."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from hw2.errors import InputError
from hw2.files.leftovers import leftover

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
MAX_PIXELS = 2**27
"""A file can claim billions of pixels in a few bytes; a large camera's photographs have half as many as this."""


def image_paths(folder: Path, expected: str = "a few images") -> list[Path]:
    """The images of a folder, in order of their names.

    expected: what the folder should hold, for errors: "a few images of the concept". Raises InputError for none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected one with {expected}")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if odd := [path for path in paths if not path.is_file()]:
        raise InputError(f"{odd[0]} is not a file; expected an image, remove it")
    if not paths:
        raise InputError(f"{folder} has no images ({', '.join(sorted(SUFFIXES))}); expected {expected}")
    return paths


def read_images(folder: Path, size: int, expected: str = "a few images") -> Tensor:
    """(N, 3, size, size) in [-1, 1]: all images of a folder, upright, the middle square, in order of their names.

    expected: as in `image_paths`. Raises InputError if there is none or one cannot be read.
    """
    images = []
    for path in image_paths(folder, expected):
        square = ImageOps.fit(_read_upright(path), (size, size), Image.Resampling.LANCZOS)
        images.append(torch.from_numpy(np.asarray(square, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1)
    return torch.stack(images)


def _read_upright(path: Path) -> Image.Image:
    """An image in RGB, rotated by its EXIF data."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL warns about odd files; what matters is checked here
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InputError(f"{path} claims {image.width}x{image.height} pixels; make it smaller")
                if image.mode not in MODES:
                    raise InputError(f"{path} has the mode {image.mode}; expected 8 bits a channel, convert it")
                return _on_white(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except Exception as error:  # given invalid bytes, PIL raises nearly every exception of Python
        if what := leftover(path):
            raise InputError(f"{path} {what}") from None
        raise InputError(f"{path} is not a readable image ({error}); remove or replace it") from None


def _on_white(image: Image.Image) -> Image.Image:
    """An image in RGB as it is seen on a white page. Transparent pixels have colours too, which nobody sees."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image.convert("RGBA"))
    return page.convert("RGB")
