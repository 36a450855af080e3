"""Cartoon faces drawn from random factors, at any size: an embedded dataset whose truth is known.

`genzoo.data.toyfactors` tells the factors and their ranges, `genzoo.data.facepaint` how they become pixels.
"""

import numpy as np

from genzoo.data.facepaint import paint_chunk, rig
from genzoo.data.toyfactors import FACTORS, PALETTES, SPLITS, factors
from genzoo.errors import UsageError

__all__ = ["FACTORS", "PALETTES", "SIZES", "SPLITS", "draw", "factors", "render"]

Array = np.ndarray

SIZES = (16, 1024)  # smallest and largest side, in pixels
_CHUNK_PIXELS = 1 << 16  # pixels drawn together: small enough for the arrays of one part to stay in the processor's cache


def draw(indices: Array, size: int | tuple[int, int], seed: int = 0) -> Array:
    """Draws faces `indices` [n].

    Args:
        indices: non-negative integers; `SPLITS` names those of each split.
        size: the side in pixels, or (height, width); each from 16 to 1024. The face is fitted to the short side.
        seed: of the whole dataset, modulo 2^64: another seed is another population of faces.

    Returns:
        uint8 [n,3,H,W], RGB in 0..255.

    Raises:
        UsageError: a side is out of range, or an index is no non-negative integer.
    """
    return render(factors(indices, seed), size)


def render(truth: dict[str, Array], size: int | tuple[int, int]) -> Array:
    """Draws faces of given factors [n], as `factors` returns them, changed at will within their ranges; see `draw` for the rest."""
    h, w = (size, size) if isinstance(size, int) else size
    if not all(SIZES[0] <= side <= SIZES[1] for side in (h, w)):
        raise UsageError(f"Toy faces are drawn with sides from {SIZES[0]} to {SIZES[1]} pixels, not {h} x {w}.")
    out = np.empty((len(truth["skin"]), 3, h, w), np.uint8)
    step = max(1, _CHUNK_PIXELS // (h * w))
    for i in range(0, len(out), step):
        out[i : i + step] = paint_chunk(rig({name: values[i : i + step] for name, values in truth.items()}), h, w)
    return out
