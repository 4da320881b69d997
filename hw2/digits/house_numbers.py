"""House numbers drawn from fonts: extra training data where real SVHN is scarce.

SVHN crops show one digit that fills the height, often with neighbours that reach in from the sides, on a plain wall or
plate, out of focus and at a slight angle. The fonts are those of matplotlib, so that every machine draws alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from hw2.digits.network import IMAGE_SIZE, NUM_DIGITS

FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmb10", "cmss10", "cmtt10"),
)
SCALE = 4
"""Digits are drawn this many times larger and averaged down."""
SIDE = SCALE * IMAGE_SIZE


@dataclass(frozen=True)
class Look:
    """The ranges that a drawing's properties are drawn from; the default's drawings are those that the judges know.

    brightness: of the wall. contrast: of the lettering, from it. tint, paint: spread of the wall's colour, and of the
    lettering's from it. clouds, blur, noise: most of each; the blur's is a standard deviation in pixels. sizes: of the
    font, in quarters of a pixel, as stroke, which is how much bolder it may be. neighbours: chance of a digit on each
    side. tilt: spread in degrees. shear, stretch, shift: spread, range, and spread in pixels.
    """

    brightness: tuple[float, float] = (25, 230)
    contrast: tuple[float, float] = (45, 170)
    tint: float = 7
    paint: float = 8
    clouds: float = 14
    blur: float = 1.0
    noise: float = 5
    sizes: tuple[int, int] = (92, 134)
    stroke: int = 4
    neighbours: float = 0.45
    tilt: float = 6
    shear: float = 0.08
    stretch: tuple[float, float] = (0.8, 1.25)
    shift: float = 1.0


LOOKS = {
    "plain": Look(),
    # as SVHN's: narrower, taller, with more neighbours, and less alike in contrast, colour and focus
    "wide": Look(
        brightness=(10, 245),
        contrast=(30, 200),
        tint=11,
        paint=18,
        clouds=26,
        blur=1.6,
        noise=6,
        sizes=(100, 160),
        stroke=7,
        neighbours=0.75,
        tilt=8,
        shear=0.14,
        stretch=(0.55, 1.15),
        shift=1.5,
    ),
}


def draw_house_numbers(
    count: int, seed: int = 0, look: Look = LOOKS["plain"]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """(images (count, 28, 28, 3), digits (count,)), digit i % 10 in image i; image i depends on (seed, i) alone."""
    digits = np.arange(count) % NUM_DIGITS
    images = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    for i, digit in enumerate(digits):
        images[i] = draw_house_number(int(digit), np.random.default_rng([seed, i]), look)
    return images, digits.astype(np.int64)


def draw_house_number(digit: int, rng: np.random.Generator, look: Look = LOOKS["plain"]) -> npt.NDArray[np.uint8]:
    """One house number whose middle digit is `digit`, (28, 28, 3)."""
    ink = _ink(digit, rng, look)
    brightness = rng.uniform(*look.brightness)
    contrast = rng.uniform(*look.contrast)
    darker, brighter = brightness - contrast, brightness + contrast
    lettering = darker if brighter > 255 or (darker >= 0 and rng.random() < 0.5) else brighter
    tint = rng.normal(0, look.tint, 3) + np.array([-4, 0, 6])  # street photographs are slightly blue
    saturation = 3.0 if rng.random() < 0.15 else 1.0
    wall = brightness + tint * saturation + _clouds(rng, rng.uniform(0, look.clouds))
    paint = np.clip(lettering, 0, 255) + tint + rng.normal(0, look.paint, 3)
    if rng.random() < 0.25:  # raised letters have a shadow
        shadow = np.roll(ink, rng.integers(-1, 2, 2), axis=(0, 1))[..., None]
        wall = wall * (1 - shadow * rng.uniform(0.2, 0.6))
    image = wall + ink[..., None] * (paint - wall)
    image = _blur(image, rng.uniform(0.1, look.blur)) + rng.normal(0, rng.uniform(0, look.noise), image.shape)
    image_u8: npt.NDArray[np.uint8] = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    return image_u8


def _ink(digit: int, rng: np.random.Generator, look: Look) -> npt.NDArray[np.float64]:
    """How much of each pixel the lettering covers, (28, 28) in [0, 1]."""
    font = _font(FONTS[rng.integers(len(FONTS))], int(rng.integers(*look.sizes)))
    stroke = int(rng.integers(0, look.stroke))
    canvas = Image.new("L", (2 * SIDE, 2 * SIDE))
    draw = ImageDraw.Draw(canvas)

    def write(character: str, x: float) -> float:
        """Centre a character's ink on (x, the middle); returns its width."""
        left, top, right, bottom = font.getbbox(character, stroke_width=stroke)
        draw.text((x - (left + right) / 2, SIDE - (top + bottom) / 2), character, 255, font, stroke_width=stroke)
        return float(right - left)

    width = write(str(digit), SIDE)
    gap = rng.uniform(0.05, 0.35) * font.size
    for direction in (-1, 1):
        if rng.random() < look.neighbours:
            neighbour = str(rng.integers(NUM_DIGITS))
            left, _, right, _ = font.getbbox(neighbour, stroke_width=stroke)
            write(neighbour, SIDE + direction * (width / 2 + gap + (right - left) / 2))
    angle = np.deg2rad(rng.normal(0, look.tilt))
    shear, stretch = rng.normal(0, look.shear), rng.uniform(*look.stretch)
    shift = rng.normal(0, look.shift * SCALE, 2)
    # Inverse map from the picture's pixels, centred, to the canvas.
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.array(
        [[1 / stretch, shear], [0, 1]]
    )
    offset = np.array([SIDE, SIDE]) + shift - matrix @ np.array([SIDE / 2, SIDE / 2])
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
    picture = canvas.transform((SIDE, SIDE), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(picture.reduce(SCALE), np.float64) / 255


def _clouds(rng: np.random.Generator, strength: float) -> npt.NDArray[np.float64]:
    """Slow changes of brightness, (28, 28, 1)."""
    coarse = Image.fromarray(rng.normal(0, strength, (4, 4)).astype(np.float32))
    return np.asarray(coarse.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC), np.float64)[..., None]


def _blur(image: npt.NDArray[np.float64], sigma: float) -> npt.NDArray[np.float64]:
    """Gaussian blur over height and width, edges repeated."""
    offsets = np.arange(-3, 4)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padding = [(3, 3) if i == axis else (0, 0) for i in range(3)]
        padded = np.pad(image, padding, mode="edge")
        image = sum(k * np.take(padded, np.arange(IMAGE_SIZE) + i, axis) for i, k in enumerate(kernel))
    return image


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), size)
