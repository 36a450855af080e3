"""MNIST's idx files, `train-images-idx3-ubyte`, also compressed with gzip: images with their labels."""

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from genzoo.data.arrays import ArraySource, open_array
from genzoo.data.identity import contents_of_files
from genzoo.data.labels import ONLY, Labels, class_label
from genzoo.data.naming import IDX, idx_files, role
from genzoo.data.places import ordered, split_in
from genzoo.data.sets import ArraySet
from genzoo.errors import UsageError

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_DEFLATE = 1032  # most that gzip can save, as a ratio


class IdxCollection:
    """One file of images, or the files under a folder: `train-...` and `t10k-...` are train and test."""

    def __init__(self, path: Path, channels: int = 3) -> None:
        self.name, self._channels = path.name, channels
        files = idx_files(path) if path.is_dir() else [path]
        images = [file for file in files if not _is_labels(file)]
        if not images:
            raise UsageError(f"{path} holds labels: give the file of images, e.g. train-images-idx3-ubyte.")
        self._files: dict[str, Path] = {}
        for file in images:
            split = "test" if file.name.startswith("t10k") else split_in(file.name) or "train"
            other = self._files.setdefault(split, file)
            if other != file:
                raise UsageError(f"{path} has two files of the split {split}: give one of {other} and {file}.")
        if len(self._files) == 1:
            self._files = {"train": images[0]}
        self.splits: tuple[str, ...] = ordered(self._files)

    def source(self, split: str) -> "ArraySource | ArraySet":
        path, name = self._files[split], f"{self.name}/{split}" if len(self.splits) > 1 else self.name
        array, labels = read_idx(path), _labels(path)
        for label in labels.values():
            if len(label.values) != len(array):
                raise UsageError(f"{path} has {len(array):,} images and {len(label.values):,} labels: copy both again.")
        by = role(split, self.splits, "file name")
        identity = contents_of_files([path])
        return open_array(array, name, identity, labels, channels=self._channels, role=by, notes=[f"file {path.name}"])


def read_idx(path: Path) -> np.ndarray:
    """Reads an idx file, memory-mapped where it is not compressed.

    Raises:
        UsageError: it is damaged, or another file.
    """
    compressed = path.suffix == ".gz"
    try:
        with (gzip.open if compressed else open)(path, "rb") as file:
            zero, kind, n_dims = struct.unpack(">HBB", file.read(4))
            shape = struct.unpack(f">{n_dims}I", file.read(4 * n_dims))
            dtype = np.dtype(_TYPES[kind])
            size = math.prod(shape) * dtype.itemsize
            if zero or not n_dims or size > path.stat().st_size * (_DEFLATE if compressed else 1):
                raise ValueError(f"its header claims the shape {list(shape)}")
            if not compressed and size == path.stat().st_size - file.tell() and size:
                return np.memmap(path, dtype, "r", file.tell(), shape)
            content = file.read(size + 1)
            if len(content) != size:
                raise ValueError(f"its header claims the shape {list(shape)}, and the file is of another size")
            return np.frombuffer(content, dtype).reshape(shape)
    except (OSError, EOFError, KeyError, ValueError, struct.error, zlib.error) as error:
        raise UsageError(f"{path} is damaged or not an idx file ({error}): copy it again.") from error


def _is_labels(path: Path) -> bool:
    match = IDX.fullmatch(path.name)
    return match is not None and match[2] == "1"


def _labels(images: Path) -> Labels:
    """Reads the labels beside a file of images: train-labels-idx1-ubyte of train-images-idx3-ubyte."""
    name = re.sub(r"idx\d", "idx1", images.name.removesuffix(".gz")).replace("images", "labels")
    for path in (images.with_name(name), images.with_name(f"{name}.gz")):
        if path != images and path.is_file():
            return {ONLY: class_label(read_idx(path))}
    return {}
