"""Parquet files: encoded images in a column (as the hub stores them), or numbers in a column of lists."""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genzoo.data.arrays import ArraySource, open_array
from genzoo.data.found import Found
from genzoo.data.identity import contents_of_files
from genzoo.data.labels import Label, Labels, class_label, only_or_all, text_label
from genzoo.data.naming import below_common, role, split_of_file, tables_under
from genzoo.data.places import ordered
from genzoo.data.sets import ArraySet
from genzoo.data.sources import Source
from genzoo.dataspec import last_name
from genzoo.errors import UsageError

_HELD_BYTES = 256 * 1024**2  # encoded row groups that each process keeps, for batches that are not cached
_OF_IMAGES = ("image", "img", "picture", "photo", "file", "path", "base64", "b64", "jpg", "png")  # in columns' names


class ParquetCollection:
    """One file, or the files under a folder; their names or folders name splits: train-00000-of-00002.parquet."""

    def __init__(self, root: Path, column: str | None, channels: int = 3) -> None:
        self.name = root.stem if root.is_file() else last_name(str(root))
        self._column, self._channels = column, channels
        files = [root] if root.is_file() else tables_under(root)
        self._files: dict[str, list[Path]] = {}
        for path in files:
            self._files.setdefault(split_of_file(path.relative_to(root)) if root.is_dir() else "train", []).append(path)
        self.splits: tuple[str, ...] = ordered(self._files)

    def source(self, split: str) -> "ParquetSource | ArraySource | ArraySet":
        name = f"{self.name}/{split}" if len(self.splits) > 1 else self.name
        by = role(split, self.splits, "file name")
        return open_parquet(self._files[split], name, self._column, self._channels, by)


class ParquetSource(Source):
    """The images of one column over several files, in order."""

    def __init__(self, files: Sequence[Path], name: str, column: str, by: str = "") -> None:
        self.name, self.identity = name, (column, contents_of_files(files))
        self._files, self._column, self._role = list(files), column, by
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

    def found(self) -> Found:
        rows = dict.fromkeys(self._files, 0)
        for (path, _, _), start, stop in zip(self._groups, self._starts, [*self._starts[1:], self.size], strict=True):
            rows[path] += int(stop - start)
        names = below_common([path.as_posix() for path in rows])
        parts = dict(zip(names, rows.values(), strict=True)) if len(rows) > 1 else {}
        return Found(items=self.size, parts=parts, role=self._role, notes=(f"column {self._column!r}",))

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


def open_parquet(
    files: Sequence[Path], name: str, column: str | None, channels: int = 3, by: str = ""
) -> ParquetSource | ArraySource | ArraySet:
    """Opens one split: encoded images, or vectors and images as lists of numbers.

    Raises:
        UsageError: no such column, no column of images or several, damaged files, numbers that `open_array` refuses.
    """
    schema = read_schema(files[0])
    column = find_column(schema, name, column)
    if not holds_numbers(schema.field(column).type):
        return ParquetSource(files, name, column, by)
    array = to_array(pq.read_table(list(files), columns=[column]).column(0), name)
    identity = (column, contents_of_files(files))
    return open_array(array, name, identity, read_labels(files), channels=channels, role=by)


def read_schema(path: Path) -> pa.Schema:
    """Reads the columns of a file. Raises UsageError for a damaged one."""
    with _intact(path):
        return pq.read_schema(path)


def holds_images(path: Path) -> bool:
    """Whether a file has a column of encoded images, rather than facts about images elsewhere."""
    return any(_is_encoded(field.type) for field in read_schema(path))


def to_array(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Turns a column of (nested) lists of numbers into one array [n, ...].

    Raises:
        UsageError: rows whose shapes differ, missing numbers, no rows.
    """
    if not len(column):
        raise UsageError(f"{name} has no rows.")
    shape, values = [len(column)], column.combine_chunks()
    while _is_list(_plain(values.type)):
        values = values.storage if isinstance(values, pa.ExtensionArray) else values
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
    """Makes labels of columns: class numbers with the names of their classes, or text. A missing one becomes -1."""
    return only_or_all({name: _label(column, names) for name, (column, names) in columns.items()})


def _label(column: pa.ChunkedArray, names: Sequence[str] | None) -> Label:
    if pa.types.is_integer(column.type):
        return class_label(pc.fill_null(column, -1).to_numpy(), names)
    return text_label(pc.fill_null(column.cast(pa.large_string()), "").to_pylist())


def _holds_classes(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold classes: whole numbers or text, which pandas may write as a dictionary."""
    kind = kind.value_type if isinstance(kind, pa.DictionaryType) else kind
    return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)


def label_columns(schema: pa.Schema) -> dict[str, Sequence[str] | None]:
    """Finds the columns that `datasets` marked as classes, with the classes' names; else a column `label` of whole
    numbers or text.
    """
    marked = {name: kind.get("names") for name, kind in _features(schema).items() if kind.get("_type") == "ClassLabel"}
    if marked:
        return marked
    return {field.name: None for field in schema if field.name == "label" and _holds_classes(field.type)}


def _features(schema: pa.Schema) -> dict[str, dict]:
    """The column types that `datasets` keeps in the file's metadata; empty for a file by another writer."""
    return json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})


def find_column(schema: pa.Schema, name: str, column: str | None) -> str:
    """Finds the only column of images, else of numbers, or checks the one asked for.

    Raises:
        UsageError: no such column, not exactly one that may be meant, or a type that is not read; the line says how to
            turn it into one that is.
    """
    if column is not None:
        if column not in schema.names:
            raise UsageError(f"{name} has no column {column!r}: give data.column one of {', '.join(schema.names)}.")
        kind = schema.field(column).type
        if not _is_encoded(kind) and not holds_numbers(kind):
            fix = conversion(column, kind) or "give data.column another"
            raise UsageError(f"column {column!r} of {name} holds {kind} values, not images: {fix}.")
        return column
    images = [field.name for field in schema if _is_encoded(field.type)]
    found = images or [field.name for field in schema if holds_numbers(field.type)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{name} has several columns that may be it: give data.column one of {', '.join(found)}.")
    for field in schema:
        unlikely = _is_text(field.type) and not any(word in field.name.lower() for word in _OF_IMAGES)
        if not unlikely and (fix := conversion(field.name, field.type)):
            raise UsageError(f"{name} has no column of images: column {field.name!r} holds {field.type} values: {fix}.")
    kinds = ", ".join(f"{field.name} ({field.type})" for field in schema)
    raise UsageError(f"{name} has no column of images: it has {kinds}; save encoded images as a binary column.")


def conversion(column: str, kind: pa.DataType) -> str | None:
    """Says how to turn a column of a type that is not read into one that is; None where it holds no images."""
    if _is_list(kind):
        inner = kind.value_type
        if _is_encoded(inner):
            return f"save one image a row, table[{column!r}].combine_chunks().flatten()"
        if _is_text(inner):
            return "save one path a line in a .txt file, and give that"
        return None
    if pa.types.is_struct(kind):
        inside = [kind.field(i) for i in range(kind.num_fields)]
        if part := next((field for field in inside if _is_encoded(field.type) or holds_numbers(field.type)), None):
            return f"save table.flatten(), and give data.column={column}.{part.name}"
        return None
    if _is_text(kind):
        paths = f"write paths to a list, table.to_pandas()[[{column!r}]].to_csv('list.csv'), and give list.csv"
        return f"{paths}; save base64 as bytes, [base64.b64decode(text) for text in table[{column!r}].to_pylist()]"
    return None


def holds_numbers(kind: pa.DataType) -> bool:
    """Whether a type is of (nested) lists of numbers."""
    kind = _plain(kind)
    if not _is_list(kind):
        return False
    while _is_list(kind):
        kind = kind.value_type
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The stored type of an extension, as `datasets` has for arrays of several dimensions."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_encoded(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


@contextmanager
def _intact(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path} is damaged or not a parquet file ({error}): copy it again.") from error
