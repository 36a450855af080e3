"""What a dataset is to the rest of genzoo, and what the data room's own sources are to it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from genzoo.data import points
from genzoo.data.images import Raw

Labels = np.ndarray | Mapping[str, np.ndarray] | None  # one value per item: classes, or factors by name


class Dataset(Protocol):
    """Images or points, neither augmented nor shuffled.

    A finite set has `batch`, `__len__` and `__getitem__` (so that a torch DataLoader can wrap it); an endless one has
    `draw` only. Images are uint8 [C,H,W] in [0,255]; points and vectors are float32 [D].
    """

    name: str
    shape: tuple[int, ...]  # (C,H,W) or (D,)
    size: int | None  # items; None = endless
    fingerprint: str  # changes with the content or with the settings that decide the pixels
    skipped: tuple[str, ...]  # unreadable items that were left out, named
    cached: bool  # False: every batch decodes, and loader processes are worth their start

    def batch(self, indices: Sequence[int]) -> Tensor: ...  # [n, *shape], images in channels_last memory format, nobody else's memory

    def draw(self, n: int, generator: Generator) -> Tensor: ...  # [n, D], endless sets only

    def labels(self) -> Labels: ...  # without decoding images; None where the source has none


class Source(Protocol):
    """The encoded images of one split: cheap to list, read a few at a time."""

    name: str
    size: int
    identity: object  # what decides the content, for the fingerprint: repr() must be stable between processes

    def fetch(self, indices: Sequence[int]) -> list[Raw]: ...

    def where(self, index: int) -> str: ...  # names an item in a message

    def labels(self) -> Labels: ...


class Collection(Protocol):
    """A dataset by its name, before a split is chosen."""

    name: str
    splits: tuple[str, ...]

    def source(self, split: str) -> "Source | Dataset": ...  # encoded images, or points and vectors as they are


class Part:
    """Source: some consecutive items of another."""

    def __init__(self, source: Source, chosen: range) -> None:
        self.name, self.size = source.name, len(chosen)
        self.identity = (source.identity, chosen.start, chosen.stop)
        self._source, self._chosen = source, chosen

    def fetch(self, indices: Sequence[int]) -> list[Raw]:
        return self._source.fetch([self._chosen[i] for i in indices])

    def where(self, index: int) -> str:
        return self._source.where(self._chosen[index])

    def labels(self) -> Labels:
        return select(self._source.labels, self._chosen)


def select(labels: Callable[[], Labels], indices: Sequence[int]) -> Labels:
    """Takes the labels of some items."""
    found, indices = labels(), np.asarray(indices)
    if isinstance(found, Mapping):
        return {name: values[indices] for name, values in found.items()}
    return found if found is None else found[indices]


class PointSet:
    """An endless 2-D density (see `genzoo.data.points`)."""

    shape, size, skipped, cached = (2,), None, (), True

    def __init__(self, name: str) -> None:
        self.name = self.fingerprint = name

    def draw(self, n: int, generator: Generator) -> Tensor:
        """Draws n points, float32 [n,2]."""
        return points.draw(self.name, n, generator)

    def labels(self) -> None:
        return None


class ArraySet:
    """Items that lie in one array: decoded images uint8 [n,H,W,C] (memory-mapped or in RAM) or vectors float32 [n,D]."""

    cached = True

    def __init__(self, name: str, fingerprint: str, array: np.ndarray, labels: Callable[[], Labels], skipped: tuple[str, ...] = ()) -> None:
        self.name, self.fingerprint, self.skipped = name, fingerprint, skipped
        self.size, *sides = array.shape
        self.shape = (sides[-1], *sides[:-1])
        self._array, self._labels = array, labels

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Tensor:
        return self.batch([index])[0]

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Gathers items, [n, *shape]; images in torch's channels_last layout."""
        return torch.from_numpy(np.asarray(self._array)[np.asarray(indices)]).movedim(-1, 1)

    def labels(self) -> Labels:
        return self._labels()

    def part(self, chosen: range) -> "ArraySet":
        """Takes consecutive items."""
        fingerprint = f"{self.fingerprint}[{chosen.start}:{chosen.stop}]"
        return ArraySet(self.name, fingerprint, self._array[chosen.start : chosen.stop], partial(select, self.labels, chosen))
