"""Images in `.tar` files: one archive, or a folder of WebDataset shards.

Consecutive files of a shard whose names agree up to the first dot are one sample: 000.jpg, 000.cls, 000.json.
"""

import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from genzoo.data.archives import (
    ArchiveSource,
    by_first_folder,
    classes_by,
    intact,
    is_shown,
    joined,
    kinds,
    no_images,
    reason,
)
from genzoo.data.decoding import CorruptImageError
from genzoo.data.found import Found
from genzoo.data.identity import contents_of_files
from genzoo.data.labels import ONLY, Labels, text_label
from genzoo.data.naming import files_in_order, folder_classes, is_image, role, split_of_file
from genzoo.data.places import by_folder, ordered
from genzoo.errors import UsageError

_CLASS = "cls"  # ending of a sample's file with its class, a number or a name
_BLOCK = 512  # bytes; an archive ends with blocks of zeros


@dataclass(frozen=True)
class TarMember:
    """A file in a `.tar`: where its content is."""

    archive: Path
    name: str
    offset: int
    size: int

    @property
    def ending(self) -> str:
        """What follows the first dot of the name, in lower case: `seg.png` of `a/000.seg.png`."""
        return self.name.rpartition("/")[2].partition(".")[2].lower()

    @property
    def key(self) -> str:
        """The key of a sample, which its files share: the name up to the first dot, with its folders."""
        return self.name[: len(self.name) - len(self.ending)]

    def read(self) -> bytes | CorruptImageError:
        """Reads the content, or says why it cannot be read."""
        try:
            if self.offset + self.size > self.archive.stat().st_size:
                return CorruptImageError("the archive ends inside it")
            with self.archive.open("rb") as file:
                file.seek(self.offset)
                return file.read(self.size)
        except OSError as error:
            return CorruptImageError(reason(error))


@dataclass(frozen=True)
class Sample:
    """An image, and the file with its class where there is one."""

    image: TarMember
    label: TarMember | None


class TarCollection:
    """One `.tar`, whose folders may be splits; or a folder of shards, whose names mention splits."""

    def __init__(self, root: Path, column: str | None = None) -> None:
        self.name, self._column = root.stem if root.is_file() else root.name, column
        self._files: dict[str, list[Path]] = {}
        self._inside: dict[str, list[Sample]] = {}  # the samples of a single archive by split
        self._notes: tuple[str, ...] = ()
        if root.is_file():
            samples, self._left_out = _samples([root], column)
            last = {sample.image.name: sample for sample in samples}  # of a name that comes twice, as tar unpacks it
            splits, self._notes = by_folder(last)
            self._inside = {split: [last[name] for name in names] for split, names in splits.items()}
            self._files = {split: [root] for split in self._inside}
        else:
            for path in files_in_order(root, ".tar"):
                self._files.setdefault(split_of_file(path.relative_to(root)), []).append(path)
        self.splits: tuple[str, ...] = ordered(self._files)

    def source(self, split: str) -> ArchiveSource:
        files = self._files[split]
        samples, left_out = (self._inside[split], self._left_out) if self._inside else _samples(files, self._column)
        images, labeled = [sample.image for sample in samples], any(sample.label for sample in samples)
        names, shards = [image.name for image in images], dict(Counter(image.archive.name for image in images))
        classes = f"classes by .{_CLASS}" if labeled else classes_by(folder_classes(names), "folder")
        found = Found(
            items=len(images),
            parts=shards if len(shards) > 1 else by_first_folder(names),
            role=joined(role(split, self.splits, "folder name" if self._inside else "file name"), classes),
            left_out=left_out,
            notes=self._notes,
        )
        identity = (contents_of_files(files), split, self._column)
        name = f"{self.name}/{split}" if len(self.splits) > 1 else self.name
        return ArchiveSource(images, name, identity, partial(_labels, samples), found)


def _labels(samples: Sequence[Sample]) -> Labels:
    """Reads the classes of samples; without any, folders are classes."""
    if not any(sample.label for sample in samples):
        return folder_classes([sample.image.name for sample in samples])
    texts = []
    for sample in samples:
        content = sample.label.read() if sample.label else CorruptImageError("there is no such file")
        if isinstance(content, CorruptImageError):
            name = f"{sample.image.archive}/{sample.image.key}{_CLASS}"
            raise UsageError(f"cannot read {name} ({content}): give each sample a class, or none.")
        texts.append(content.decode("utf-8", "replace"))
    return {ONLY: text_label(texts)}


def _samples(files: Sequence[Path], column: str | None) -> tuple[list[Sample], dict[str, int]]:
    """Lists the samples of archives in order, and counts the files that belong to none by suffix."""
    samples: list[Sample] = []
    others: list[str] = []
    cut = 0
    for path in files:
        members, complete = _members(path)
        cut += not complete
        for _, group in groupby(members, lambda member: member.key):
            found, rest = _sample(list(group), column)
            samples += found
            others += rest
    if not samples:
        raise no_images(files[0] if len(files) == 1 else files[0].parent, others)
    return samples, kinds(others) | ({"archive that is cut off or damaged": cut} if cut else {})


def _sample(members: Sequence[TarMember], column: str | None) -> tuple[list[Sample], list[str]]:
    """Finds the image among files of one key; returns it as a list, with the names of files without an image."""
    images = {member.ending: member for member in members if is_image(member.name)}
    label = next((member for member in members if member.ending == _CLASS), None)
    if column is not None and len(images) > 1:
        images = {ending: member for ending, member in images.items() if ending == column}
    if len(images) > 1 and not all(re.fullmatch(r"\d+\.\w+", ending) for ending in images):
        where = f"{members[0].archive}/{members[0].key}"
        raise UsageError(f"{where} has several images: give data.column one of {', '.join(images)}.")
    names = [] if images else [member.name for member in members]
    return [Sample(image, label) for image in images.values()], names  # several are a numbered series: cat.0.jpg


def _members(path: Path) -> tuple[list[TarMember], bool]:
    """Lists the files of an archive in order, and whether it has its end."""
    found: list[TarMember] = []
    with intact(path), tarfile.open(path, "r:") as archive:
        for info in _until_damage(archive):
            if info.isreg() and not info.issparse() and is_shown(info.name):
                found.append(TarMember(path, info.name.removeprefix("./"), info.offset_data, info.size))
        with path.open("rb") as file:
            file.seek(archive.offset)
            return found, file.read(_BLOCK) == bytes(_BLOCK)


def _until_damage(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yields the entries before the place where an archive is damaged; the last may lack a part of its content."""
    started = False
    while True:
        try:
            info = archive.next()
        except tarfile.ReadError:
            if not started:
                raise
            return
        if info is None:
            return
        started = True
        yield info
