"""What a bench folder's `results/<suite>.jsonl` says: the last line of each kind and key, and values aggregated over seeds."""

import json
import math
from collections.abc import Iterable
from dataclasses import field
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from genzoo.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Column:
    """A column of a suite's tables: one value of one protocol."""

    protocol: str
    value: str
    title: str
    better: Literal["lower", "higher", "none"] = "none"


@dataclass(frozen=True)
class Published:
    """A value that a paper printed, as printed."""

    label: str
    data: str
    value: str
    text: str
    source: str


@dataclass(frozen=True)
class Suite:
    """A suite's own description; the last such line of a file holds."""

    suite: str
    title: str
    about: str = ""  # markdown
    columns: tuple[Column, ...] = ()
    published: tuple[Published, ...] = ()
    expected_cells: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """One protocol's values on one trained model."""

    cell: str
    label: str
    data: str
    protocol: str
    values: dict[str, float | None]
    spreads: dict[str, float | None] = field(default_factory=dict)  # std over repeated draws from this one model
    model: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)
    split: str | None = None
    resolution: tuple[int, ...] | None = None
    seed: int = 0
    images_seen: int | None = None
    details: dict[str, Any] = field(default_factory=dict)
    commit: str | None = None
    versions: dict[str, Any] = field(default_factory=dict)
    device: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Cell:
    """A finished run."""

    cell: str
    label: str
    data: str
    model: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    images_seen: int | None = None
    seconds: float | None = None
    curves: dict[str, list[float | None]] = field(default_factory=dict)  # "nimg" is the x axis
    guides: dict[str, float] = field(default_factory=dict)  # margin of all curves "<key>/..."
    pictures: dict[str, str] = field(default_factory=dict)  # what -> path below results/


@dataclass(frozen=True)
class Failure:
    """A run that did not finish, and why."""

    cell: str
    label: str
    data: str
    reason: str
    model: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Stat:
    """One value over seeds."""

    mean: float  # of the finite values
    std: float | None  # sample standard deviation; None for a single seed
    n: int  # seeds with a finite value
    broken: int = 0  # seeds whose value was NaN or infinite

    @staticmethod
    def of(values: Iterable[float]) -> "Stat | None":
        """Summarises one value per seed; None where there is none at all."""
        values = list(values)
        finite = [v for v in values if math.isfinite(v)]
        if not values:
            return None
        spread = stdev(finite) if len(finite) > 1 else None
        return Stat(mean(finite) if finite else math.nan, spread, len(finite), len(values) - len(finite))


@dataclass(frozen=True)
class SuiteResults:
    """Everything that one results file holds. Rows are labels, groups are data sets, and cells differ in their seeds."""

    suite: Suite
    scores: tuple[Score, ...]  # in the order of their cells
    cells: tuple[Cell, ...]  # in the suite's order, whatever the order in which they finished
    failures: tuple[Failure, ...]
    skipped_lines: int  # lines that were cut short
    findings: str = ""  # markdown: what a person concluded, from results/<suite>.md

    @property
    def labels(self) -> list[str]:
        """Rows that were run, in the suite's order."""
        return _unique(x.label for x in self._runs())

    @property
    def groups(self) -> list[str]:
        """Data sets, in the suite's order; those with nothing but published values come last."""
        return _unique(x.data for x in (*self._runs(), *self.suite.published))

    @property
    def missing(self) -> list[str]:
        """Expected cells that neither finished nor failed."""
        known = {x.cell for x in (*self.cells, *self.failures)}
        return [cell for cell in self.suite.expected_cells if cell not in known]

    @property
    def clashes(self) -> list[tuple[str, ...]]:
        """Cells that share label, data and seed, so that one row would average over something other than seeds."""
        seeds: dict[tuple[str, str, int], list[str]] = {}
        for cell in self.cells:
            seeds.setdefault((cell.label, cell.data, cell.seed), []).append(cell.cell)
        return [tuple(cells) for cells in seeds.values() if len(cells) > 1]

    def columns(self, data: str) -> list[Column]:
        """The suite's columns without those that only other data sets are scored by."""
        here = {s.protocol for s in self.scores if s.data == data}
        elsewhere = {s.protocol for s in self.scores} - here
        published = {p.value for p in self.suite.published if p.data == data}
        return [c for c in self.suite.columns if c.protocol not in elsewhere or c.value in published]

    def stat(self, label: str, data: str, column: Column) -> Stat | None:
        """Aggregates one value over the seeds of one row."""
        scores = (s for s in self.scores if (s.label, s.data, s.protocol) == (label, data, column.protocol))
        return Stat.of(v for s in scores if (v := s.values.get(column.value)) is not None)

    def cells_of(self, data: str, label: str | None = None) -> list[Cell]:
        """Lists finished cells of a data set, of one row or of all."""
        return [c for c in self.cells if c.data == data and label in (None, c.label)]

    def _runs(self) -> list[Score | Cell | Failure]:
        return _in_order((*self.scores, *self.cells, *self.failures), self.suite)


def read_results(path: Path) -> SuiteResults:
    """Reads one results file.

    A later line replaces an earlier one of the same kind and cell (for scores: and protocol). A cell that finished after it failed
    is no failure. Lines that are not JSON were cut short by a kill: they are counted and left out. Unknown keys and kinds are ignored.
    `<suite>.md` beside it holds what a person found in the numbers.

    Raises:
        UsageError: a line lacks a key or holds a value of the wrong type.
    """
    kinds: dict[str, TypeAdapter] = {name: TypeAdapter(cls) for name, cls in _KINDS.items()}
    last: dict[tuple[str, ...], Any] = {}
    skipped = 0
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            skipped += 1
            continue
        kind = record.get("kind") if isinstance(record, dict) else None
        if kind in kinds:
            item = _validated(kinds[kind], record, f"{path}, line {number}")
            last[(kind, *_key(item))] = item
            if isinstance(item, Cell):
                last.pop(("failure", item.cell), None)
    suite = last.get(("suite",), Suite(suite=path.stem, title=path.stem))
    runs = _in_order([x for x in last.values() if not isinstance(x, Suite)], suite)
    scores, cells, failures = (tuple(x for x in runs if isinstance(x, cls)) for cls in (Score, Cell, Failure))
    beside = path.with_suffix(".md")
    findings = beside.read_text(encoding="utf-8").strip() if beside.is_file() else ""
    return SuiteResults(suite, scores, cells, failures, skipped, findings)


_KINDS = {"suite": Suite, "score": Score, "cell": Cell, "failure": Failure}


def _key(item: Suite | Score | Cell | Failure) -> tuple[str, ...]:
    match item:
        case Suite():
            return ()
        case Score():
            return item.cell, item.protocol
        case _:
            return (item.cell,)


def _validated(adapter: TypeAdapter[T], record: dict[str, Any], where: str) -> T:
    try:
        return adapter.validate_python(record)
    except ValidationError as error:
        first = error.errors()[0]
        what = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}: {what}: {first['msg']}; mend or remove that line.") from None


def _in_order(runs: Iterable[Any], suite: Suite) -> list[Any]:
    """Sorts by cell as the suite lists them, then unlisted cells by name; a cell's protocols by name."""
    runs = list(runs)
    order = {cell: i for i, cell in enumerate(_unique((*suite.expected_cells, *sorted(x.cell for x in runs))))}
    return sorted(runs, key=lambda x: (order[x.cell], getattr(x, "protocol", "")))


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
