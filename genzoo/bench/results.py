"""The results of a suite: the last line of each kind and key of its file, and values aggregated over seeds."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from genzoo.bench.foreign import cleaned, printable
from genzoo.bench.lines import Column, Failure, FinishedCell, Header, Score, parse_line
from genzoo.files import JsonLines

Run = Score | FinishedCell | Failure
SHOWN = 5  # numbers of damaged lines in a warning


@dataclass(frozen=True)
class Stat:
    """One value over seeds."""

    mean: float  # of the finite values
    std: float | None  # sample standard deviation; None for a single seed
    n: int  # seeds with a finite value
    broken: int = 0  # seeds whose value was NaN or infinite

    @staticmethod
    def of(values: Iterable[float]) -> "Stat | None":
        """Summarizes one value per seed; None if there are no values."""
        values = list(values)
        finite = [v for v in values if math.isfinite(v)]
        if not values:
            return None
        spread = stdev(finite) if len(finite) > 1 else None
        return Stat(mean(finite) if finite else math.nan, spread, len(finite), len(values) - len(finite))


@dataclass(frozen=True)
class SuiteResults:
    """Everything in one results file. Rows are labels, groups are datasets, and cells differ in their seeds."""

    suite: Header
    scores: tuple[Score, ...]  # in the order of their cells
    cells: tuple[FinishedCell, ...]  # in the suite's order, whatever the order in which they finished
    failures: tuple[Failure, ...]
    skipped_lines: int  # lines that were cut short
    findings: str = ""  # markdown, from results/<suite>.md
    left_out: tuple[str, ...] = ()  # of lines that are shown, what cannot be

    @property
    def labels(self) -> list[str]:
        """Rows that were run, in the suite's order."""
        return _unique(x.label for x in self._runs())

    @property
    def groups(self) -> list[str]:
        """Datasets, in the suite's order; those with published values only come last."""
        return _unique(x.data for x in (*self._runs(), *self.suite.published))

    @property
    def missing(self) -> list[str]:
        """Expected cells that neither finished nor failed."""
        known = {x.cell for x in (*self.cells, *self.failures)}
        return [cell for cell in self.suite.expected_cells if cell not in known]

    @property
    def unscored(self) -> list[str]:
        """Finished cells that lack a score which others of their dataset have."""
        scored = {(s.cell, s.protocol) for s in self.scores}
        wanted = {(s.data, s.protocol) for s in self.scores}
        return [
            c.cell
            for c in self.cells
            if any((c.cell, protocol) not in scored for data, protocol in wanted if data == c.data)
        ]

    @property
    def clashes(self) -> list[tuple[str, ...]]:
        """Cells that share label, data and seed, so that one row averages over more than seeds."""
        seeds: dict[tuple[str, str, int], list[str]] = {}
        for cell in self.cells:
            seeds.setdefault((cell.label, cell.data, cell.seed), []).append(cell.cell)
        return [tuple(cells) for cells in seeds.values() if len(cells) > 1]

    def columns(self, data: str) -> list[Column]:
        """The suite's columns without those of protocols that only other datasets are scored by."""
        here = {s.protocol for s in self.scores if s.data == data}
        elsewhere = {s.protocol for s in self.scores} - here
        published = {p.value for p in self.suite.published if p.data == data}
        return [c for c in self.suite.columns if c.protocol not in elsewhere or c.value in published]

    def stat(self, label: str, data: str, column: Column) -> Stat | None:
        """Aggregates one value over the seeds of one row."""
        scores = (s for s in self.scores if (s.label, s.data, s.protocol) == (label, data, column.protocol))
        return Stat.of(v for s in scores if (v := s.values.get(column.value)) is not None)

    def cells_of(self, data: str, label: str | None = None) -> list[FinishedCell]:
        """Lists the finished cells of a dataset, of one row or of all."""
        return [c for c in self.cells if c.data == data and label in (None, c.label)]

    def _runs(self) -> list[Run]:
        return _in_order((*self.scores, *self.cells, *self.failures), self.suite)


def read_results(path: Path) -> SuiteResults:
    """Reads one results file, and `<suite>.md` beside it, which is what a person concluded from the numbers.

    A later line replaces an earlier one of the same kind and cell (for scores: and protocol), and a finished cell
    replaces its failure. Lines that are damaged, or were cut short by a kill, are counted and left out, with a warning.
    Unknown keys and kinds are ignored. What no report can show, of results from elsewhere, is left out and named.

    Raises:
        UsageError: a key is missing, or a value has the wrong type.
    """
    last: dict[tuple[str, ...], Header | Score | FinishedCell | Failure] = {}
    skipped, left_out = list[int](), list[str]()
    for number, record in JsonLines(path).numbered():
        if record is None:
            skipped.append(number)
            continue
        kept, unshown = cleaned(record)
        if (line := parse_line(kept, f"{path}, line {number}")) is not None:
            left_out += [f"line {number}: {what}" for what in unshown]
            last[_key(line)] = line
            if isinstance(line, FinishedCell):
                last.pop((Failure.kind, line.cell), None)
    if skipped:
        shown = ", ".join(map(str, skipped[:SHOWN])) + (", ..." if len(skipped) > SHOWN else "")
        warnings.warn(f"{path}: damaged lines are left out, {len(skipped)} in all ({shown})", stacklevel=2)
    header = last.pop((Header.kind,), None) or Header(suite=path.stem, title=path.stem)
    assert isinstance(header, Header)
    runs = _in_order((line for line in last.values() if not isinstance(line, Header)), header)
    return SuiteResults(
        suite=header,
        scores=tuple(run for run in runs if isinstance(run, Score)),
        cells=tuple(run for run in runs if isinstance(run, FinishedCell)),
        failures=tuple(run for run in runs if isinstance(run, Failure)),
        skipped_lines=len(skipped),
        findings=_findings(path.with_suffix(".md")),
        left_out=tuple(left_out),
    )


def _findings(path: Path) -> str:
    """What a person wrote about a suite; bytes that are not UTF-8 are replaced."""
    return printable(path.read_text(encoding="utf-8", errors="replace")).strip() if path.is_file() else ""


def _key(line: Header | Score | FinishedCell | Failure) -> tuple[str, ...]:
    """Lines with equal keys replace each other."""
    if isinstance(line, Header):
        return (line.kind,)
    return (line.kind, line.cell, line.protocol) if isinstance(line, Score) else (line.kind, line.cell)


def _in_order(runs: Iterable[Run], header: Header) -> list[Run]:
    """Sorts by cell as the suite lists them, then unlisted cells by name; a cell's protocols by name."""
    runs = list(runs)
    order = {cell: i for i, cell in enumerate(_unique((*header.expected_cells, *sorted(run.cell for run in runs))))}
    return sorted(runs, key=lambda run: (order[run.cell], run.protocol if isinstance(run, Score) else ""))


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
