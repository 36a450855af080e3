"""A folder of images, with or without folders for splits and classes inside it."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from genzoo.data.identity import contents_of
from genzoo.data.labels import ONLY, Labels, class_label
from genzoo.data.sources import Source
from genzoo.errors import UsageError

SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2", ".avif", ".tga"]
)
# Names of folders or files that are splits.
SPLITS = ("train", "training", "val", "valid", "validation", "dev", "eval", "evaluation", "test", "testing")


class FolderCollection:
    """Sub-folders named like splits are splits; without any, the whole folder is `train`."""

    def __init__(self, root: Path) -> None:
        self.root, self.name = root, root.name
        found = {entry.name.lower(): entry for entry in root.iterdir() if entry.is_dir()}
        self._roots = {split: found[split] for split in SPLITS if split in found} or {"train": root}
        self.splits: tuple[str, ...] = tuple(self._roots)

    def source(self, split: str) -> "FolderSource":
        return FolderSource(self._roots[split], f"{self.name}/{split}" if len(self.splits) > 1 else self.name)


class FolderSource(Source):
    """The images under a folder in natural order: 2.jpg comes before 10.jpg, as a published `first n` means it."""

    def __init__(self, root: Path, name: str) -> None:
        self.name, self._root = name, root
        found = (stamp(path, path.relative_to(root).as_posix()) for path in files_under(root, SUFFIXES))
        files = sorted(found, key=lambda file: _natural(file[0]))
        if not files:
            raise UsageError(
                f"no images under {root}: genzoo reads {', '.join(sorted(SUFFIXES))}, .parquet, .npy and .npz."
            )
        self._paths = [path for path, *_ in files]
        self.size = len(files)
        self.identity = self._contents = contents_of(root, files)

    def fetch(self, indices: Sequence[int]) -> list[Path]:
        return [self._root / self._paths[i] for i in indices]

    def where(self, index: int) -> str:
        return str(self._root / self._paths[index])

    def keys(self) -> Iterable[str]:
        """Names the images by their paths under the folder, and their sizes."""
        return (f"{name} {size}" for name, (size, _) in self._contents.files.items())

    def labels(self) -> Labels:
        """Classes where every image lies in one of several sub-folders, in natural order of the folders' names."""
        folders = [path.partition("/")[0] for path in self._paths if "/" in path]
        classes = sorted(set(folders), key=_natural)
        if len(folders) < self.size or len(classes) < 2:
            return {}
        numbers = {name: number for number, name in enumerate(classes)}
        return {ONLY: class_label([numbers[folder] for folder in folders], classes)}


def files_under(root: Path, suffixes: Iterable[str]) -> Iterator[Path]:
    """Finds the files with one of the suffixes (lower case) under a folder; hidden files and folders are left out."""
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        shown = (name for name in names if not name.startswith("."))
        yield from (Path(folder, name) for name in shown if Path(name).suffix.lower() in suffixes)


def stamp(path: Path, name: str) -> tuple[str, int, int]:
    """(name, bytes, modification time in ns): changes with a file's content, and is known without reading it."""
    status = path.stat()
    return name, status.st_size, status.st_mtime_ns


def _natural(path: str) -> list[str | int]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path)]
