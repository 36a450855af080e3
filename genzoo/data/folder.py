"""A folder of images, with or without folders for splits and classes inside it."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from genzoo.data.found import LOOSE, Found, left_out
from genzoo.data.identity import contents_of, stamp
from genzoo.data.labels import ONLY, Labels, class_label
from genzoo.data.naming import natural, role
from genzoo.data.places import find_places, locate, misread, ordered
from genzoo.data.sources import Source
from genzoo.data.suffixes import readable_suffixes, suffix_of
from genzoo.data.tree import Listing, refuse_unreadable, walk
from genzoo.dataspec import last_name
from genzoo.errors import UsageError


class FolderCollection:
    """Folders with the names of splits are splits (see `places.find_places`); without any, all of it is `train`.

    Args:
        root: the folder.
        skip_unreadable: leave out folders inside it that cannot be read.

    Raises:
        UsageError: a folder inside it cannot be read.
    """

    def __init__(self, root: Path, skip_unreadable: bool = False) -> None:
        self.root, self.name = root, last_name(str(root))
        listings, suffixes = list(walk(root)), readable_suffixes()
        if not skip_unreadable:
            refuse_unreadable(root, listings)
        self._images = {listing.prefix: _images(listing, suffixes) for listing in listings}
        self._left_out = {listing.prefix: _left_out(listing, suffixes) for listing in listings}
        filled = [prefix for prefix, names in self._images.items() if names]
        self._places = find_places(filled)
        self._notes = misread(filled, self._places)
        self.splits: tuple[str, ...] = ordered({split for split, _ in self._places.values()})

    def source(self, split: str) -> "FolderSource":
        places = {prefix: locate(prefix, self._places) for prefix in self._images}
        missing = Counter[str]()
        for prefix, place in places.items():
            if place is None or place[0] == split:
                missing.update(self._left_out[prefix])
        files = {
            f"{prefix}{name}": place[1]
            for prefix, place in places.items()
            if place is not None and place[0] == split
            for name in self._images[prefix]
        }
        if not files:
            raise UsageError(_nothing_in(self.root, missing))
        by = role(split, self.splits, "folder name")
        name = f"{self.name}/{split}" if len(self.splits) > 1 else self.name
        return FolderSource(self.root, name, files, Found(items=0, role=by, left_out=missing, notes=self._notes))


class FolderSource(Source):
    """Images under a folder in natural order: 2.jpg comes before 10.jpg, as a published `first n` means it.

    Args:
        root: the folder.
        name: of the split, for messages.
        files: relative path -> path of the classes that the file is in, with a slash at the end; "" without one.
        facts: what is known of the split besides its files.
    """

    def __init__(self, root: Path, name: str, files: Mapping[str, str], facts: Found) -> None:
        self.name, self._root, self._facts = name, root, facts
        self._paths = sorted(files, key=natural)
        self._classes = [files[path].partition("/")[0] for path in self._paths]
        self.size = len(self._paths)
        base = str(root)  # joined as text, which is faster than as paths
        stamps = [stamp(os.path.join(base, path), path) for path in self._paths]
        self.identity = self._contents = contents_of(root, stamps)

    def fetch(self, indices: Sequence[int]) -> list[Path]:
        return [self._root / self._paths[i] for i in indices]

    def where(self, index: int) -> str:
        return str(self._root / self._paths[index])

    def keys(self) -> Iterable[str]:
        """Names the images by their paths under the folder, and their sizes."""
        return (f"{name} {size}" for name, (size, _) in self._contents.files.items())

    def labels(self) -> Labels:
        """Classes where every image lies in one of several sub-folders, in natural order of the folders' names."""
        classes = sorted(set(self._classes), key=natural)
        if "" in classes or len(classes) < 2:
            return {}
        numbers = {name: number for number, name in enumerate(classes)}
        return {ONLY: class_label([numbers[folder] for folder in self._classes], classes)}

    def headers(self, n: int) -> list[Path]:
        return self.fetch(range(0, self.size, -(-self.size // n)))

    def groups(self) -> list[str]:
        return [f"{name}/" if name else LOOSE for name in self._classes]

    def found(self) -> Found:
        parts, classes = Counter(self.groups()), self.labels()
        by_folder = f"{len(classes[ONLY].classes):,} classes by folder" if classes else ""
        return Found(
            items=self.size,
            parts=dict(parts) if len(parts) > 1 else {},
            role=", ".join(filter(None, (self._facts.role, by_folder))),
            left_out=dict(self._facts.left_out),
            notes=self._facts.notes,
        )


def _images(listing: Listing, suffixes: frozenset[str]) -> list[str]:
    return [name for name in listing.names if suffix_of(name) in suffixes]


def _left_out(listing: Listing, suffixes: frozenset[str]) -> Counter[str]:
    """Reason -> number of what is left out of one folder."""
    others = (suffix for name in listing.names if (suffix := suffix_of(name)) not in suffixes)
    return Counter(suffix or "without suffix" for suffix in others) + Counter(listing.left_out)


def _nothing_in(root: Path, missing: Mapping[str, int]) -> str:
    holds = f": it holds {left_out(missing)}" if missing else ""
    return (
        f"no images under {root}{holds}. genzoo reads the images that Pillow does (.png, .jpg, .webp, .tif, ...), "
        ".parquet, .npy, .npz, .zip and .tar."
    )
