"""What the names of files, folders and arrays say: images, splits and classes, in archives, tables and array files."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from genzoo.data.labels import ONLY, Labels, class_label
from genzoo.data.places import SPLITS, split_in, words
from genzoo.data.suffixes import readable_suffixes
from genzoo.data.tree import files_under

IMAGES = readable_suffixes()
_DIGITS = re.compile(r"(\d+)")
IDX = re.compile(r"(.+[-.])idx(\d)(-ubyte)?(\.gz)?")  # names of MNIST's files; the digit counts dimensions


def is_image(name: str) -> bool:
    """Whether a file's name ends like an image's."""
    return PurePath(name.strip()).suffix.lower() in IMAGES


def without_split(name: str) -> str:
    """`train_images` -> `images`."""
    return "_".join(word for word in words(name) if word not in SPLITS)


def split_of_file(path: PurePath) -> str:
    """Finds the split in a file's name, else in its folders': train-00000-of-00002.parquet, test/0000.tar, val.npy.

    A name without one means train.
    """
    if sharded := re.fullmatch(r"(.+)-\d{5}-of-\d{5}.*", path.stem):
        return split_in(sharded[1]) or sharded[1]
    return next((split for name in (path.stem, *reversed(path.parent.parts)) if (split := split_in(name))), "train")


def role(split: str, splits: Sequence[str], by: str) -> str:
    """`split train of train, test by file name`; empty where there is one split."""
    return f"split {split} of {', '.join(splits)} by {by}" if len(splits) > 1 else ""


def below_common(paths: Sequence[str]) -> list[str]:
    """Leaves out the leading folders that all paths share."""
    parents = [path.split("/")[:-1] for path in paths]
    shared = 0
    for names in zip(*parents, strict=False):
        if len(set(names)) > 1:
            break
        shared += 1
    return ["/".join(path.split("/")[shared:]) for path in paths]


def folder_classes(paths: Sequence[str]) -> Labels:
    """Names classes where every file lies in one of several folders, in natural order of the folders' names."""
    folders = [path.partition("/")[0] for path in below_common(paths) if "/" in path]
    classes = sorted(set(folders), key=natural)
    if len(folders) < len(paths) or len(classes) < 2:
        return {}
    numbers = {name: number for number, name in enumerate(classes)}
    return {ONLY: class_label([numbers[folder] for folder in folders], classes)}


def natural(path: str) -> list[str | int]:
    """A key to sort by: 2.jpg comes before 10.jpg."""
    return [int(part) if part.isdecimal() else part for part in _DIGITS.split(path)]


def tables_under(root: Path) -> list[Path]:
    """Finds the parquet files under a folder, but for one of facts about images beside it, if there are others."""
    found = sorted(files_under(root, {".parquet"}))
    return [path for path in found if path.name != "metadata.parquet"] or found


def files_in_order(root: Path, suffix: str) -> list[Path]:
    """Finds the files with a suffix under a folder, in natural order."""
    return sorted(files_under(root, {suffix}), key=lambda path: natural(path.relative_to(root).as_posix()))


def is_idx(path: Path) -> bool:
    """Whether a file is called like an idx file."""
    return IDX.fullmatch(path.name) is not None


def idx_files(root: Path) -> list[Path]:
    """Finds the idx files under a folder; of one that is there with and without `.gz`, the latter."""
    found = sorted(path for path in root.rglob("*idx*") if path.is_file() and is_idx(path))
    return [path for path in found if path.suffix != ".gz" or path.with_suffix("") not in found]
