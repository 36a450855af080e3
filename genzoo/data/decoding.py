"""Decodes one image into uint8 pixels [C, H, W]. Pillow and numpy only, no torch."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageColor, ImageOps

from genzoo.data.profiles import to_srgb
from genzoo.data.values import MOST, scale_array, scale_image
from genzoo.errors import UsageError

DECODING = 3  # raise it when the same file would give other pixels or another digest: older caches are then rebuilt

# Bicubic with Pillow's antialiasing (the kernel grows with the reduction): what clean FID measures with, and it rings
# less than Lanczos around flat shapes and in the 8x8 digits that are enlarged.
RESAMPLE = Image.Resampling.BICUBIC

NOWHERE = "a link to nowhere"  # the reason of a dangling link


@dataclass(frozen=True)
class Frame:
    """One frame of an animated image, or page of a file."""

    file: bytes | Path
    number: int


class CorruptImageError(Exception):
    """An image that cannot be read; the text is the reason, to which the caller adds the image's name."""


# An encoded image, the file that holds one, one frame of it, or pixels [C,H,W]: uint8 in [0,255], other integers up to
# the largest of their type, floats in [0,1]; or why there are none of these.
Raw = bytes | Path | Frame | np.ndarray | CorruptImageError


@dataclass(frozen=True, kw_only=True)
class Decode:
    """Callable `Raw -> uint8 [C,H,W]`: the decode settings of one dataset (see `to_uint8`)."""

    size: tuple[int, int] | None  # height, width in pixels; None keeps the image's own size
    channels: int
    fit: str
    precrop: int | None
    background: str
    top: float | None = None  # see `to_uint8`; of arrays too
    max_pixels: int | None = None  # see `at_most`

    def __call__(self, raw: Raw) -> np.ndarray:
        top = self.top
        if isinstance(raw, np.ndarray):
            raw, top = scale_array(raw, top), None
        with at_most(self.max_pixels):
            if self.channels not in (1, 3):
                from genzoo.data.bands import separate  # it imports this module

                return separate(raw, self.size, self.channels, self.fit, self.precrop, self.background, top)
            image = read(raw)
        return to_uint8(image, self.size, self.channels, self.fit, self.precrop, self.background, top)


@contextmanager
def at_most(pixels: int | None) -> Iterator[None]:
    """Lets Pillow read images of so many pixels; None = of as many as it reads unasked."""
    if pixels is None:
        yield
        return
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = -(-pixels // 2)  # Pillow warns beyond it and refuses beyond its double
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def read(raw: Raw) -> Image.Image:
    """Reads and decodes one image in sRGB, turned as its EXIF orientation says.

    Raises:
        CorruptImageError: unreadable, truncated, empty or not an image.
    """
    if isinstance(raw, CorruptImageError):
        raise raw
    if isinstance(raw, np.ndarray):
        return Image.fromarray(raw[0] if raw.shape[0] == 1 else raw.transpose(1, 2, 0))
    file, number = (raw.file, raw.number) if isinstance(raw, Frame) else (raw, 0)
    try:
        return to_srgb(_upright(file, number))
    except (CorruptImageError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise CorruptImageError(NOWHERE if _is_broken(file) else f"there is no file {file}") from error
    except Image.DecompressionBombError as error:
        pixels = next(iter(re.findall(r"\d+", str(error))), "more")
        raise CorruptImageError(f"it has {pixels} pixels; data.max_pixels={pixels} allows it") from error
    except Image.UnidentifiedImageError as error:
        raise CorruptImageError("it is not an image that Pillow can read") from error
    except Exception as error:  # broken bytes make Pillow's readers raise nearly anything: struct, zlib, value errors
        reason = error.strerror if isinstance(error, OSError) else None
        raise CorruptImageError(NOWHERE if _is_broken(file) else reason or str(error) or repr(error)) from error


def _is_broken(file: bytes | Path) -> bool:
    """Whether a file is a link to nothing, or to itself."""
    return isinstance(file, Path) and file.is_symlink() and not file.exists()


def to_uint8(
    image: Image.Image,
    size: tuple[int, int] | None,
    channels: int,
    fit: str = "crop",
    precrop: int | None = None,
    background: str = "white",
    top: float | None = None,
) -> np.ndarray:
    """Converts a Pillow image of any mode to pixels; exact where the image already has the size and the channels.

    Args:
        size: height, width in pixels; None keeps the image's own.
        channels: 1 = gray (ITU-R 601 luma), 3 = RGB.
        fit: another aspect ratio is scaled to cover and center-cropped (`crop`), scaled to fit and padded with the
            background (`pad`), or distorted (`stretch`).
        precrop: side of a center square cut out first, in source pixels.
        background: color behind transparent pixels and padding, a name or #rrggbb.
        top: largest value of the pixels, which becomes 255; by default the largest of their type, 1 of floats.

    Returns:
        uint8 [C,H,W] in [0,255], in memory as [H,W,C].

    Raises:
        UsageError: an unknown color, a precrop larger than the image, pixel values outside their range.
    """
    color = rgb(background)
    image = _flatten(_eight_bits(image, top), color, "L" if channels == 1 else "RGB")
    if precrop is not None:
        image = _center(image, precrop, precrop)
    if size is not None and size != (image.height, image.width):
        image = _resize(image, *size, fit, color)
    pixels = np.array(image)  # a copy, because Pillow's own memory is read-only
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _upright(file: bytes | Path, number: int) -> Image.Image:
    """Opens and decodes one frame of an encoded image, and turns it as its EXIF orientation says."""
    data = file.read_bytes() if isinstance(file, Path) else file
    if not data:
        raise CorruptImageError("it is empty")
    image: Image.Image = Image.open(io.BytesIO(data))
    if number:
        image.seek(number)
    image.load()
    upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    return image if upright else ImageOps.exif_transpose(image)


@lru_cache
def rgb(color: str) -> tuple[int, int, int]:
    """`white`, `#ff8000`, `hsl(0,100%,50%)` -> (255, 255, 255), ... Raises UsageError for anything else."""
    try:
        return ImageColor.getrgb(color)[:3]
    except ValueError:
        raise UsageError(
            f"{color!r} is not a color: give data.background a name (white, black, gray) or #rrggbb."
        ) from None


def _eight_bits(image: Image.Image, top: float | None) -> Image.Image:
    """Rescales deeper gray images to mode L (16 bits by 257, never clipped; floats from [0, 1]), and any from top."""
    deepest = MOST.get(image.mode[:1])  # I;16 in any byte order; I has 32 bits, but Pillow also uses it for 16-bit data
    if deepest is None:
        return image if top is None else scale_image(image, top)
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise UsageError("a float image holds NaN or infinity: repair or remove it.")
    return Image.fromarray(scale_array(values, top or deepest))


def _flatten(image: Image.Image, color: tuple[int, int, int], mode: str) -> Image.Image:
    """Converts to `mode`, transparent pixels composited over the color."""
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*color, 255)), layer)
    if image.mode == mode:
        return image
    # Pillow has no direct way from some modes (HSV) to gray
    return (image if image.mode in ("1", "L", "RGB", "RGBA") else image.convert("RGB")).convert(mode)


def _center(image: Image.Image, height: int, width: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    if left < 0 or top < 0:
        has = f"{image.height}x{image.width}"
        raise UsageError(f"data.precrop cuts {height}x{width} pixels out, but an image has only {has}: lower it.")
    return image.crop((left, top, left + width, top + height))


def _resize(image: Image.Image, height: int, width: int, fit: str, color: tuple[int, int, int]) -> Image.Image:
    if fit == "stretch":
        return image.resize((width, height), RESAMPLE)
    if fit == "crop":
        return ImageOps.fit(image, (width, height), RESAMPLE)
    fill = color if image.mode == "RGB" else Image.new("RGB", (1, 1), color).convert("L").tobytes()[0]
    return ImageOps.pad(image, (width, height), RESAMPLE, fill)
