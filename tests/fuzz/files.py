"""Small valid files of all kinds, made in code, and the cases that lie beside a development checkout."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from tests.commands import ROOT
from tests.grading.files.pngs import png


def shared(pattern: str) -> list[bytes]:
    """The files of the shared cases that match a pattern; none in other checkouts."""
    cases = ROOT.parent / "shared" / "cases" / "files"
    return [path.read_bytes() for path in sorted(cases.glob(pattern)) if path.is_file()]


def picture(kind: str = "PNG", mode: str = "RGB", side: int = 28, frames: int = 1, **options: Any) -> bytes:
    """A picture with something in it."""
    pixels = np.random.default_rng(0).integers(0, 256, (frames, side, side, 3), np.uint8)
    images = [Image.fromarray(each // 32 * 32).convert(mode) for each in pixels]
    buffer = io.BytesIO()
    more = {"save_all": True, "append_images": images[1:]} if frames > 1 else {}
    images[0].save(buffer, kind, **more, **options)
    return buffer.getvalue()


def pngs() -> list[bytes]:
    """PNGs of all modes, by PIL and by hand."""
    modes = [picture(mode=mode, side=8) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")]
    return [*modes, picture(), picture(frames=2), picture(mode="P", transparency=0), png(1, 1, pixels=b"\0\1\2\3")]


def pictures() -> list[bytes]:
    """Pictures of all formats that a submission may write."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        picture(), picture("JPEG", exif=exif), picture("JPEG", progressive=True), picture("JPEG", "CMYK"),
        picture("BMP"), picture("BMP", "P"), picture("GIF", "P"), picture("GIF", "P", frames=3),
        picture(mode="RGBA"), *shared("hidden_*/*.png"), *shared("photographs_bomb/*"),
    ]  # fmt: skip


def staff_pictures() -> list[bytes]:
    """Pictures of more formats."""
    kinds = ("TIFF", "WEBP", "PPM", "ICO", "TGA", "PCX", "SGI", "JPEG2000", "DDS", "EPS", "ICNS", "AVIF")
    return [*pictures(), *(picture(kind, side=32) for kind in kinds if kind in Image.SAVE or Image.init())]


def torch_file(value: Any, zipped: bool = True) -> bytes:
    """What `torch.save` writes, in today's or in the old format."""
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def torch_files(*values: Any) -> list[bytes]:
    """Each value in both formats, and a web page and a TorchScript archive that are none."""
    both = [torch_file(value, zipped) for value in values for zipped in (True, False)]
    return [*both, *shared("checkpoints/*")]


def safetensors(tensors: dict[str, Tensor], config: Any = None) -> bytes:
    """A safetensors file, with a configuration in its metadata."""
    return save(tensors, metadata=None if config is None else {"config": json.dumps(config)})


def lines(*texts: str) -> bytes:
    """A text file."""
    return ("\n".join(texts) + "\n").encode()


def as_json(*values: Any) -> list[bytes]:
    """Each value as JSON."""
    return [json.dumps(value, indent=1).encode() for value in values]


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files, with their folders."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def contents(folder: Path, names: Sequence[str]) -> list[bytes]:
    """What files hold."""
    return [(folder / name).read_bytes() for name in names]
