"""Parquet files: encoded images in a column (as the hub stores them), or numbers in a column of lists."""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genzoo.data.arrays import ArraySource, array_source
from genzoo.data.base import ArraySet, Labels
from genzoo.data.folder import SPLITS
from genzoo.errors import UsageError

_HELD_BYTES = 1024**3  # encoded row groups kept in memory, for batches that are not cached


class ParquetFiles:
    """Collection: one file, or the files under a folder; a file's split is in its name or its folder's (train-00000-of-00002.parquet)."""

    def __init__(self, root: Path, column: str | None) -> None:
        self.name, self._column = root.stem if root.is_file() else root.name, column
        files = [root] if root.is_file() else sorted(path for path in root.rglob("*.parquet") if not path.name.startswith("."))
        self._files: dict[str, list[Path]] = {}
        for path in files:
            self._files.setdefault(_split_of(path.relative_to(root)) if root.is_dir() else "train", []).append(path)
        self.splits = tuple(sorted(self._files, key=SPLITS.index))

    def source(self, split: str) -> "ParquetSource | ArraySource | ArraySet":
        name = f"{self.name}/{split}" if len(self.splits) > 1 else self.name
        return parquet_source(self._files[split], name, self._column)


class ParquetSource:
    """The images of one column over several files, in order."""

    def __init__(self, files: Sequence[Path], name: str, column: str) -> None:
        self.name, self._column, self._files = name, column, list(files)
        groups = []  # (file, row group, rows)
        for number, path in enumerate(files):
            meta = pq.read_metadata(path)
            groups += [(number, g, meta.row_group(g).num_rows) for g in range(meta.num_row_groups)]
        self._groups = [(number, g) for number, g, _ in groups]
        self._ends = np.cumsum([rows for *_, rows in groups])
        self._held: OrderedDict[int, tuple[int, list]] = OrderedDict()
        self.identity = (column, [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in files])
        self.size = int(self._ends[-1]) if groups else 0
        if not self.size:
            raise UsageError(f"{name} has no rows: {', '.join(map(str, files))}.")

    def fetch(self, indices: Sequence[int]) -> list[bytes | Path]:
        found = np.searchsorted(self._ends, indices, side="right")
        return [self._row(int(group), int(index)) for group, index in zip(found, indices, strict=True)]

    def where(self, index: int) -> str:
        group = int(np.searchsorted(self._ends, index, side="right"))
        number, _ = self._groups[group]
        first = next(g for g, (n, _) in enumerate(self._groups) if n == number)
        return f"{self._files[number]} row {index - (int(self._ends[first - 1]) if first else 0)}"

    def labels(self) -> Labels:
        return read_labels(self._files)

    def _row(self, group: int, index: int) -> bytes | Path:
        value = self._rows(group)[index - int(self._ends[group])]  # negative: counted from the group's end
        path = self._files[self._groups[group][0]]
        return encoded(value, path.parent)

    def _rows(self, group: int) -> list:
        """Reads a row group's images, or finds it among those read last."""
        if group in self._held:
            self._held.move_to_end(group)
        else:
            number, row_group = self._groups[group]
            try:
                table = pq.ParquetFile(self._files[number]).read_row_group(row_group, columns=[self._column])
            except (pa.ArrowException, OSError) as error:
                raise UsageError(f"{self._files[number]} is damaged ({error}): copy it again.") from error
            self._held[group] = (table.nbytes, table.column(0).to_pylist())
            while len(self._held) > 1 and sum(nbytes for nbytes, _ in self._held.values()) > _HELD_BYTES:
                self._held.popitem(last=False)
        return self._held[group][1]


def encoded(value: Mapping | bytes | None, folder: Path = Path()) -> bytes | Path:
    """Finds the image in a cell: bytes, or {"bytes", "path"} where the path counts if there are no bytes; b"" if there is nothing."""
    if isinstance(value, Mapping):
        content, path = value.get("bytes"), value.get("path")
        return content if content is not None else folder / path if path else b""
    return value if value is not None else b""


def parquet_source(files: Sequence[Path], name: str, column: str | None) -> ParquetSource | ArraySource | ArraySet:
    """Opens one split; encoded images, or vectors and images as lists of numbers.

    Raises:
        UsageError: no such column, no column of images or several, damaged files, numbers that `array_source` refuses.
    """
    try:
        schema = pq.read_schema(files[0])
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{files[0]} is no parquet file ({error}): copy it again.") from error
    column = _find_column(schema, name, column)
    if not _is_list(schema.field(column).type):
        return ParquetSource(files, name, column)
    cells = pq.read_table(list(files), columns=[column]).column(0).to_pylist()
    try:
        array = np.array(cells, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise UsageError(f"column {column!r} of {name} has rows of different lengths or none at all: bring them to one shape.") from error
    identity = (column, [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in files])
    return array_source(array, name, identity, read_labels(files))


def read_labels(files: Sequence[Path]) -> Labels:
    """Reads the class column: int64 [n]; several by name; without the hub's types, an integer column called `label`; None without."""
    schema = pq.read_schema(files[0])
    names = [name for name, feature in _features(schema).items() if feature.get("_type") == "ClassLabel"]
    if not names and "label" in schema.names and pa.types.is_integer(schema.field("label").type):
        names = ["label"]
    if not names:
        return None
    table = pq.read_table(list(files), columns=names)
    columns = {name: table.column(name).to_numpy() for name in names}
    return columns if len(columns) > 1 else columns[names[0]]


def _features(schema: pa.Schema) -> dict[str, dict]:
    """The column types that `datasets` keeps in the file's metadata; empty for a file by another writer."""
    return json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})


def _find_column(schema: pa.Schema, name: str, column: str | None) -> str:
    if column is not None:
        if column not in schema.names:
            raise UsageError(f"{name} has no column {column!r}: give data.column one of {', '.join(schema.names)}.")
        return column
    images = [field.name for field in schema if _is_encoded(field.type)]
    found = images or [field.name for field in schema if _is_list(field.type)]
    if len(found) != 1:
        what = "several columns that may be it" if found else "no column of images"
        raise UsageError(f"{name} has {what}: give data.column one of {', '.join(found or schema.names)}.")
    return found[0]


def _is_encoded(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _split_of(path: Path) -> str:
    """`data/train-00000-of-00002.parquet`, `train/0000.parquet`, `cifar10-test.parquet` -> train, train, test; without a name, train."""
    words = [word for part in (*path.parent.parts, path.stem) for word in part.replace("_", "-").replace(".", "-").split("-")]
    return next((word for word in reversed(words) if word in SPLITS), "train")
