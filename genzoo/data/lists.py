"""Lists of image files: `.csv`, `.tsv`, `.jsonl` with a column of paths, `.txt` with a path a line."""

import csv
import json
from collections.abc import Iterable, Sequence
from itertools import tee
from pathlib import Path

from genzoo.data.found import Found
from genzoo.data.identity import contents_of, stamp
from genzoo.data.labels import ONLY, Labels, text_label
from genzoo.data.naming import folder_classes, is_image, role
from genzoo.data.places import ordered, split_in
from genzoo.data.sources import Source
from genzoo.errors import UsageError

LISTS = (".csv", ".tsv", ".jsonl", ".txt")
_SPLITS = ("split", "subset", "partition")  # columns of splits
_LABELS = ("label", "class", "target", "category")  # columns of classes, by number or by name
_SHOWN = 5  # columns that a message names

Rows = list[dict[str, str]]


class ListCollection:
    """The images that a file lists, by split where a column names them; paths are relative to the file's folder."""

    def __init__(self, path: Path, column: str | None = None) -> None:
        self.name, self._path, self._column = path.stem, path, column
        self._splits = _by_split(_rows(path))
        self.splits: tuple[str, ...] = ordered(self._splits)

    def source(self, split: str) -> "ListSource":
        rows = self._splits[split]
        name = f"{self.name}/{split}" if len(self.splits) > 1 else self.name
        column = _column(rows, self._path, self._column)
        names = [row.get(column, "").strip() for row in rows]
        if number := next((number for number, name in enumerate(names, 1) if not name or "://" in name), None):
            what = "is empty" if not names[number - 1] else f"is an address, {names[number - 1]}"
            raise UsageError(f"item {number} of column {column!r} of {self._path} {what}: list files of this machine.")
        by = role(split, self.splits, "column")
        return ListSource(name, self._path, names, _labels(rows, names), column, by)


class ListSource(Source):
    """Listed image files in the list's order."""

    def __init__(self, name: str, listed: Path, names: Sequence[str], labels: Labels, column: str, by: str) -> None:
        self.name, self.size, self._role = name, len(names), by
        self._files, self._labels, self._column = [listed.parent / Path(n).expanduser() for n in names], labels, column
        self.identity = contents_of(listed.parent, list(map(stamp, self._files, names)))

    def fetch(self, indices: Sequence[int]) -> list[Path]:
        return [self._files[i] for i in indices]

    def where(self, index: int) -> str:
        return str(self._files[index])

    def headers(self, n: int) -> list[Path]:
        return self._files[:: -(-self.size // n)]

    def labels(self) -> Labels:
        return self._labels

    def found(self) -> Found:
        notes = (f"files of column {self._column!r}",) if self._column else ()
        return Found(items=self.size, role=self._role, notes=notes)


def _rows(path: Path) -> Rows:
    """Reads a list; the columns of one without a header are called 0, 1, ..."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = _parsed(path.suffix.lower(), file)
    except (OSError, ValueError, TypeError, RecursionError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as a list ({error}): save it as CSV in UTF-8.") from error
    if not rows:
        raise UsageError(f"{path} lists no images: write one path a line, relative to its folder.")
    return rows


def _by_split(rows: Rows) -> dict[str, Rows]:
    """Groups rows by a column of splits, if there is one in which all rows name them."""
    column = next((name for name in rows[0] if name.strip().lower() in _SPLITS), None)
    named = [split_in(row.get(column, "")) for row in rows] if column else []
    if len(set(named)) < 2 or None in named:
        return {"train": rows}
    splits: dict[str, Rows] = {}
    for split, row in zip(named, rows, strict=True):
        splits.setdefault(str(split), []).append(row)
    return splits


def _parsed(suffix: str, file: Iterable[str]) -> Rows:
    if suffix == ".jsonl":
        objects = [json.loads(line) for line in file if line.strip()]
        return [{str(key): str(value) for key, value in dict(item).items()} for item in objects]
    if suffix == ".txt":
        return [_text_row(line.strip()) for line in file if line.strip()]
    first, rest = tee(file)
    header = next(first, "")
    delimiter = "\t" if suffix == ".tsv" else ";" if ";" in header and "," not in header else ","
    lines = [line for line in csv.reader(rest, delimiter=delimiter) if any(line)]
    if not lines:
        return []
    headed = not any(map(is_image, lines[0]))
    names = [cell.strip() for cell in lines[0]] if headed else [str(number) for number in range(len(lines[0]))]
    return [dict(zip(names, [*line, *[""] * len(names)], strict=False)) for line in lines[headed:]]


def _text_row(line: str) -> dict[str, str]:
    """A line `path` or, as ImageNet's lists have it, `path number`."""
    path, _, number = line.rpartition(" ")
    return {"": path, ONLY: number} if number.isdecimal() and is_image(path) else {"": line}


def _column(rows: Rows, path: Path, asked: str | None) -> str:
    """Finds the column of paths: the one asked for, else the first that holds names of images."""
    columns = list(rows[0])
    if asked is not None and asked not in columns:
        raise UsageError(f"{path} has no column {asked!r}: give data.column one of {', '.join(columns)}.")
    images = [asked] if asked else [name for name in columns if is_image(rows[0][name])]
    if not images:
        if path.suffix.lower() == ".txt":
            has = f"{path} lists no images (its first line is {rows[0][''][:40]!r})"
            raise UsageError(f"{has}: write one path a line, relative to its folder.")
        shown = ", ".join(columns[:_SHOWN]) + (", ..." if len(columns) > _SHOWN else "")
        raise UsageError(
            f"{path} has no column of paths to images (it has {shown}): give data.column one; of a table of numbers "
            "make a .npy file: numpy.save('x.npy', numpy.loadtxt('x.csv', delimiter=',', skiprows=1))."
        )
    return images[0]


def _labels(rows: Rows, names: Sequence[str]) -> Labels:
    """Takes classes from a column called `label`, by number or by name, else from the folders."""
    column = next((name for name in rows[0] if name.strip().lower() in _LABELS), None)
    if column is None:
        return folder_classes(names)
    return {ONLY: text_label([row.get(column, "") for row in rows])}
