"""The homework's digits from public data: MNIST, SVHN, and photographs to blend MNIST-M from."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from hw2.digits.network import DATASETS, IMAGE_SIZE
from hw2.errors import InputError
from hw2.files.leftovers import leftover
from hw2.files.output import png_bytes, write_file
from hw2.progress import progress_bar

ImageU8 = npt.NDArray[np.uint8]

PHOTOGRAPHS = {".jpg", ".jpeg", ".png"}
MAX_PHOTOGRAPH_PIXELS = 64 * 2**20


def blend(patch: ImageU8, digit: ImageU8) -> ImageU8:
    """One MNIST-M image (28, 28, 3): |patch - digit| (Ganin & Lempitsky 2015, arXiv 1409.7495, section 4).

    patch: (28, 28, 3) cut from a photograph. digit: (28, 28) from MNIST, 0 paper to 255 ink. Without ink the
    photograph is unchanged; under full ink it is its negative.
    """
    difference = np.abs(patch.astype(np.int16) - digit.astype(np.int16)[:, :, None])
    blended: ImageU8 = difference.astype(np.uint8)
    return blended


def random_patch(photographs: list[ImageU8], rng: np.random.Generator) -> ImageU8:
    """A 28x28 piece of a photograph, every photograph and every place in it equally likely."""
    photograph = photographs[rng.integers(len(photographs))]
    y, x = (int(rng.integers(side - IMAGE_SIZE + 1)) for side in photograph.shape[:2])
    return photograph[y : y + IMAGE_SIZE, x : x + IMAGE_SIZE]


def load_photographs(folder: Path) -> list[ImageU8]:
    """All JPEG and PNG files below a folder, each (H, W, 3). Raises InputError for none, or an invalid one."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected one with natural photographs, e.g. BSDS500's")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PHOTOGRAPHS and not p.name.startswith("."))
    if not paths:
        raise InputError(f"{folder} has no .jpg or .png files; expected natural photographs, e.g. BSDS500's")
    photographs = []
    for path in paths:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PIL warns about large files; their size is checked here
                photographs.append(_photograph(path))
        except InputError:
            raise
        except Exception as error:  # given invalid bytes, PIL raises nearly every exception of Python
            what = leftover(path) or "is not a readable JPEG or PNG; restore or remove it"
            if isinstance(error, Image.DecompressionBombError):
                what = f"claims more than {MAX_PHOTOGRAPH_PIXELS} pixels; make it smaller"
            raise InputError(f"{path} {what}") from None
    return photographs


def _photograph(path: Path) -> ImageU8:
    """One photograph (H, W, 3). Raises InputError for one of another size, and whatever PIL raises."""
    with Image.open(path, formats=("JPEG", "PNG")) as image:
        size = f"{image.width}x{image.height}"
        if min(image.size) < IMAGE_SIZE:
            raise InputError(f"{path} is {size} pixels; expected a photograph of at least {IMAGE_SIZE} pixels a side")
        if image.width * image.height > MAX_PHOTOGRAPH_PIXELS:
            raise InputError(f"{path} claims {size} pixels, more than {MAX_PHOTOGRAPH_PIXELS}; make it smaller")
        return np.asarray(image.convert("RGB"))


def write_dataset(folder: Path, digits: Iterable[tuple[ImageU8, int]], count: int) -> None:
    """Write images (28, 28, 3) and labels as `data/00000.png` .. and, last, `train.csv`."""
    rows = [("image_name", "label")]
    with progress_bar(f"writing {folder.name}", count) as advance:
        for i, (image, label) in enumerate(digits):
            name = f"{i:05d}.png"
            write_file(folder / "data" / name, png_bytes(image))
            rows.append((name, str(label)))
            advance("")
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    write_file(folder / "train.csv", table.getvalue().encode())


def prepare_digits(output: Path, photographs: Path, downloads: Path, seed: int = 0) -> None:
    """Write `output/digits/{mnistm,svhn}` from torchvision's MNIST and SVHN training sets and photographs.

    torchvision downloads what `downloads` lacks. Image i of MNIST-M depends on (seed, i) and the photographs. SVHN's
    32x32 images are scaled to 28x28. Raises InputError if a data set exists already, or an input is invalid.
    """
    from torchvision.datasets import MNIST, SVHN

    folders = {name: output / "digits" / name for name in DATASETS}
    for folder in folders.values():
        if (folder / "train.csv").exists():
            raise InputError(f"{folder} exists already; remove it, or choose another output", "output")
    patches = load_photographs(photographs)
    try:
        mnist, svhn = MNIST(str(downloads), download=True), SVHN(str(downloads), download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"MNIST or SVHN could not be downloaded to {downloads} ({error}); run the same command again"
        ) from None
    write_dataset(folders["mnistm"], mnistm_digits(mnist, patches, seed), len(mnist))
    write_dataset(folders["svhn"], svhn_digits(svhn), len(svhn))


def mnistm_digits(
    mnist: Iterable[tuple[Image.Image, int]], photographs: list[ImageU8], seed: int
) -> Iterator[tuple[ImageU8, int]]:
    """MNIST's digits, each blended with a random patch."""
    for i, (image, label) in enumerate(mnist):
        yield blend(random_patch(photographs, np.random.default_rng([seed, i])), np.asarray(image)), int(label)


def svhn_digits(svhn: Iterable[tuple[Image.Image, int]]) -> Iterator[tuple[ImageU8, int]]:
    """SVHN's digits at 28x28 (bilinear, antialiased)."""
    for image, label in svhn:
        yield np.asarray(image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)), int(label)
