"""Datasets that need no file: digits, toyfaces and the 2-D point sets."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from genzoo.data import points, toyfaces
from genzoo.data.arrays import ArraySource, array_source
from genzoo.data.base import ArraySet, Labels, PointSet
from genzoo.data.imageset import fingerprint
from genzoo.spec import DataConfig

CACHED_BYTES = 10**9  # of drawn faces: 50,000 at 64x64 take 0.6 GB


class Digits:
    """Collection: scikit-learn's 1,797 handwritten 8x8 digits, split 1,500 / 297 by a fixed permutation."""

    name, splits = "digits", ("train", "test")

    def source(self, split: str) -> ArraySource:
        from sklearn.datasets import load_digits

        data = load_digits()
        order = np.random.RandomState(0).permutation(len(data.target))  # numpy keeps this legacy stream stable for good
        chosen = order[:1500] if split == "train" else order[1500:]
        images = np.rint(data.images[chosen, None] * (255 / 16)).astype(np.uint8)  # 17 levels, 0..16
        return ArraySource(images, f"digits/{split}", "1", data.target[chosen])


class ToyFaces:
    """Collection: drawn faces (see `genzoo.data.toyfaces`), 64x64 unless a size is given."""

    name, splits = "toyfaces", tuple(toyfaces.SPLITS)

    def __init__(self, size: tuple[int, int] | None) -> None:
        self._size = size or (64, 64)

    def cache_pays(self, n: int) -> bool:
        """Whether n faces are drawn once rather than in every batch: 50,000 large ones would take minutes before the first step."""
        return 3 * n * math.prod(self._size) <= CACHED_BYTES

    def source(self, split: str) -> "ToyFacesSource":
        return ToyFacesSource(f"toyfaces/{split}", np.array(toyfaces.SPLITS[split]), self._size)


class ToyFacesSource:
    """Faces by their numbers, drawn at their size."""

    def __init__(self, name: str, faces: np.ndarray, size: tuple[int, int]) -> None:
        self.name, self.size = name, len(faces)
        self._faces, self._pixels = faces, size
        # A few drawn faces stand for the drawing code: old caches are left behind when it changes.
        self.identity = fingerprint(name, toyfaces.draw(faces[:8], size).tobytes())

    def fetch(self, indices: Sequence[int]) -> list[np.ndarray]:
        return list(toyfaces.draw(self._faces[np.asarray(indices)], self._pixels))

    def where(self, index: int) -> str:
        return f"{self.name}[{index}]"

    def labels(self) -> Labels:
        return toyfaces.factors(self._faces)


class Points:
    """Collection: a 2-D density, endless; with a limit, a fixed sample of it."""

    splits = ("train",)

    def __init__(self, name: str, limit: int | None) -> None:
        self.name, self._limit = name, limit

    def source(self, split: str) -> PointSet | ArraySet:
        if self._limit is None:
            return PointSet(self.name)
        sample = points.draw(self.name, self._limit, torch.Generator().manual_seed(0)).numpy()
        return array_source(sample, self.name, fingerprint(sample.tobytes()))


def embedded(config: DataConfig) -> Digits | ToyFaces | Points:
    """Finds the collection of an embedded name."""
    if config.name == "digits":
        return Digits()
    return ToyFaces(config.size) if config.name == "toyfaces" else Points(config.name, config.limit)
