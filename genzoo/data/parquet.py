"""Parquet files: encoded images in a column (as the hub stores them), or numbers in a column of lists."""

import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genzoo.data.arrays import ArraySource, open_array
from genzoo.data.folder import SPLITS, files_under, stamp
from genzoo.data.labels import Labels, class_label, only_or_all
from genzoo.data.sets import ArraySet
from genzoo.data.sources import Source
from genzoo.dataspec import last_name
from genzoo.errors import UsageError

_HELD_BYTES = 256 * 1024**2  # encoded row groups that each process keeps, for batches that are not cached


class ParquetCollection:
    """One file, or the files under a folder; their names or folders name splits: train-00000-of-00002.parquet."""

    def __init__(self, root: Path, column: str | None) -> None:
        self.name, self._column = root.stem if root.is_file() else last_name(str(root)), column
        files = [root] if root.is_file() else sorted(files_under(root, {".parquet"}))
        self._files: dict[str, list[Path]] = {}
        for path in files:
            self._files.setdefault(_split_of(path.relative_to(root)) if root.is_dir() else "train", []).append(path)
        self.splits: tuple[str, ...] = tuple(sorted(self._files, key=_rank))

    def source(self, split: str) -> "ParquetSource | ArraySource | ArraySet":
        name = f"{self.name}/{split}" if len(self.splits) > 1 else self.name
        return open_parquet(self._files[split], name, self._column)


class ParquetSource(Source):
    """The images of one column over several files, in order."""

    def __init__(self, files: Sequence[Path], name: str, column: str) -> None:
        self.name, self.identity = name, (column, _stamps(files))
        self._files, self._column = list(files), column
        self._groups: list[tuple[Path, int, int]] = []  # file, number of a row group, its first row in the file
        starts = [0]  # first row of each row group in the split
        for path in files:
            with _intact(path), pq.ParquetFile(path) as file:
                meta, columns = file.metadata, file.schema_arrow.names
            if column not in columns:
                has = f"{path} has no column {column!r}, which {files[0]} has"
                raise UsageError(f"{has}: the files of a split must be alike.")
            first = starts[-1]
            for number in range(meta.num_row_groups):
                self._groups.append((path, number, starts[-1] - first))
                starts.append(starts[-1] + meta.row_group(number).num_rows)
        self._starts, self.size = np.array(starts[:-1]), starts[-1]
        self._held: OrderedDict[int, pa.ChunkedArray] = OrderedDict()  # the row groups read last
        if not self.size:
            raise UsageError(f"{name} has no rows: {', '.join(map(str, files))}.")

    def fetch(self, indices: Sequence[int]) -> list[bytes | Path]:
        return [self._cell(*self._locate(index)) for index in indices]

    def where(self, index: int) -> str:
        group, row = self._locate(index)
        path, _, first = self._groups[group]
        return f"{path} row {first + row}"

    def labels(self) -> Labels:
        return read_labels(self._files)

    def headers(self, n: int) -> list[bytes | Path]:
        return self.fetch(range(min(n, self.size)))  # the first ones, which are in few row groups

    def _locate(self, index: int) -> tuple[int, int]:
        """Finds an item's row group and its row there."""
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        return group, index - int(self._starts[group])

    def _cell(self, group: int, row: int) -> bytes | Path:
        path, number, _ = self._groups[group]
        if group not in self._held:
            with _intact(path), pq.ParquetFile(path) as file:
                self._held[group] = file.read_row_group(number, columns=[self._column]).column(0)
            while len(self._held) > 1 and sum(column.nbytes for column in self._held.values()) > _HELD_BYTES:
                self._held.popitem(last=False)
        return encoded(self._held[group][row].as_py(), path.parent)


def encoded(value: Mapping | bytes | None, folder: Path = Path()) -> bytes | Path:
    """Finds the image in a cell, bytes or {"bytes", "path"}; the path counts where there are no bytes. b"" if empty."""
    if isinstance(value, Mapping):
        content, path = value.get("bytes"), value.get("path")
        return content if content is not None else folder / path if path else b""
    return value if value is not None else b""


def open_parquet(files: Sequence[Path], name: str, column: str | None) -> ParquetSource | ArraySource | ArraySet:
    """Opens one split: encoded images, or vectors and images as lists of numbers.

    Raises:
        UsageError: no such column, no column of images or several, damaged files, numbers that `open_array` refuses.
    """
    with _intact(files[0]):
        schema = pq.read_schema(files[0])
    column = find_column(schema, name, column)
    if not is_list(schema.field(column).type):
        return ParquetSource(files, name, column)
    array = to_array(pq.read_table(list(files), columns=[column]).column(0), name)
    return open_array(array, name, (column, _stamps(files)), read_labels(files))


def to_array(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Turns a column of (nested) lists of numbers into one array [n, ...].

    Raises:
        UsageError: rows whose shapes differ, missing numbers, no rows.
    """
    if not len(column):
        raise UsageError(f"{name} has no rows.")
    shape, values = [len(column)], column.combine_chunks()
    while is_list(values.type):
        lengths = np.asarray(pc.call_function("list_value_length", [values]).fill_null(-1))
        if (lengths != lengths[0]).any() or lengths[0] < 0:
            row = int(np.argmax(lengths != lengths[0])) * shape[0] // len(lengths)
            wrong = f"item {row} of {name} has another shape than those before it, or is empty"
            raise UsageError(f"{wrong}: bring all to one shape.")
        shape.append(int(lengths[0]))
        values = values.flatten()
    if values.null_count:
        row = int(np.argmax(np.asarray(values.is_null()))) * shape[0] // len(values)
        raise UsageError(f"item {row} of {name} lacks a number: remove or repair it.")
    return values.to_numpy(zero_copy_only=False).reshape(shape)


def read_labels(files: Sequence[Path]) -> Labels:
    """Reads the class columns of one split."""
    columns = label_columns(pq.read_schema(files[0]))
    table = pq.read_table(list(files), columns=list(columns))
    return table_labels({name: (table.column(name), names) for name, names in columns.items()})


def table_labels(columns: Mapping[str, tuple[pa.ChunkedArray, Sequence[str] | None]]) -> Labels:
    """Makes labels of columns of class numbers and the names of their classes; a missing number becomes -1."""
    return only_or_all(
        {name: class_label(pc.fill_null(column, -1).to_numpy(), names) for name, (column, names) in columns.items()}
    )


def label_columns(schema: pa.Schema) -> dict[str, Sequence[str] | None]:
    """Finds the columns that `datasets` marked as classes, with the classes' names; else an integer column `label`."""
    marked = {name: kind.get("names") for name, kind in _features(schema).items() if kind.get("_type") == "ClassLabel"}
    if marked:
        return marked
    return {field.name: None for field in schema if field.name == "label" and pa.types.is_integer(field.type)}


def _features(schema: pa.Schema) -> dict[str, dict]:
    """The column types that `datasets` keeps in the file's metadata; empty for a file by another writer."""
    return json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})


def find_column(schema: pa.Schema, name: str, column: str | None) -> str:
    """Finds the only column of images, else of numbers, or checks the one asked for.

    Raises:
        UsageError: no such column, or not exactly one that may be meant.
    """
    if column is not None:
        if column not in schema.names:
            raise UsageError(f"{name} has no column {column!r}: give data.column one of {', '.join(schema.names)}.")
        kind = schema.field(column).type
        if not _is_encoded(kind) and not is_list(kind):
            raise UsageError(f"column {column!r} of {name} holds {kind} values, not images: give data.column another.")
        return column
    images = [field.name for field in schema if _is_encoded(field.type)]
    found = images or [field.name for field in schema if is_list(field.type)]
    if len(found) != 1:
        what = "several columns that may be it" if found else "no column of images"
        raise UsageError(f"{name} has {what}: give data.column one of {', '.join(found or schema.names)}.")
    return found[0]


def _is_encoded(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _split_of(path: Path) -> str:
    """Finds the split in a file's name: data/train-00000-of-00002.parquet, train/0000.parquet, cifar10_test.parquet.

    A name without one means train.
    """
    if sharded := re.fullmatch(r"(.+)-\d{5}-of-\d{5}.*", path.stem):
        return sharded[1]
    words = [word for part in (*path.parent.parts, path.stem) for word in re.split(r"[-_.]", part)]
    return next((word for word in reversed(words) if word in SPLITS), "train")


def _rank(split: str) -> tuple[int, str]:
    return SPLITS.index(split) if split in SPLITS else len(SPLITS), split


def _stamps(files: Sequence[Path]) -> list[tuple[str, int, int]]:
    return [stamp(path, str(path.resolve())) for path in files]


@contextmanager
def _intact(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path} is damaged or not a parquet file ({error}): copy it again.") from error
