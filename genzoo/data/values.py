"""Pixel values: scaled to 0..255 from the range that they have, and found to be dark where that range is not used."""

import math

import numpy as np
from PIL import Image

from genzoo.errors import UsageError

MOST = {"F": 1.0, "I": 65535.0}  # largest value of Pillow's deep modes, by their first letter
ROUNDING = 1e-5  # of the range, that a value may lie beside it
DARK = 16  # of 255: a batch without a brighter pixel uses four bits or fewer


def largest(kind: np.dtype) -> float:
    """Returns the largest value of a type of pixels: 255, 65535, ...; 1 of floats and of booleans."""
    return float(np.iinfo(kind).max) if np.issubdtype(kind, np.integer) else 1.0


def scale_array(values: np.ndarray, top: float | None) -> np.ndarray:
    """Scales values in [0, top] to uint8 in [0, 255]; by default from the largest of their type.

    Raises:
        UsageError: values outside [0, top].
    """
    if top is None and values.dtype == np.uint8:
        return values
    top = top or largest(values.dtype)
    low, high = float(values.min()), float(values.max())
    if low < -ROUNDING * top or high > (1 + ROUNDING) * top:
        raise UsageError(
            f"it has values from {low:g} to {high:g}, outside [0, {top:g}]: give the largest value of all images as "
            "data.range, or save them with 8 or 16 bits."
        )
    return np.rint(values * (255 / top)).clip(0, 255).astype(np.uint8)


def scale_image(image: Image.Image, top: float) -> Image.Image:
    """Scales the colors of an image of 8 bits per channel from [0, top] to [0, 255], and leaves its transparency.

    Raises:
        UsageError: values outside [0, top], or a top beyond 8 bits.
    """
    if image.mode == "1":
        return image
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if top > 255:
        raise UsageError(
            f"data.range={top:g} is beyond the 8 bits per channel that Pillow reads of this image: leave it out, or "
            "save deep color images as a uint16 array [n,H,W,3] in .npy."
        )
    colors = len(image.getbands()) - image.mode.endswith("A")
    bands = image.split()
    scaled = [Image.fromarray(scale_array(np.asarray(band), top)) for band in bands[:colors]]
    return Image.merge(image.mode, [*scaled, *bands[colors:]])


def darkness(high: float, top: float) -> tuple[str, float] | None:
    """Judges the largest pixel of a sample.

    Args:
        high: largest value after scaling to [0, 255].
        top: what 255 stands for.

    Returns:
        The finding, and the likely value of data.range: the next 2**k - 1, or for floats 2**-k; None if the pixels use
        their range, or are all 0.
    """
    if not 0 < high <= DARK:
        return None
    if top <= 1:
        likely = 2.0 ** math.ceil(math.log2((high - 0.5) / 255 * top))
        return f"no pixel above {high:g} of 255; are these values in [0, {likely:g}]?", likely
    least = max(1.0, (high - 0.5) / 255 * top if top > 255 else high)  # deep values were rounded to 255 levels
    bits = math.ceil(math.log2(least + 1))
    return f"no pixel above {high:g} of 255; are these {bits}-bit values?", 2.0**bits - 1
