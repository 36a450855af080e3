"""Arrays in `.npy` files and in the members of `.npz` files.

A header is checked against the size of its file before any memory is taken, and Python objects are never read.
"""

import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.lib import format as npy

from genzoo.errors import UsageError

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_DEFLATE = 1032  # most that its compression can save, as a ratio
# What damaged members raise, and numpy's parser of a header's text.
_BROKEN = (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error)
_UNPARSED = (SyntaxError, MemoryError, TypeError, tokenize.TokenError)


@dataclass(frozen=True)
class Stored:
    """An array in a file: what its header says, and how it is read."""

    where: str  # for messages
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    def load(self) -> np.ndarray:
        """Reads the array, memory-mapped where that is possible.

        Raises:
            UsageError: it is damaged or holds Python objects.
        """
        if self.dtype.hasobject:
            raise UsageError(
                f"{self.where} holds Python objects (a pickle), which genzoo never reads: "
                "save uint8 [n,H,W,C] with numpy.save."
            )
        with _intact(self.where):
            return self.read() if math.prod(self.shape) else np.empty(self.shape, self.dtype)


def open_npy(path: Path) -> Stored:
    """Reads the header of a `.npy` file.

    Raises:
        UsageError: no such array, or a header that claims more than the file has.
    """
    with _intact(path), path.open("rb") as file:
        if file.read(1) == b"\x80":
            raise UsageError(f"{path} holds a pickle, which genzoo never reads: save uint8 [n,H,W,C] with numpy.save.")
        file.seek(0)
        shape, dtype = _header(file, path.stat().st_size)
    return Stored(str(path), shape, dtype, lambda: np.load(path, mmap_mode="r", allow_pickle=False))


def open_npz(path: Path) -> dict[str, Stored]:
    """Reads the headers of all arrays in a `.npz` file, by name.

    Raises:
        UsageError: it is damaged, holds no array, or a header claims more than the file has.
    """
    with _intact(path), zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        arrays = {info.filename.removesuffix(".npy"): _member(path, archive, info) for info in members}
    if not arrays:
        raise UsageError(f"{path} holds no array: save one with numpy.savez.")
    return arrays


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Stored:
    most = info.compress_size if info.compress_type == zipfile.ZIP_STORED else _DEFLATE * (info.compress_size + 1)
    if info.file_size > most or info.compress_size > path.stat().st_size:
        raise ValueError(f"{info.filename} claims {info.file_size:,} bytes, more than the file can hold")
    with archive.open(info) as file:
        shape, dtype = _header(cast(BinaryIO, file), info.file_size)

    def read() -> np.ndarray:
        with zipfile.ZipFile(path) as archive, archive.open(info) as file:
            return npy.read_array(file, allow_pickle=False)

    return Stored(f"{path}[{info.filename.removesuffix('.npy')}]", shape, dtype, read)


def _header(file: BinaryIO, size: int) -> tuple[tuple[int, ...], np.dtype]:
    """Reads shape and type at the start of a file of `size` bytes."""
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"its format has the version {version}")
    shape, _, dtype = _HEADERS[version](file)
    claimed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if not dtype.hasobject and (min(shape, default=0) < 0 or claimed > there):
        raise ValueError(f"its header claims the shape {list(shape)}, {claimed:,} bytes, and {there:,} follow")
    return shape, dtype


@contextmanager
def _intact(where: object) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except (*_BROKEN, *_UNPARSED) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{where} cannot be read ({reason}): save it with numpy.save or numpy.savez.") from error
