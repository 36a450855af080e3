"""Images of other numbers of channels than gray and RGB: RGBA files, and arrays of any number."""

from typing import Any

import numpy as np
from PIL import Image

from genzoo.data.decoding import Raw, read, to_uint8
from genzoo.errors import UsageError

_MODES = {2: "LA", 4: "RGBA"}  # of image files


def separate(raw: Raw, size: tuple[int, int] | None, channels: int, *options: Any) -> np.ndarray:
    """Decodes an image channel by channel, as `to_uint8` decodes gray images; nothing is composited.

    Args:
        raw: an array [C,H,W] with that many channels, or an image file, of which 2 channels are gray and alpha and 4
            are RGBA.
        size: height, width in pixels; None keeps the image's own.
        channels: neither 1 nor 3.
        *options: further ones of `to_uint8`.

    Returns:
        uint8 [C,H,W] in [0,255].

    Raises:
        UsageError: the image has not so many channels.
    """
    if isinstance(raw, np.ndarray):
        if len(raw) != channels:
            raise UsageError(
                f"data.channels is {channels}, and an image has {len(raw)}: give data.channels={len(raw)}."
            )
        planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in raw]
    elif channels in _MODES:
        planes = _with_alpha(read(raw), _MODES[channels])
    else:
        raise UsageError(f"data.channels is {channels}, and image files have 1 (gray), 2 (gray, alpha), 3 or 4 (RGBA).")
    return np.concatenate([to_uint8(plane, size, 1, *options) for plane in planes])


def _with_alpha(image: Image.Image, mode: str) -> list[Image.Image]:
    if image.mode.startswith(("I", "F")):
        raise UsageError(f"an image of mode {image.mode} has no alpha: save it with 8 bits, or give data.channels=1.")
    return list((image if image.mode == mode else image.convert("RGBA").convert(mode)).split())
