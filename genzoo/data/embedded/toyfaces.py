"""Cartoon faces drawn from random factors, at any size: an embedded dataset whose ground truth is known.

`genzoo.data.embedded.toyfactors` defines the factors and their ranges; `genzoo.data.embedded.facepaint` paints them.
"""

import math
from collections.abc import Sequence

import numpy as np

from genzoo.data.catalog import dataset
from genzoo.data.embedded.facepaint import paint_chunk
from genzoo.data.embedded.facerig import rig
from genzoo.data.embedded.toyfactors import CLASSES, FACTORS, PALETTES, SPLITS, factors
from genzoo.data.entry import Entry
from genzoo.data.labels import Label, Labels
from genzoo.data.sources import Source, fingerprint
from genzoo.errors import UsageError
from genzoo.spec import DataConfig

__all__ = ["CLASSES", "FACTORS", "PALETTES", "SIZES", "SPLITS", "draw", "factors", "render"]

Array = np.ndarray

SIZES = (16, 1024)  # smallest and largest side, in pixels
CACHED_BYTES = 10**9  # of drawn faces: 50,000 at 64x64 take 0.6 GB
_CHUNK_PIXELS = 1 << 16  # drawn together: few enough for the arrays of one part to stay in the processor's cache


class ToyFacesCollection:
    """50,000 faces to train on and 10,000 to test on, 64x64 unless a size is given."""

    name, splits = "toyfaces", tuple(SPLITS)

    def __init__(self, size: tuple[int, int] | None) -> None:
        self._size = size or (64, 64)

    def source(self, split: str) -> "ToyFacesSource":
        return ToyFacesSource(f"toyfaces/{split}", np.array(SPLITS[split]), self._size)


class ToyFacesSource(Source):
    """Faces by their numbers, drawn at their size."""

    def __init__(self, name: str, faces: Array, size: tuple[int, int]) -> None:
        self.name, self.size = name, len(faces)
        self._faces, self._pixels = faces, size
        # A few drawn faces stand for the drawing code: old caches are left behind when it changes.
        self.identity = fingerprint(name, draw(faces[:8], size).tobytes())

    def fetch(self, indices: Sequence[int]) -> list[Array]:
        return list(draw(self._faces[np.asarray(indices)], self._pixels))

    def where(self, index: int) -> str:
        return f"{self.name}[{index}]"

    def labels(self) -> Labels:
        return {name: Label(values, CLASSES.get(name, ())) for name, values in factors(self._faces).items()}

    def cache_pays(self, n: int) -> bool:
        """Drawing 50,000 large faces would take minutes before the first step."""
        return 3 * n * math.prod(self._pixels) <= CACHED_BYTES


@dataset(
    Entry(
        name="toyfaces",
        kind="embedded",
        what="drawn faces with known factors (skin, hair, glasses, smile, ...)",
        images=60_000,
        size=(64, 64),
        terms="generated",
        labels={name: len(classes) for name, classes in CLASSES.items()},
        note="50,000 train / 10,000 test; any size is drawn, not resized",
    )
)
def open_toyfaces(config: DataConfig) -> ToyFacesCollection:
    return ToyFacesCollection(config.size)


def draw(indices: Array, size: int | tuple[int, int], seed: int = 0) -> Array:
    """Draws faces `indices` [n].

    Args:
        indices: non-negative integers; `SPLITS` names those of each split.
        size: the side in pixels, or (height, width); each from 16 to 1024. The face is fitted to the short side.
        seed: of the whole dataset, modulo 2^64: another seed is another population of faces.

    Returns:
        uint8 [n,3,H,W], RGB in 0..255.

    Raises:
        UsageError: a side is out of range, or an index is not a non-negative integer.
    """
    return render(factors(indices, seed), size)


def render(truth: dict[str, Array], size: int | tuple[int, int]) -> Array:
    """Draws faces of given factors [n], as `factors` returns them or changed within their ranges; else as `draw`."""
    h, w = (size, size) if isinstance(size, int) else size
    if not all(SIZES[0] <= side <= SIZES[1] for side in (h, w)):
        raise UsageError(f"Toy faces are drawn with sides from {SIZES[0]} to {SIZES[1]} pixels, not {h} x {w}.")
    out = np.empty((len(truth["skin"]), 3, h, w), np.uint8)
    step = max(1, _CHUNK_PIXELS // (h * w))
    for i in range(0, len(out), step):
        out[i : i + step] = paint_chunk(rig({name: values[i : i + step] for name, values in truth.items()}), h, w)
    return out
