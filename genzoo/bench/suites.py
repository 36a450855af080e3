"""Suites: which models on which data, with which seeds and protocols, as TOML files; the built-in ones lie in `suites/`."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import field, replace
from itertools import product
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from genzoo.bench.results import Column, Published
from genzoo.errors import UsageError, suggest
from genzoo.metrics.protocols import get_protocol
from genzoo.resolve import resolve
from genzoo.spec import RunConfig, config

BUILT_IN = Path(__file__).with_name("suites")


@config
class Row:
    """One line of the tables: a model, or a form of one."""

    label: str
    model: str  # without preset
    settings: tuple[str, ...] = ()  # as in `genzoo train --set`


@config
class DataSet:
    """One data set, and what it asks of every model."""

    name: str  # in tables and file names
    preset: str  # of every row's model
    source: str | None = None  # what `genzoo train --data` takes; none = the preset's own
    settings: tuple[str, ...] = ()
    of: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by row label: settings for this row on this data
    metrics: tuple[str, ...] = ()  # protocols; none = the suite's
    rows: tuple[str, ...] = ()  # labels that run on it; none = all
    needs_gpu: bool = False
    cost: str = ""  # what one cell takes, measured or published


@config
class Cell:
    """One run: an ordinary run folder, and the protocols that score it."""

    suite: str
    label: str
    data: str
    seed: int
    model: str  # with preset
    source: str | None
    settings: tuple[str, ...]
    metrics: tuple[str, ...]
    needs_gpu: bool = False
    cost: str = ""
    place: str | None = None  # where the data lies; none = where its name leads

    @property
    def name(self) -> str:
        """Names its run folder: softintrovae-8gaussians-s0."""
        return f"{re.sub(r'[^A-Za-z0-9_.]+', '-', f'{self.label}-{self.data}')}-s{self.seed}"

    def config(self) -> RunConfig:
        run = resolve(self.model, data=self.source, settings=[*self.settings, f"train.seed={self.seed}"])
        return replace(run, data=replace(run.data, name=self.place)) if self.place else run


@config
class SuiteSpec:
    """A suite's file."""

    title: str
    about: str = ""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    settings: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    data: Annotated[tuple[DataSet, ...], Field(min_length=1)]
    columns: tuple[Column, ...] = ()
    published: tuple[Published, ...] = ()

    def cells(
        self, suite: str, seeds: tuple[int, ...] | None = None, budget: str | None = None, places: Mapping[str, str] | None = None
    ) -> list[Cell]:
        """Lists the runs, first seeds first, so that a broken-off suite has whole tables.

        Args:
            suite: its name.
            seeds: instead of the file's.
            budget: duration of every run, instead of the file's; see genzoo.duration.
            places: by the name of a data set, where it lies: it is read as the suite reads it.

        Raises:
            UsageError: `places` names a data set that the suite has not.
        """
        for name in places or {}:
            if name not in (names := [data.name for data in self.data]):
                raise UsageError(f"{suite} has no data set {name!r}.{suggest(name, names)} It has {', '.join(names)}.")
        length = (f"train.duration={budget}",) if budget else ()
        return [
            Cell(
                suite=suite,
                label=row.label,
                data=data.name,
                seed=seed,
                model=f"{row.model}.{data.preset}",
                source=data.source,
                settings=(*self.settings, *data.settings, *row.settings, *data.of.get(row.label, ()), *length),
                metrics=data.metrics or self.metrics,
                needs_gpu=data.needs_gpu,
                cost=data.cost,
                place=(places or {}).get(data.name),
            )
            for seed, data, row in product(seeds or self.seeds, self.data, self.rows)
            if not data.rows or row.label in data.rows
        ]


def list_suites() -> list[str]:
    return sorted(path.stem for path in BUILT_IN.glob("*.toml"))


def get_suite(name: str) -> tuple[str, SuiteSpec]:
    """Reads a built-in suite by its name, or one of the user's from a .toml file; returns its short name and what it says.

    Raises:
        UsageError: no such suite (with suggestions), or the file says something that no suite can.
    """
    path = Path(name).expanduser() if name.endswith(".toml") else BUILT_IN / f"{name}.toml"
    if not path.is_file():
        raise UsageError(
            f"No suite is called {name!r}.{suggest(name, list_suites())} `genzoo bench --list` shows all; a .toml file works too."
        )
    try:
        spec = TypeAdapter(SuiteSpec).validate_python(tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']} (got {first['input']!r}).") from error
    _check_names(path, spec)
    cells = spec.cells(path.stem)
    if len({cell.name for cell in cells}) < len(cells):
        raise UsageError(f"{path}: two rows or two data sets have the same name: tell them apart.")
    for cell in cells:  # mistakes show now and not after the first hours
        cell.config()
        for metric in cell.metrics:
            get_protocol(metric)
    return path.stem, spec


def _check_names(path: Path, spec: SuiteSpec) -> None:
    """Refuses labels that no row has, and columns of values that no protocol yields: nothing would be said of them later."""
    labels = [row.label for row in spec.rows]
    for data in spec.data:
        for label in (*data.rows, *data.of):
            if label not in labels:
                raise UsageError(f"{path}: {data.name} names a row {label!r}.{suggest(label, labels)}")
    for column in spec.columns:
        values = get_protocol(column.protocol).values
        if column.value not in values:
            raise UsageError(f"{path}: {column.protocol} has no value {column.value!r}.{suggest(column.value, values)}")
