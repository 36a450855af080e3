"""`.npy` and `.npz` files, and folders of `.npy` files: arrays whose names mention splits and labels.

`train_images`, `x_test`, `test/0003.npy` mention splits; `train_labels`, `y_test` are labels of the same split.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from genzoo.data import cache
from genzoo.data.arrays import COLORS, RGBA, ArraySource, as_images, open_array
from genzoo.data.decoding import CorruptImageError
from genzoo.data.found import Found
from genzoo.data.identity import contents_of_files
from genzoo.data.labels import Labels, class_label, only_or_all
from genzoo.data.naming import files_in_order, folder_classes, role, without_split
from genzoo.data.npy import Stored, open_npy, open_npz
from genzoo.data.places import by_folder, ordered, split_in, words
from genzoo.data.sets import ArraySet
from genzoo.data.sources import Source
from genzoo.errors import UsageError

_LABELS = {"label", "labels", "y", "target", "targets", "class", "classes"}  # words in the names of arrays of labels
_STATISTICS = {"mu", "sigma"}  # arrays of a file of Fréchet statistics


@dataclass(frozen=True)
class _Split:
    """The arrays of one split, by name."""

    items: str
    labels: tuple[str, ...]


class ArrayCollection:
    """A `.npy` file is `train`; the names of the arrays of a `.npz` file mention splits, an only one is `train`."""

    def __init__(self, path: Path, column: str | None = None, channels: int = 3) -> None:
        self.name, self._path, self._column, self._channels = path.stem, path, column, channels
        self._arrays = open_npz(path) if path.suffix.lower() == ".npz" else {path.stem: open_npy(path)}
        self._splits = _assign(self._arrays, str(path), column)
        self.splits: tuple[str, ...] = ordered(self._splits)

    def source(self, split: str) -> "ArraySource | ArraySet":
        chosen = self._splits[split]
        array = self._arrays[chosen.items].load()
        numbers = {without_split(name): self._arrays[name].load().reshape(-1) for name in chosen.labels}
        labels = only_or_all({name: class_label(values) for name, values in numbers.items()})
        name = f"{self.name}/{split}" if len(self.splits) > 1 else self.name
        identity = (contents_of_files([self._path]), chosen.items if self._column else split)
        by = role(split, self.splits, "array name")
        return open_array(array, name, identity, labels, channels=self._channels, role=by, notes=self._notes(chosen))

    def _notes(self, chosen: _Split) -> list[str]:
        """Says which array was read and which are not, where there are several."""
        if len(self._arrays) == 1:
            return []
        used = {name for one in self._splits.values() for name in (one.items, *one.labels)}
        unused = sorted(self._arrays.keys() - used)
        return [f"array {chosen.items}", *([f"unused arrays: {', '.join(unused)}"] if unused else [])]


def holds_statistics(path: Path) -> bool:
    """Whether a file holds mean and covariance of features, `mu` and `sigma`, and no images."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    arrays = open_npz(path)
    return arrays.keys() >= _STATISTICS and not any(len(array.shape) > 2 for array in arrays.values())


def _assign(arrays: Mapping[str, Stored], owner: str, column: str | None) -> dict[str, _Split]:
    """Finds the split of each array of items, and its labels."""
    names = _items(arrays, owner, column)
    splits: dict[str, list[str]] = {}
    for name in names:
        splits.setdefault(split_in(name) or name, []).append(name)
    unnamed = [name for name in names if split_in(name) is None]
    if len(splits) == 1 or (len(unnamed) == 1 and "train" not in splits):
        splits["train"] = splits.pop(unnamed[0] if unnamed else next(iter(splits)))
    for split, several in splits.items():
        if len(several) > 1:
            raise UsageError(
                f"{owner} has several arrays of the split {split}: give data.column one of {', '.join(several)}."
            )
    return {split: _Split(name, _labels_of(name, arrays)) for split, (name,) in splits.items()}


def _items(arrays: Mapping[str, Stored], owner: str, column: str | None) -> list[str]:
    """Names the arrays of items: images where there are any, else vectors; or those that `column` means."""
    if column is not None:
        if named := [name for name in arrays if column in (name, without_split(name))]:
            return named
        raise UsageError(f"{owner} has no array {column!r}: give data.column one of {', '.join(arrays)}.")
    large = [name for name, array in arrays.items() if len(array.shape) > 1 and not array.dtype.hasobject]
    images = [name for name in large if len(arrays[name].shape) > 2]
    if not images and arrays.keys() >= _STATISTICS:
        raise UsageError(
            f"{owner} holds statistics of features (mu and sigma), not images: it can be the --data of `genzoo eval` "
            "for Fréchet distances."
        )
    objects = [name for name, array in arrays.items() if array.dtype.hasobject]
    return _not_labels(images) or images or _not_labels(large) or large or _not_labels(objects) or list(arrays)


def _not_labels(names: Sequence[str]) -> list[str]:
    return [name for name in names if not _LABELS & set(words(name))]


def _labels_of(name: str, arrays: Mapping[str, Stored]) -> tuple[str, ...]:
    """Names the arrays of class numbers that belong to an array of items."""
    n = arrays[name].shape[:1]
    return tuple(
        other
        for other, array in arrays.items()
        if other != name and split_in(other) == split_in(name) and _is_labels(other, array) and array.shape[:1] == n
    )


def _is_labels(name: str, array: Stored) -> bool:
    """Whether these are class numbers, [n] or [n,1]."""
    return bool(_LABELS & set(words(name))) and array.dtype.kind in "iub" and array.shape[1:] in ((), (1,))


class NpyFolderCollection:
    """A folder of `.npy` files, whose names or folders mention splits: one image or vector each, or parts [n,...]."""

    def __init__(self, root: Path, channels: int = 3) -> None:
        self.name, self._root, self._channels = root.name, root, channels
        self._files: dict[str, list[Path]] = {}
        self._labels: dict[str, list[Path]] = {}
        paths = [path for path in files_in_order(root, ".npy") if cache.root() not in path.parents]  # it may be inside
        by_path, self._notes = by_folder(path.relative_to(root).as_posix() for path in paths)
        split_of = {name: split for split, names in by_path.items() for name in names}
        for path in paths:
            of_labels = _LABELS & set(words(path.stem)) and _is_labels(path.stem, open_npy(path))
            group = self._labels if of_labels else self._files
            split = split_in(path.stem) or split_of[path.relative_to(root).as_posix()]
            group.setdefault(split, []).append(path)
        if not self._files:
            raise UsageError(f"{root} holds no .npy file of images: add the one that its labels belong to.")
        self.splits: tuple[str, ...] = ordered(self._files)

    def source(self, split: str) -> "Source | ArraySet":
        name = f"{self.name}/{split}" if len(self.splits) > 1 else self.name
        files, by = self._files[split], role(split, self.splits, "file name")
        stored, labels = _intact(files), self._class_numbers(split)
        one_each, ndim = _one_each(stored), len(stored[0].shape)
        if one_each and not labels:
            labels = folder_classes([path.relative_to(self._root).as_posix() for path in files])
        if one_each and ndim > 1:
            source = NpyFiles(files, name, labels, self._channels, by, self._notes)
        elif ndim > 2:
            source = Parts([self._part(path) for path in files], name, labels, by)
        else:
            whole = np.stack if one_each else np.concatenate
            source = open_array(
                whole([open_npy(path).load() for path in files]), name, contents_of_files(files), labels
            )
        for label in labels.values():
            if (n := len(label.values)) != source.size:
                raise UsageError(f"{name} has {source.size:,} items and {n:,} labels: repair the file of labels.")
        return source

    def _part(self, path: Path) -> ArraySource:
        part = open_array(open_npy(path).load(), str(path), contents_of_files([path]), channels=self._channels)
        assert isinstance(part, ArraySource)  # it has more than two dimensions
        return part

    def _class_numbers(self, split: str) -> Labels:
        """Reads the labels of a split: a file of each kind, or parts of the same kind."""
        values: dict[str, list[np.ndarray]] = {}
        for path in self._labels.get(split, []):
            values.setdefault(without_split(path.stem), []).append(open_npy(path).load().reshape(-1))
        return only_or_all({kind: class_label(np.concatenate(parts)) for kind, parts in values.items()})


class NpyFiles(Source):
    """`.npy` files of one image each, [H,W], [H,W,C] or [C,H,W]."""

    def __init__(
        self, files: Sequence[Path], name: str, labels: Labels, channels: int, by: str, notes: Sequence[str] = ()
    ) -> None:
        self.name, self.size, self.identity = name, len(files), contents_of_files(files)
        self._files, self._labels, self._channels = list(files), labels, channels
        self._role, self._notes = by, ("each .npy file is one image", *notes)

    def fetch(self, indices: Sequence[int]) -> "list[np.ndarray | CorruptImageError]":
        return [self._read(self._files[i]) for i in indices]

    def where(self, index: int) -> str:
        return str(self._files[index])

    def labels(self) -> Labels:
        return self._labels

    def found(self) -> Found:
        return Found(items=self.size, role=self._role, notes=self._notes)

    def _read(self, path: Path) -> "np.ndarray | CorruptImageError":
        try:
            image = open_npy(path).load()
        except UsageError as error:
            return CorruptImageError(str(error).removeprefix(f"{path} "))
        images, _ = as_images(image[None], str(path), self._channels)
        return images[0]


class Parts(Source):
    """Images of several arrays, one after the other."""

    def __init__(self, parts: Sequence[ArraySource], name: str, labels: Labels, by: str) -> None:
        self.name, self.identity = name, tuple(part.identity for part in parts)
        self._parts, self._labels, self._role = list(parts), labels, by
        self._starts = [0, *accumulate(part.size for part in parts)]
        self.size = self._starts[-1]

    def fetch(self, indices: Sequence[int]) -> list[np.ndarray]:
        return [part.fetch([row])[0] for part, row in map(self._locate, indices)]

    def where(self, index: int) -> str:
        part, row = self._locate(index)
        return part.where(row)

    def labels(self) -> Labels:
        return self._labels

    def found(self) -> Found:
        parts = {Path(part.name).name: part.size for part in self._parts}
        notes = dict.fromkeys(note for part in self._parts for note in part.found().notes)
        return Found(items=self.size, parts=parts if len(parts) > 1 else {}, role=self._role, notes=tuple(notes))

    def _locate(self, index: int) -> tuple[ArraySource, int]:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._parts[number], index - self._starts[number]


def _intact(files: Sequence[Path]) -> list[Stored]:
    """Opens the files that can be read. Raises UsageError where there are none."""
    found = []
    for path in files:
        with suppress(UsageError):  # a damaged file is an item that cannot be read, which is named when it is
            found.append(open_npy(path))
    return found or [open_npy(path) for path in files]


def _one_each(arrays: Sequence[Stored]) -> bool:
    """Whether each array is one image or vector, rather than many [n,...].

    Raises:
        UsageError: neither of all.
    """
    first, shapes = arrays[0], {array.shape for array in arrays}
    if len({len(shape) for shape in shapes}) > 1:
        other = next(array for array in arrays if len(array.shape) != len(first.shape))
        raise UsageError(
            f"{first.where} has shape {list(first.shape)} and {other.where} {list(other.shape)}: "
            "give one file, or keep them in different folders."
        )
    if len(first.shape) < 3 and len({shape[-1:] for shape in shapes}) > 1:
        other = next(array for array in arrays if array.shape[-1:] != first.shape[-1:])
        has = f"{first.where} has shape {list(first.shape)} and {other.where} {list(other.shape)}"
        raise UsageError(f"{has}: bring all to one width.")
    if len(first.shape) == 2:  # floats outside [0,1] are vectors, unless as many everywhere as they have numbers
        is_image = first.dtype == np.uint8 or first.shape[0] == first.shape[1] or _in_unit_range(first.load())
        return len(arrays) > 1 and len(shapes) == 1 and is_image
    colors = (*COLORS, RGBA)
    return len(first.shape) < 2 or (
        len(first.shape) == 3 and all(shape[0] in colors or shape[-1] in colors for shape in shapes)
    )


def _in_unit_range(array: np.ndarray) -> bool:
    return bool(array.size and array.min() >= 0 and array.max() <= 1)
