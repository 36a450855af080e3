"""Images in archives, read in place: nothing is unpacked. What all kinds share, and `.zip`; `shards` has `.tar`.

Folders in an archive are splits or classes, as folders on disk are. A `.zip` may hold StyleGAN's `dataset.json`.
"""

import json
import os
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Protocol

from genzoo.data.decoding import CorruptImageError
from genzoo.data.found import Found
from genzoo.data.identity import contents_of_files
from genzoo.data.labels import ONLY, Labels, class_label
from genzoo.data.naming import below_common, folder_classes, is_image, natural, role
from genzoo.data.places import by_folder
from genzoo.data.sources import Source
from genzoo.data.tree import RUBBISH_NAMES
from genzoo.errors import UsageError

_DATASET_JSON = "dataset.json"
_MOST_BYTES = 2**31  # of one encoded image
_SHOWN = 3  # kinds of files that a message names
# What damaged archives and members raise.
BROKEN = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, tarfile.TarError)


class Member(Protocol):
    """One file in an archive."""

    @property
    def name(self) -> str: ...

    @property
    def archive(self) -> Path: ...

    def read(self) -> bytes | CorruptImageError:
        """Reads the content, or says why it cannot be read."""
        ...


class ArchiveSource(Source):
    """The images of one split of an archive, or of several archives, in order."""

    def __init__(
        self, members: Sequence[Member], name: str, identity: object, read_labels: Callable[[], Labels], found: Found
    ) -> None:
        self.name, self.size, self.identity = name, len(members), identity
        self._members, self._read_labels, self._found = list(members), read_labels, found

    def fetch(self, indices: Sequence[int]) -> list[bytes | CorruptImageError]:
        return [self._members[i].read() for i in indices]

    def where(self, index: int) -> str:
        member = self._members[index]
        return f"{member.archive}/{member.name}"

    def headers(self, n: int) -> list[bytes | CorruptImageError]:
        return self.fetch(range(min(n, self.size)))

    def labels(self) -> Labels:
        return self._read_labels()

    def found(self) -> Found:
        return self._found


class Zip:
    """A `.zip` file. Each process opens it for itself, because processes would share one position in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_opened": None}

    @property
    def file(self) -> zipfile.ZipFile:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), zipfile.ZipFile(self.path)
        return self._opened[1]


@dataclass(frozen=True)
class ZipMember:
    """A file in a `.zip`."""

    zip: Zip
    name: str

    @property
    def archive(self) -> Path:
        return self.zip.path

    def read(self) -> bytes | CorruptImageError:
        info = self.zip.file.getinfo(self.name)
        if info.flag_bits & 1:
            return CorruptImageError("it is encrypted")
        if info.file_size > _MOST_BYTES:
            return CorruptImageError(f"it claims {info.file_size:,} bytes")
        try:
            return self.zip.file.read(self.name)
        except BROKEN as error:
            return CorruptImageError(reason(error))


class ZipCollection:
    """The images in a `.zip`, in natural order of their names."""

    def __init__(self, path: Path) -> None:
        self.name, self._path, self._zip = path.stem, path, Zip(path)
        with intact(path):
            names = [name for name in self._zip.file.namelist() if not name.endswith("/") and is_shown(name)]
        images = sorted((name for name in names if is_image(name)), key=natural)
        if not images:
            raise no_images(path, names)
        self._left_out = kinds(name for name in names if not is_image(name))
        self._splits, self._notes = by_folder(images)
        self.splits: tuple[str, ...] = tuple(self._splits)

    def source(self, split: str) -> ArchiveSource:
        names = self._splits[split]
        own = next((name for name in self._zip.file.namelist() if PurePosixPath(name).name == _DATASET_JSON), None)
        labels = folder_classes(names) if own is None else self._labels(own, names)
        found = Found(
            items=len(names),
            parts=by_first_folder(names) if own is None else {},
            role=joined(role(split, self.splits, "folder name"), classes_by(labels, "folder" if own is None else own)),
            left_out=self._left_out,
            notes=self._notes,
        )
        identity = (contents_of_files([self._path]), split)
        name = f"{self.name}/{split}" if len(self.splits) > 1 else self.name
        return ArchiveSource([ZipMember(self._zip, n) for n in names], name, identity, partial(dict, labels), found)

    def _labels(self, own: str, names: Sequence[str]) -> Labels:
        """Reads the class numbers in StyleGAN's dataset.json; a file that it does not list has none."""
        where = f"{self._path}/{own}"
        content = ZipMember(self._zip, own).read()
        try:
            if isinstance(content, CorruptImageError):
                raise ValueError(str(content))
            listed = json.loads(content)["labels"]
            numbers = dict(listed or [])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            fix = 'write {"labels": [["0.png", 5], ...]}, or leave it out'
            raise UsageError(f"{where} cannot be read ({reason(error)}): {fix}.") from error
        values = [numbers.get(name.removeprefix(own.removesuffix(_DATASET_JSON))) for name in names]
        if not any(isinstance(value, int) for value in values):
            return {}
        return {ONLY: class_label([value if isinstance(value, int) else -1 for value in values])}


def kinds(names: Iterable[str]) -> dict[str, int]:
    """Counts files by suffix: `.txt` -> 3."""
    return dict(Counter(PurePosixPath(name).suffix.lower() or PurePosixPath(name).name for name in names))


def is_shown(name: str) -> bool:
    """Whether neither a file nor a folder on its way is hidden, or one that file managers add."""
    return not any(part.startswith(".") or part.lower() in RUBBISH_NAMES for part in PurePosixPath(name).parts)


def by_first_folder(names: Sequence[str]) -> dict[str, int]:
    """Counts images by folder, below the folders that all share; empty where there is one."""
    counts = Counter(name.partition("/")[0] if "/" in name else "" for name in below_common(names))
    return {f"{folder}/" if folder else "loose": n for folder, n in counts.items()} if len(counts) > 1 else {}


def classes_by(labels: Labels, what: str) -> str:
    """`3 classes by folder`; empty without labels."""
    return f"{len(labels[ONLY].classes)} classes by {what}" if labels else ""


def joined(*roles: str) -> str:
    """Joins what is known of the parts."""
    return ", ".join(filter(None, roles))


def no_images(where: Path, names: Sequence[str]) -> UsageError:
    """The error for an archive without images, which names what it holds."""
    most = sorted(kinds(names).items(), key=lambda item: -item[1])[:_SHOWN]
    has = ", ".join(f"{n} {kind}" for kind, n in most) or "nothing"
    return UsageError(f"no images in {where} (it has {has}): unpack it, and give what is inside.")


def reason(error: Exception) -> str:
    """The text of an error in one line."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def intact(path: Path) -> Iterator[None]:
    """Turns the errors of a damaged archive into a UsageError."""
    try:
        yield
    except UsageError:
        raise
    except BROKEN as error:
        raise UsageError(f"{path} is damaged or not an archive ({reason(error)}): copy it again.") from error
