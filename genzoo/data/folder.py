"""A folder of images, with or without folders for splits and classes inside it."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from genzoo.errors import UsageError

SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2", ".avif", ".tga"])
SPLITS = ("train", "training", "val", "valid", "validation", "dev", "eval", "evaluation", "test", "testing")  # folder or file names


class ImageFolder:
    """Collection: sub-folders named like splits are splits; without any, the whole folder is `train`."""

    def __init__(self, root: Path) -> None:
        self.root, self.name = root, root.name
        found = {entry.name.lower(): entry for entry in root.iterdir() if entry.is_dir()}
        self._roots = {split: found[split] for split in SPLITS if split in found} or {"train": root}
        self.splits = tuple(self._roots)

    def source(self, split: str) -> "FolderSource":
        return FolderSource(self._roots[split], f"{self.name}/{split}" if len(self.splits) > 1 else self.name)


class FolderSource:
    """The images under a folder in natural order, so that 2.jpg comes before 10.jpg and a published `first n` means what it says."""

    def __init__(self, root: Path, name: str) -> None:
        self.name, self._root = name, root
        found = (stamp(path, path.relative_to(root).as_posix()) for path in files_under(root, SUFFIXES))
        files = sorted(found, key=lambda file: _natural(file[0]))
        if not files:
            raise UsageError(f"no images under {root}: genzoo reads {', '.join(sorted(SUFFIXES))}, .parquet, .npy and .npz.")
        self._paths = [path for path, *_ in files]
        self.size = len(files)
        self.identity = (str(root.resolve()), files)

    def fetch(self, indices: Sequence[int]) -> list[Path]:
        return [self._root / self._paths[i] for i in indices]

    def where(self, index: int) -> str:
        return str(self._root / self._paths[index])

    def labels(self) -> np.ndarray | None:
        """Class numbers int64 [n] where every image lies in one of several sub-folders, numbered in natural order; else None."""
        tops = [path.partition("/")[0] if "/" in path else None for path in self._paths]
        classes = sorted(set(tops) - {None}, key=_natural)
        if None in tops or len(classes) < 2:
            return None
        numbers = {name: number for number, name in enumerate(classes)}
        return np.array([numbers[top] for top in tops])


def files_under(root: Path, suffixes: Iterable[str]) -> Iterator[Path]:
    """Finds the files with one of the suffixes (lower case) under a folder; hidden files and folders are left out."""
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        yield from (Path(folder, name) for name in names if Path(name).suffix.lower() in suffixes and not name.startswith("."))


def stamp(path: Path, name: str) -> tuple[str, int, int]:
    """(name, bytes, modification time in ns): what tells a file from another version of it without reading it."""
    status = path.stat()
    return name, status.st_size, status.st_mtime_ns


def _natural(path: str) -> list[str | int]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path)]
