"""The tables of a report before they become markdown or HTML: their texts, the best rows, and how it was measured."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from genzoo.bench.lines import Column, FinishedCell, Score
from genzoo.bench.results import Stat, SuiteResults

ARROWS = {"lower": "\N{NO-BREAK SPACE}↓", "higher": "\N{NO-BREAK SPACE}↑", "none": ""}
ABSENT = "–"
NOT_FOUND = "not found"
DETAILS = ("extractor", "extractor_hash", "resize", "n_real", "n_fake", "weights", "batchnorm")  # before all others
SHOWN = 8  # most values of one field of a protocol that are listed
FINDINGS_TITLE = "What the numbers say"
CELLS_TITLE = "Every cell (± here: standard deviation over repeated draws from one model)"
LEGEND = (
    "mean ± sample standard deviation over seeds; no ± means one seed. Arrows show the better direction. **Bold**: the "
    "best mean of a column, and every mean that differs from it by less than the pooled standard deviation (a tie); "
    "with one seed each, just the better number. Seconds are a cell's training time."
)


@dataclass(frozen=True)
class Entry:
    """One cell of a table."""

    text: str
    best: bool = False
    number: bool = True  # False: text, aligned to the left


@dataclass(frozen=True)
class Table:
    """A heading and rows of its length; the first column names the row."""

    head: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]

    @property
    def numbers(self) -> list[bool]:
        """Which columns have numbers only, aligned to the right."""
        return [all(row[i].number for row in self.rows) for i in range(len(self.head))]


@dataclass(frozen=True)
class Protocol:
    """How the values of some columns were measured."""

    name: str
    titles: tuple[str, ...]  # of the columns
    definition: str
    facts: tuple[tuple[str, str], ...]


def number(value: float) -> str:
    """Writes a value with four significant digits."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3e}"
    return f"{value:.{max(0, 3 - _power(value, 4))}f}"


def with_spread(mean: float, std: float | None) -> str:
    """Writes `mean ± std`: two significant digits of the deviation, and the mean to the same digit."""
    if std is None or not math.isfinite(std):
        return number(mean)
    if std == 0:
        return f"{number(mean)} ± 0"
    largest = max(abs(mean), std)
    if not 1e-4 <= largest < 1e7:
        power = _power(largest, 2)
        return f"({with_spread(mean / 10.0**power, std / 10.0**power)})e{power}"
    places = 1 - _power(std, 2)
    return f"{round(mean, places):.{max(0, places)}f} ± {round(std, places):.{max(0, places)}f}"


def _power(value: float, digits: int) -> int:
    """Exponent of ten after rounding to so many significant digits (0.0996 counts as 0.10)."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2])


def seconds(value: float) -> str:
    """Writes a duration to a tenth of a second below 100 seconds, else to the second."""
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def best_rows(stats: Mapping[str, Stat | None], better: str) -> set[str]:
    """Returns the row with the best mean and those that differ from it by less than the pooled standard deviation.

    None of fewer than two rows is best; rows with broken seeds do not compete.
    """
    means = {label: s for label, s in stats.items() if s is not None and s.n and not s.broken}
    if better == "none" or len(means) < 2:
        return set()
    top = (min if better == "lower" else max)(means.values(), key=lambda s: s.mean)
    return {label for label, s in means.items() if s.mean == top.mean or abs(s.mean - top.mean) < _pooled(s, top)}


def _pooled(a: Stat, b: Stat) -> float:
    """Square root of the mean variance, weighted by degrees of freedom; 0 if both rows have a single seed."""
    freedom = a.n + b.n - 2
    return math.sqrt(sum((s.n - 1) * (s.std or 0.0) ** 2 for s in (a, b)) / freedom) if freedom else 0.0


def results_table(results: SuiteResults, data: str) -> Table:
    """Lays out one dataset: a row per label, values with the published ones beside them, seeds and seconds."""
    suite = results.suite
    published = {(p.label, p.value): p.text for p in suite.published if p.data == data}
    paired = {p.value for p in suite.published}
    known = {x.label for x in (*results.scores, *results.cells, *results.failures) if x.data == data}
    labels = [label for label in dict.fromkeys((*results.labels, *(label for label, _ in published))) if label in known]
    labels += [label for label in dict.fromkeys(label for label, _ in published) if label not in known]
    done = {label: _done(results, label, data) for label in labels}
    head = ["model"]
    columns: list[list[Entry]] = [[Entry(label, number=False) for label in labels]]
    for column in results.columns(data):
        stats = {label: results.stat(label, data, column) for label in labels}
        best = best_rows(stats, column.better)
        head.append(column.title + ARROWS[column.better])
        columns.append(
            [Entry(stat_text(stats[label]) + _fewer(stats[label], done[label]), label in best) for label in labels]
        )
        if column.value in paired:
            head.append("published")
            columns.append([Entry(published.get((label, column.value), NOT_FOUND)) for label in labels])
    head += ["seeds", "seconds"]
    columns += [
        [Entry(_seeds(results, label, data, done[label])) for label in labels],
        [Entry(_time(results, label, data)) for label in labels],
    ]
    return Table(tuple(head), tuple(zip(*columns, strict=True)))


def stat_text(stat: Stat | None) -> str:
    """Writes an aggregated value, and how many seeds are left out."""
    if stat is None:
        return ABSENT
    broken = f" ({stat.broken} of {stat.broken + stat.n} not finite)" if stat.broken else ""
    return (with_spread(stat.mean, stat.std) if stat.n else ABSENT) + broken


def _fewer(stat: Stat | None, seeds: int) -> str:
    """Marks a mean over fewer than all seeds of its row."""
    n = stat.n + stat.broken if stat else seeds
    return f" (n = {n})" if n != seeds else ""


def _done(results: SuiteResults, label: str, data: str) -> int:
    scored = {s.cell for s in results.scores if (s.label, s.data) == (label, data)}
    return len(scored | {c.cell for c in results.cells_of(data, label)})


def _seeds(results: SuiteResults, label: str, data: str, done: int) -> str:
    failed = sum((f.label, f.data) == (label, data) for f in results.failures)
    return f"{done} + {failed} failed" if failed else str(done) if done else "not run"


def _time(results: SuiteResults, label: str, data: str) -> str:
    stat = Stat.of(c.seconds for c in results.cells_of(data, label) if c.seconds is not None)
    return seconds(stat.mean) if stat else ABSENT


def cells_table(results: SuiteResults) -> Table:
    """Lays out every finished cell: settings, images seen, seconds and values, with the spread over repeated draws."""
    columns = results.suite.columns
    head = ("cell", "model", "overrides", "seed", "images seen", "seconds", *(c.title for c in columns))
    scores = {(s.cell, s.protocol): s for s in results.scores}
    rows = []
    for cell in results.cells:
        texts = [cell.cell, cell.model, _pairs(cell.overrides)]
        numbers = [
            str(cell.seed),
            str(cell.images_seen or ABSENT),
            seconds(cell.seconds) if cell.seconds is not None else ABSENT,
        ]
        values = [_single(scores.get((cell.cell, column.protocol)), column) for column in columns]
        rows.append((*(Entry(t, number=False) for t in texts), *(Entry(t) for t in (*numbers, *values))))
    return Table(head, tuple(rows))


def _single(score: Score | None, column: Column) -> str:
    if score is None or (value := score.values.get(column.value)) is None:
        return ABSENT
    return with_spread(value, score.spreads.get(column.value))


def overview(suites: Iterable[SuiteResults]) -> Table:
    """Lays out one row per suite: how much of it was run."""
    rows = []
    for results in suites:
        expected = max(len(results.suite.expected_cells), len(results.cells))
        counts = (f"{len(results.cells)} of {expected}", len(results.failures), len(results.missing))
        total = sum(c.seconds or 0 for c in results.cells) / 3600
        rows.append((Entry(results.suite.title, number=False), *(Entry(str(n)) for n in counts), Entry(f"{total:.2f}")))
    return Table(("suite", "cells done", "failed", "missing", "hours"), tuple(rows))


def protocols(results: SuiteResults) -> list[Protocol]:
    """Describes each protocol of the suite's columns; facts that differ between cells list their values."""
    found = []
    for name in dict.fromkeys(c.protocol for c in results.suite.columns):
        scores = [s for s in results.scores if s.protocol == name]
        titles = tuple(c.title for c in results.suite.columns if c.protocol == name)
        definition = _distinct(s.details.get("definition") for s in scores)
        found.append(
            Protocol(name, titles, definition if scores else "No cell has been scored yet.", tuple(_facts(scores)))
        )
    return found


def _facts(scores: list[Score]) -> Iterable[tuple[str, str]]:
    plain = {key for s in scores for key, value in s.details.items() if not isinstance(value, Mapping)}
    others = sorted(plain - {*DETAILS, "definition"})
    details = {key: [s.details.get(key) for s in scores] for key in (*DETAILS, *others)}
    run = {
        "split": [s.split for s in scores],
        "resolution": ["x".join(map(str, s.resolution)) if s.resolution else None for s in scores],
        "device": [s.device for s in scores],
        "versions": [_pairs(s.versions) or None for s in scores],
        "commit": [s.commit for s in scores],
        "seconds per model": [
            seconds(stat.mean) if (stat := Stat.of(s.seconds for s in scores if s.seconds is not None)) else None
        ],
    }
    return ((key.replace("_", " "), text) for key, values in (details | run).items() if (text := _distinct(values)))


def _distinct(values: Iterable[Any]) -> str:
    texts = list(
        dict.fromkeys(v if isinstance(v, str) else json.dumps(v, sort_keys=True) for v in values if v is not None)
    )
    more = [f"and {len(texts) - SHOWN} more"] if len(texts) > SHOWN else []
    return "; ".join(texts[:SHOWN] + more)


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(values.items()))


def notes(results: SuiteResults) -> list[str]:
    """Returns what a reader must know beside the tables, one sentence each."""
    suite, sentences = results.suite, []
    values = {p.value for p in suite.published}
    unpaired = [c.title for c in suite.columns if c.value not in values]
    if suite.columns and not suite.published:
        sentences.append("Published values: not found.")
    elif unpaired:
        sentences.append(f"No published value was found for: {'; '.join(unpaired)}.")
    if suite.published:
        sentences.append(
            f"Published values are taken from: {'; '.join(dict.fromkeys(p.source for p in suite.published))}."
        )
    if not suite.columns:
        sentences.append("This suite has no columns of scores; its tables count seeds and seconds.")
    for cells in results.clashes:
        sentences.append(f"{', '.join(cells)} share label, data and seed: their row mixes different settings.")
    if results.left_out:
        more = [f"and {len(results.left_out) - SHOWN} more"] if len(results.left_out) > SHOWN else []
        sentences.append(f"Left out of the results file: {'; '.join([*results.left_out[:SHOWN], *more])}.")
    complete = suite.expected_cells and not results.missing  # a cell that was run again has replaced what was lost
    if results.skipped_lines and not complete:
        sentences.append(f"Lines of the results file that were cut short and are left out: {results.skipped_lines}.")
    return sentences


def first_with_picture(cells: Iterable[FinishedCell], what: str) -> FinishedCell | None:
    """Returns the cell with the smallest seed that has such a picture."""
    return min((c for c in cells if what in c.pictures), key=lambda c: c.seed, default=None)
