"""Data by its content: names relative to where it is, sizes, and hashes of a sample; neither paths nor times."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genzoo.dataspec import last_name

SAMPLED = 32  # files whose content is hashed, spread evenly, and blocks of a long file
BLOCK_BYTES = 64 * 1024
FEW_FILES, FEW_BYTES = 1024, 32 * 1024**2  # sets that are hashed as a whole
SHOWN = 3  # files named in a message
FEWEST_CHOOSE = 32  # held-out items; a distance of fewer says more about them than about the samples

File = tuple[str, int, int]  # relative name, bytes, modification time in ns


def stamp(path: str | Path, name: str) -> File:
    """Describes a file without reading it; one that is not there, which is named when it is read, has no bytes."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # the latter for names that no file can have
        return name, 0, 0
    return name, status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class Contents:
    """The files of one split. Its repr is equal for every copy of them."""

    digest: str
    files: Mapping[str, tuple[int, str]] = field(repr=False)  # name -> bytes, and a hash or ""; in the items' order
    modified: int = field(repr=False)  # newest modification time of files that are not hashed as a whole, in ns; 0: all


def contents_of(root: Path, files: Sequence[File]) -> Contents:
    """Identifies files under a folder. Reads all of a small set, and 32 files, spread evenly, of a larger one."""
    whole = len(files) <= FEW_FILES and sum(size for _, size, _ in files) <= FEW_BYTES
    step = 1 if whole else max(1, len(files) / SAMPLED)
    sampled = {int(i * step) for i in range(min(len(files), FEW_FILES if whole else SAMPLED))}
    found = {
        name: (size, _hash(root / name, size, whole) if i in sampled else "") for i, (name, size, _) in enumerate(files)
    }
    modified = 0 if whole else max(time for _, _, time in files)
    return Contents(hashlib.sha256(repr(list(found.items())).encode()).hexdigest()[:16], found, modified)


def contents_of_files(paths: Sequence[Path]) -> Contents:
    """Identifies whole files, such as those of a table. The name of a single one does not count."""
    root = Path(os.path.commonpath([path.parent for path in paths]))
    names = [path.relative_to(root).as_posix() for path in paths] if len(paths) > 1 else [""]
    return contents_of(root if len(paths) > 1 else paths[0], list(map(stamp, paths, names)))


def _hash(path: Path, size: int, whole: bool) -> str:
    """Hashes a file, or evenly spread blocks of a long one; "" where it cannot be read, which decoding reports."""
    found = hashlib.blake2b(digest_size=8)
    with suppress(OSError), path.open("rb") as file:
        if whole or size <= SAMPLED * BLOCK_BYTES:
            found.update(file.read())
        else:
            for i in range(SAMPLED):
                file.seek(i * (size - BLOCK_BYTES) // (SAMPLED - 1))
                found.update(file.read(BLOCK_BYTES))
        return found.hexdigest()
    return ""


def contents_in(identity: object) -> Contents | None:
    """Finds the contents within a source's identity; None where it is not made of files."""
    if isinstance(identity, tuple):
        return next((found for part in identity if (found := contents_in(part)) is not None), None)
    return identity if isinstance(identity, Contents) else None


def content_key(name: str, identity: object) -> tuple[object, ...]:
    """What a fingerprint of a source's content is made of: files count by their content, wherever they lie and whatever
    their folder is called; anything else has its name as well.
    """
    return (identity,) if contents_in(identity) is not None else (name, identity)


def file_changes(before: Mapping[str, Sequence[Any]], now: Mapping[str, Sequence[Any]]) -> str:
    """Lists what differs between two sets of files by name: `2 files added (a.png, b.png), 1 removed (c.png)`."""
    if "" in before or "" in now:  # a single file has no name
        return ""
    both = [name for name in before if name in now]
    counted = {
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
        "changed": [name for name in both if _differ(before[name], now[name])],
    }
    parts = [f"{len(names):,} {what} ({_shown(names)})" for what, names in counted.items() if names]
    return f"files: {', '.join(parts)}" if parts else ""


def _differ(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return a[0] != b[0] or bool(a[1] and b[1] and a[1] != b[1])


def _shown(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """What a configuration's data section leads to, here and now.

    Attributes:
        name: as it was typed.
        place: the resolved path; None for what has a short name or is on the hub.
        identity: of the content of the split, wherever it lies; "" where there is no place.
        items: of the split; None where there is no place, which is not opened for this.
        held_out: how many of them are held out by `data.holdout`.
        scored: the split that `_test` protocols score; None = there is none.
        chooses: the split that snapshots are scored on, and `best/` is chosen by; None = the training split.
        files: as in `Contents`.
    """

    name: str
    place: str | None = None
    identity: str = ""
    items: int | None = None
    held_out: int = 0
    scored: str | None = None
    chooses: str | None = None
    files: Mapping[str, Sequence[Any]] = field(default_factory=dict, repr=False)

    @property
    def where(self) -> str:
        """The name as typed, and the path where that is another text."""
        return self.name if self.place in (None, self.name) else f"{self.name} ({self.place})"

    def note(self) -> str:
        """Says what is held out of a user's own data; "" where the data has splits of its own."""
        name = last_name(self.name)
        if self.held_out:
            also = "" if self.chooses else f", too few to choose best/ by (fewer than {FEWEST_CHOOSE})"
            return (
                f"{self.held_out:,} of {self.items:,} items of {name} are held out for scores{also}; "
                "data.holdout=0 trains on all"
            )
        if self.items is not None and self.scored is None:
            return f"nothing of {name} is held out ({self.items:,} items): snapshots are compared with training data"
        return ""
