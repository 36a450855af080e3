"""What lies in the cache folder: decoded images, features and classifiers, as `genzoo cache` lists them."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from genzoo.data import cache
from genzoo.files import digest, restore_all

Kind = Literal["pixels", "features", "classifier"]
FOLDERS: dict[str, Kind] = {"pixels": "pixels", "features": "features", "classifiers": "classifier"}
FILES: dict[Kind, str] = {"features": "features.safetensors", "classifier": "classifier.safetensors"}


@dataclass(frozen=True)
class Entry:
    """One cache."""

    folder: Path
    kind: Kind
    about: Mapping[str, Any]  # of about.json; empty where it cannot be read
    nbytes: int
    built: float  # in seconds since the epoch
    used: float  # for the last time

    @property
    def key(self) -> str:
        return self.folder.name

    @property
    def set_aside(self) -> bool:
        """Whether it was damaged, and is kept to be looked at."""
        return self.key.endswith(cache.DAMAGED)

    @property
    def origin(self) -> str:
        """The data that it was made of, at which size."""
        shape = self.about.get("shape") or ()
        size = "x".join(map(str, shape))
        text = str(self.about.get("origin") or self.about.get("data") or "unknown")
        return f"{text} {size}".strip() + " (damaged)" * self.set_aside

    @property
    def items(self) -> str:
        count = self.about.get("count", self.about.get("n"))
        return f"{count:,}" if isinstance(count, int) else ""

    def damage(self) -> str:
        """Says what is wrong with it; "" if nothing is. Reads all of it."""
        if self.kind == "pixels":
            return cache.damage(self.folder, thorough=True)
        try:
            intact = digest(self.folder / FILES[self.kind]) == self.about.get("digest")
        except OSError as error:
            return str(error)
        return "" if intact else "its content is not what was written"

    def remove(self) -> None:
        """Deletes it. A process that has mapped it goes on reading."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.with_name(f"{self.folder.name}.lock").unlink(missing_ok=True)


def base() -> Path:
    """The folder that all caches are in."""
    return cache.root().parent


def remove_unfinished() -> None:
    """Deletes what killed processes have left."""
    for name in FOLDERS:
        restore_all(base() / name)


def entries() -> list[Entry]:
    """Lists all caches, the one used last first."""
    return sorted(_entries(), key=lambda entry: -entry.used)


def _entries() -> Iterator[Entry]:
    for name, kind in FOLDERS.items():
        parent = base() / name
        for folder in parent.iterdir() if parent.is_dir() else ():
            if folder.is_dir() and not folder.name.startswith("."):  # which is being written
                yield _entry(folder, kind)


def _entry(folder: Path, kind: Kind) -> Entry:
    about: Any = {}
    with suppress(OSError, ValueError, RecursionError):
        about = json.loads((folder / cache.ABOUT).read_text(encoding="utf-8"))
    about = about if isinstance(about, dict) else {}
    stats = [path.stat() for path in folder.iterdir() if path.is_file()]
    times = [stat.st_mtime for stat in stats] or [folder.stat().st_mtime]
    built = about.get("built")
    return Entry(
        folder,
        kind,
        about,
        sum(stat.st_size for stat in stats),
        built if isinstance(built, int | float) else min(times),
        max(times),
    )
