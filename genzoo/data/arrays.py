"""Arrays in `.npy` and `.npz` files: images [n,C,H,W], [n,H,W,C] or [n,H,W] and vectors [n,D]."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from genzoo.data.folder import stamp
from genzoo.data.labels import Labels
from genzoo.data.sets import ArraySet
from genzoo.data.sources import Source, fingerprint
from genzoo.errors import UsageError

WHOLE = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(bool))  # types of pixels besides floats
_CHUNK = 4096  # items checked together, so that a memory-mapped file is never in memory as a whole


class ArrayCollection:
    """A `.npy` file is `train`; the arrays of a `.npz` file are splits, an only one is `train` whatever its name."""

    def __init__(self, path: Path) -> None:
        self.name, self._path = path.stem, path
        arrays = self._load()
        names = tuple(arrays) if isinstance(arrays, Mapping) else ()
        self.splits: tuple[str, ...] = names if len(names) > 1 else ("train",)

    def source(self, split: str) -> "ArraySource | ArraySet":
        arrays, name = self._load(), f"{self.name}/{split}" if len(self.splits) > 1 else self.name
        if isinstance(arrays, Mapping):
            member = split if len(arrays) > 1 else next(iter(arrays))
            arrays = self._read(lambda: arrays[member])
        return open_array(arrays, name, (stamp(self._path, str(self._path.resolve())), split))

    def _load(self) -> np.ndarray | Mapping[str, np.ndarray]:
        """Opens the file: an array, memory-mapped, or arrays by name, read when they are asked for."""
        return self._read(lambda: np.load(self._path, mmap_mode="r", allow_pickle=False))

    def _read(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (ValueError, EOFError, OSError, BadZipFile) as error:
            message = f"{self._path} cannot be read ({error}): save it with numpy.save or numpy.savez."
            raise UsageError(message) from error


class ArraySource(Source):
    """Images that are already numbers [n,C,H,W]: uint8, uint16, bool, or floats in [0,1]."""

    def __init__(self, images: np.ndarray, name: str, identity: object, labels: Labels | None = None) -> None:
        self.name, self.size, self.identity = name, len(images), identity
        self._images, self._labels = images, labels or {}

    def fetch(self, indices: Sequence[int]) -> list[np.ndarray]:
        return list(self._images[np.asarray(indices)])

    def where(self, index: int) -> str:
        return f"{self.name}[{index}]"

    def labels(self) -> Labels:
        return self._labels

    def headers(self, n: int) -> list[np.ndarray]:
        return [self._images[0]]  # all are alike


def open_array(array: np.ndarray, name: str, identity: object, labels: Labels | None = None) -> ArraySource | ArraySet:
    """Checks an array and opens it by its shape: images as a source, vectors as a set.

    Args:
        array: images [n,C,H,W], [n,H,W,C] or [n,H,W], uint8, uint16, bool, or floats in [0,1]; vectors [n,D], uint8 or
            floats of any range.
        identity: what decides the content, for the fingerprint.

    Raises:
        UsageError: another shape or type, no items, NaN or infinity, image values outside [0,1]; the first is named.
    """
    whole = WHOLE if array.ndim > 2 else WHOLE[:1]
    if array.dtype not in whole and not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"{name} has type {array.dtype}: save it as uint8, or as floats in [0,1].")
    if array.ndim not in (2, 3, 4) or not array.size:
        raise UsageError(f"{name} has shape {list(array.shape)}: images are [n,C,H,W] and vectors [n,D].")
    if array.ndim == 2:
        _refuse_first(array, lambda items: ~np.isfinite(items), name, "NaN or infinity: remove or repair it.")
        return ArraySet(name, fingerprint(name, identity), array.astype(np.float32), partial(dict, labels or {}))
    images = _channels_first(array, name)
    if images.dtype not in WHOLE:
        _refuse_first(images, lambda items: ~np.isfinite(items), name, "NaN or infinity: remove or repair it.")
        fix = "values outside [0,1]: divide by 255, or save uint8; for [-1,1] take (x + 1) / 2."
        _refuse_first(images, lambda items: (items < 0) | (items > 1), name, fix)
    return ArraySource(images, name, identity, labels)


def _channels_first(array: np.ndarray, name: str) -> np.ndarray:
    """Brings images to [n,C,H,W] with 1 or 3 channels."""
    if array.ndim == 3:
        return array[:, None]
    if array.shape[1] in (1, 3):
        return array
    if array.shape[3] in (1, 3):
        return array.transpose(0, 3, 1, 2)
    raise UsageError(f"{name} has shape {list(array.shape)}: images have 1 or 3 channels, [n,C,H,W].")


def _refuse_first(array: np.ndarray, wrong: Callable[[np.ndarray], np.ndarray], name: str, what: str) -> None:
    for start in range(0, len(array), _CHUNK):
        items = array[start : start + _CHUNK]
        bad = wrong(items).reshape(len(items), -1).any(1)
        if bad.any():
            raise UsageError(f"item {start + int(bad.argmax())} of {name} holds {what}")
