"""Decoded images on disk: `<root>/<key>/images.npy`, uint8 [n,H,W,C], memory-mapped, with `about.json` beside it.

Channels come last, as in image files and as fast convolutions take them: neither decoding nor training transposes.

A cache folder is written under another name and renamed when it is complete, by one process at a time: the others wait
and read it. Nothing deletes old caches; the root folder may be deleted at any time.
"""

import json
import os
import shutil
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from genzoo.errors import UsageError
from genzoo.files import replacing

PIXELS, ABOUT = "images.npy", "about.json"


class NoCacheError(UsageError, FileNotFoundError):
    """There is no folder for caches."""


@dataclass(frozen=True)
class Cached:
    """A finished cache."""

    images: np.ndarray  # uint8 [n,H,W,C], memory-mapped, read-only
    skipped: dict[int, str]  # unreadable items: index in the source -> what and why


def root() -> Path:
    """The folder `pixels` in `$GENZOO_CACHE`, else in `$XDG_CACHE_HOME/genzoo`, else in `~/.cache/genzoo`.

    Raises:
        NoCacheError: none of these is set, and the user has no home folder, as in some containers.
    """
    own = os.environ.get("GENZOO_CACHE")
    try:
        base = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genzoo"
        return base.expanduser() / "pixels"
    except RuntimeError:
        raise NoCacheError("there is no home folder for caches: set GENZOO_CACHE to a folder") from None


def fits_on_disk(nbytes: int) -> bool:
    """Whether so many bytes take at most half of the free disk under the root. Raises OSError where there is none."""
    folder = root()
    while not folder.exists():
        folder = folder.parent
    return nbytes <= shutil.disk_usage(folder).free / 2


def load(key: str) -> Cached | None:
    """Opens a finished cache, or returns None. Raises UsageError for a damaged one."""
    try:
        folder = root() / key
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        skipped = {int(index): text for index, text in about["skipped"].items()}
        return Cached(np.load(folder / PIXELS, mmap_mode="r"), skipped)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, EOFError) as error:
        raise UsageError(f"the cache {folder} is damaged ({error}): delete the folder, and it is rebuilt.") from error


def build(
    key: str, origin: str, shape: tuple[int, int, int], chunks: Iterable[np.ndarray], skipped: dict[int, str]
) -> Cached:
    """Writes a cache, unless another process has done so in the meantime.

    Args:
        origin: where the images come from, for a reader of `about.json`.
        shape: (H,W,C) of each image.
        chunks: the images in order, uint8 [k,H,W,C] each; consumed once.
        skipped: filled by whoever yields the chunks; read when they are through.

    Raises:
        OSError: the folder cannot be written or is full.
    """
    base = root()
    base.mkdir(parents=True, exist_ok=True)
    lock = FileLock(base / f"{key}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        warnings.warn(f"another process is decoding {origin}; waiting for it", stacklevel=2)
        lock.acquire()
    try:
        return load(key) or _write(base, key, origin, shape, chunks, skipped)
    finally:
        lock.release()


def _write(
    base: Path,
    key: str,
    origin: str,
    shape: tuple[int, int, int],
    chunks: Iterable[np.ndarray],
    skipped: dict[int, str],
) -> Cached:
    count = 0
    with replacing(base / key) as temporary:
        # Ordinary writes, not a memory map: on a full disk they raise, where a map would kill the process.
        with open(temporary / PIXELS, "wb") as file:
            _header(file, count, shape)
            for chunk in chunks:
                file.write(np.ascontiguousarray(chunk).data)
                count += len(chunk)
            file.seek(0)
            _header(file, count, shape)  # numpy leaves room for the first axis to grow, so the length stays the same
        about = {"origin": origin, "count": count, "shape": shape, "skipped": skipped}
        (temporary / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
    finished = load(key)
    assert finished is not None
    return finished


def _header(file: BinaryIO, count: int, shape: tuple[int, int, int]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})
