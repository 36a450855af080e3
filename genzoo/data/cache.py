"""Decoded images on disk: `<root>/<key>/images.npy`, uint8 [n,H,W,C], memory-mapped, with `about.json` beside it.

Channels come last, as in image files and as fast convolutions take them: neither decoding nor training transposes.

A cache folder is written under another name and renamed when it is complete, by one process at a time: the others wait
and read it. `about.json` says what the file must be; a damaged cache is set aside as `<key>.damaged` and rebuilt.
`genzoo cache` lists and clears caches; the root folder may be deleted at any time.
"""

import json
import os
import shutil
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from xxhash import xxh3_128

from genzoo.errors import UsageError
from genzoo.files import as_written, replacing, sealed

PIXELS, ABOUT = "images.npy", "about.json"
DAMAGED = ".damaged"  # ending of a cache that is set aside
DIGESTED_BYTES = 64 * 1024**2  # of a cache whose digest is checked whenever it is opened
CHUNK = 4 * 1024**2  # bytes read at once for a digest


class NoCacheError(UsageError, FileNotFoundError):
    """There is no folder for caches."""


@dataclass(frozen=True)
class Cached:
    """A finished cache."""

    images: np.ndarray  # uint8 [n,H,W,C], memory-mapped, read-only
    skipped: dict[int, str]  # unreadable items: index in the source -> why
    digest: str = ""  # of the pixels


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


def load(key: str, items: int, modified: int = 0) -> Cached | None:
    """Opens a finished cache; None if there is none, it is damaged, or it was built from older files.

    Args:
        key: of the cache.
        items: of the source, the unreadable ones included.
        modified: when the files were last modified whose content is not part of the key, in ns.
    """
    try:
        folder = root() / key
    except NoCacheError:
        return None
    if not (folder / ABOUT).exists() or damage(folder, items):
        return None
    about = _about(folder)
    if modified > about["modified"]:
        return None
    skipped = {int(index): text for index, text in about["skipped"].items()}
    touch(folder / ABOUT)  # the time of its last use
    return Cached(np.load(folder / PIXELS, mmap_mode="r"), skipped, about["digest"])


def damage(folder: Path, items: int | None = None, thorough: bool = False) -> str:
    """Says what is wrong with a cache, compared with its `about.json`; "" if nothing is.

    Type, shape and length are compared always, the digest of the pixels if the file is small.

    Args:
        folder: of the cache.
        items: that its source has, if known.
        thorough: compare the digest of a large file, too.
    """
    try:
        about = _about(folder)
        if items is not None and (found := about["count"] + len(about["skipped"])) != items:
            return f"it is of {found:,} items, and the data has {items:,}"
        with (folder / PIXELS).open("rb") as file:
            shape, fortran, dtype = _read_header(file)
            if (list(shape), fortran, dtype) != ([about["count"], *about["shape"]], False, np.dtype(np.uint8)):
                order = " in Fortran order" * fortran
                return f"its header says {dtype} {list(shape)}{order}, not uint8 {[about['count'], *about['shape']]}"
            if (length := (folder / PIXELS).stat().st_size) != about["bytes"]:
                return f"it has {length:,} bytes, not {about['bytes']:,}"
            if (thorough or length <= DIGESTED_BYTES) and _digest(file) != about["digest"]:
                return "its pixels are not those that were decoded"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def build(
    key: str,
    origin: str,
    items: int,
    shape: tuple[int, int, int],
    chunks: Iterable[np.ndarray],
    skipped: dict[int, str],
    modified: int = 0,
) -> Cached:
    """Writes a cache, unless another process has done so in the meantime. One that is damaged is set aside.

    Args:
        key: of the cache.
        origin: where the images come from, for a reader of `about.json`.
        items: see `load`.
        shape: (H,W,C) of each image.
        chunks: the images in order, uint8 [k,H,W,C] each; consumed once.
        skipped: filled by whoever yields the chunks; read when they are through.
        modified: see `load`.

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
        if found := load(key, items, modified):
            return found
        _set_aside(base / key, origin, items)
        _write(base / key, origin, shape, chunks, skipped, modified)
    finally:
        lock.release()
    written = load(key, items, modified)
    assert written is not None
    return written


def _set_aside(folder: Path, origin: str, items: int) -> None:
    """Renames a damaged cache, so that it can be looked at; one that is only out of date is replaced."""
    if not folder.exists() or not (reason := damage(folder, items)):
        return
    aside = folder.with_name(folder.name + DAMAGED)
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    warnings.warn(f"the cache of {origin} is damaged ({reason}): it is kept as {aside}, and rebuilt", stacklevel=3)


def _write(
    folder: Path,
    origin: str,
    shape: tuple[int, int, int],
    chunks: Iterable[np.ndarray],
    skipped: dict[int, str],
    modified: int,
) -> None:
    count, found = 0, xxh3_128()
    with replacing(folder) as temporary:
        # Ordinary writes, not a memory map: on a full disk they raise, where a map would kill the process.
        with open(temporary / PIXELS, "wb") as file:
            _header(file, count, shape)
            for chunk in chunks:
                pixels = np.ascontiguousarray(chunk).reshape(-1).data
                file.write(pixels)
                found.update(pixels)
                count += len(chunk)
            length = file.tell()
            file.seek(0)
            _header(file, count, shape)  # numpy leaves room for the first axis to grow, so the length stays the same
        about = {
            "origin": origin,
            "count": count,
            "shape": shape,
            "dtype": "uint8",
            "bytes": length,
            "digest": found.hexdigest(),
            "modified": modified,
            "built": time.time(),
            "skipped": skipped,
        }
        (temporary / ABOUT).write_text(json.dumps(sealed(about), indent=1), encoding="utf-8")


def _about(folder: Path) -> dict[str, Any]:
    """Reads about.json. Raises ValueError or KeyError where it is not what this version writes."""
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    kinds = {"skipped": dict, "digest": str, "modified": int, "count": int}
    if not isinstance(about, dict) or not all(isinstance(about[key], kind) for key, kind in kinds.items()):
        raise ValueError(f"{ABOUT} is not the record of a cache")
    if not as_written(about):
        raise ValueError(f"{ABOUT} is not what was written")
    return about


def _header(file: BinaryIO, count: int, shape: tuple[int, int, int]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("it is of another version of the format")
    return np.lib.format.read_array_header_1_0(file)


def _digest(file: BufferedReader) -> str:
    """Hashes the rest of a file."""
    found, buffer = xxh3_128(), memoryview(bytearray(CHUNK))
    while size := file.readinto(buffer):
        found.update(buffer[:size])
    return found.hexdigest()


def touch(path: Path) -> None:
    """Records that a cache was used."""
    try:
        os.utime(path)
    except OSError:  # another user's cache, or a read-only disk
        pass
