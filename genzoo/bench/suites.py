"""Suites: models, data, seeds and protocols in a TOML file; the built-in ones are in `suites/`."""

import re
import reprlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from itertools import product
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from genzoo.bench.lines import Column, Header, Published
from genzoo.configure import data_shape, resolve
from genzoo.duration import TimeSpan, divided, in_seconds, is_time
from genzoo.errors import UsageError, did_you_mean, shown
from genzoo.evaluation.protocols import get_protocol
from genzoo.recipes import recipe_lines, texts, without
from genzoo.registry import get_spec, list_models
from genzoo.spec import RunConfig, config

BUILT_IN = Path(__file__).with_name("suites")


@config
class Row:
    """One line of the tables: a model, or a form of one."""

    label: str
    model: str  # without preset
    settings: tuple[str, ...] = ()  # as in `genzoo train --set`
    budget: TimeSpan | None = None  # of every run of this row, instead of its data's
    # Seconds per image over the first row's: the row sees so many times fewer, see `DataSet.images`.
    per_image: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0


@config
class DataSet:
    """One dataset, and its settings of every model."""

    name: str  # in tables and file names
    preset: str  # of every row's model
    source: str | None = None  # as for `genzoo train --data`; None = the preset's own
    settings: tuple[str, ...] = ()
    budget: TimeSpan | None = None  # of every run on it: as in `genzoo train --budget`, planned where it runs
    images: Annotated[int, Field(gt=0)] | None = None  # of the first row; others see as many as take as long
    of: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by row label: settings for this row on this data
    metrics: tuple[str, ...] = ()  # protocols; empty = the suite's
    rows: tuple[str, ...] = ()  # labels that run on it; empty = all
    needs_gpu: bool = False
    cost: str = ""  # of one cell, measured or published


@config
class ColumnSpec:
    """One column of the tables; title and better direction come from the metric."""

    protocol: str
    value: str
    title: str | None = None  # instead of the metric's


@config
class Cell:
    """One run in an ordinary run folder, and the protocols that score it."""

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
    path: str | None = None  # of the data; None = found by its name
    budget: TimeSpan | None = None  # of time; `genzoo.bench.cell` plans it
    recipe: TimeSpan | None = None  # takes the settings of `--budget` for this time, but for what is planned

    @property
    def name(self) -> str:
        """The name of its run folder: `vae-8gaussians-s0`."""
        return f"{re.sub(r'[^A-Za-z0-9_.]+', '-', f'{self.label}-{self.data}')}-s{self.seed}"

    def config(self, settings: Sequence[str] | None = None) -> RunConfig:
        """Returns its configuration, but for what a plan decides; `settings` are taken instead of its own."""
        chosen = [*(self.settings if settings is None else settings), f"train.seed={self.seed}"]
        run = resolve(self.model, data=self.source, settings=chosen)
        if self.recipe is not None:  # the same on every machine, so without asking for a GPU
            spec, seconds = get_spec(self.model.partition(".")[0]), in_seconds(self.recipe)
            lines = without(recipe_lines(spec, data_shape(run), accelerated=False, budget_s=seconds), chosen)
            run = resolve(self.model, data=self.source, settings=[*texts(lines), *chosen])
        return replace(run, data=replace(run.data, name=self.path)) if self.path else run


@config
class SuiteSpec:
    """A suite's file."""

    title: str
    about: str = ""
    budget: TimeSpan | None = None  # of every run whose row and data give none
    recipe: TimeSpan | None = None  # settings of `--budget` for this time in every run, without its plan
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    settings: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    data: Annotated[tuple[DataSet, ...], Field(min_length=1)]
    columns: tuple[ColumnSpec, ...] = ()
    published: tuple[Published, ...] = ()

    def header(self, suite: str, cells: Iterable[Cell]) -> Header:
        """Returns the line that describes the suite to the report.

        Args:
            suite: its name.
            cells: what is expected, each name once or more.
        """
        columns = []
        for column in self.columns:
            protocol = get_protocol(column.protocol)
            title = column.title or protocol.title(column.value)
            columns.append(Column(column.protocol, column.value, title, protocol.values[column.value].better))
        return Header(
            suite=suite,
            title=self.title,
            about=self.about,
            columns=tuple(columns),
            published=self.published,
            expected_cells=tuple(dict.fromkeys(cell.name for cell in cells)),
        )

    def cells(
        self,
        suite: str,
        seeds: tuple[int, ...] | None = None,
        budget: str | None = None,
        paths: Mapping[str, str] | None = None,
    ) -> list[Cell]:
        """Lists the runs, first seeds first, so that the tables of an interrupted suite have no gaps.

        Args:
            suite: its name.
            seeds: instead of the file's.
            budget: of every run, instead of the file's: a time (3min), or a duration in images (20k) of the first row,
                which others divide by their `per_image`.
            paths: where datasets are, by the suite's names for them.

        Raises:
            UsageError: `paths` names a dataset that the suite does not have, or the budget is neither.
        """
        for name in paths or {}:
            if name not in (names := [data.name for data in self.data]):
                raise UsageError(
                    f"{suite} has no dataset {name!r}.{did_you_mean(name, names)} It has {', '.join(names)}."
                )
        timed = budget is not None and is_time(budget)

        def length(row: Row, data: DataSet) -> tuple[str, ...]:
            images = None if timed else budget or (data.images and str(data.images))
            try:
                return (f"train.duration={divided(images, row.per_image)}",) if images else ()
            except UsageError:
                raise UsageError(
                    f"--budget {shown(str(budget))[1:-1]}: write a time (3min), images (20k) or steps (500it) of every "
                    "run."
                ) from None

        return [
            Cell(
                suite=suite,
                label=row.label,
                data=data.name,
                seed=seed,
                model=f"{row.model}.{data.preset}",
                source=data.source,
                settings=(
                    *self.settings,
                    *data.settings,
                    *row.settings,
                    *data.of.get(row.label, ()),
                    *length(row, data),
                ),
                metrics=data.metrics or self.metrics,
                needs_gpu=data.needs_gpu,
                cost=data.cost,
                path=(paths or {}).get(data.name),
                budget=(row.budget or data.budget or self.budget) if budget is None else budget if timed else None,
                recipe=self.recipe,
            )
            for seed, data, row in product(seeds or self.seeds, self.data, self.rows)
            if not data.rows or row.label in data.rows
        ]


def list_suites() -> list[str]:
    """Names the built-in suites of which at least one model is installed, sorted."""
    return sorted(path.stem for path in BUILT_IN.glob("*.toml") if _installed(_read(path)))


def _installed(spec: SuiteSpec) -> tuple[Row, ...]:
    models = list_models()
    return tuple(row for row in spec.rows if row.model in models)


def get_suite(name: str) -> tuple[str, SuiteSpec]:
    """Reads a built-in suite by its name, or any other from a .toml file; returns its short name and its content.

    Raises:
        UsageError: there is no such suite (with suggestions), or the file is not a valid suite.
    """
    path = Path(name).expanduser() if name.endswith(".toml") else BUILT_IN / f"{name}.toml"
    if not path.is_file():
        raise UsageError(
            f"No suite is called {name!r}.{did_you_mean(name, list_suites())} "
            "`genzoo bench --list` shows all; a .toml file works, too."
        )
    spec = _read(path)
    _check_names(path, spec)
    if path.parent == BUILT_IN:  # a model may have been removed
        rows = _installed(spec)
        if not rows:
            raise UsageError(
                f"Suite {name} needs {', '.join({row.model for row in spec.rows})}, which is not installed."
            )
        spec = replace(spec, rows=rows)
    cells = spec.cells(path.stem)
    if len({cell.name for cell in cells}) < len(cells):
        raise UsageError(f"{path}: two rows or two datasets have the same name: rename one.")
    for cell in cells:  # now and not after hours of training
        cell.config()
        for metric in cell.metrics:
            get_protocol(metric)
    return path.stem, spec


def _read(path: Path) -> SuiteSpec:
    """Reads and types a suite's file. `like = "NAME"` takes what the file leaves out from the built-in suite NAME.

    Raises:
        UsageError: it is not a valid suite.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        if (base := content.pop("like", None)) is not None:
            shared = BUILT_IN / f"{base}.toml"
            if not shared.is_file():
                raise UsageError(f"{path}: like: no suite is called {base!r}.{did_you_mean(str(base), list_suites())}")
            content = tomllib.loads(shared.read_text(encoding="utf-8")) | content
        return TypeAdapter(SuiteSpec).validate_python(content)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']} (got {reprlib.repr(first['input'])})."
        ) from error


def _check_names(path: Path, spec: SuiteSpec) -> None:
    """Refuses labels that no row has and values that no protocol yields, which would be left out silently."""
    labels = [row.label for row in spec.rows]
    for data in spec.data:
        for label in (*data.rows, *data.of):
            if label not in labels:
                raise UsageError(f"{path}: {data.name} names a row {label!r}.{did_you_mean(label, labels)}")
        for row in spec.rows if data.images else ():
            settings = (*spec.settings, *data.settings, *row.settings, *data.of.get(row.label, ()))
            if row.budget or data.budget or spec.budget or any(text.startswith("train.duration=") for text in settings):
                raise UsageError(
                    f"{path}: {data.name} has images, and {row.label} a budget or a train.duration: leave one out."
                )
    for column in spec.columns:
        values = get_protocol(column.protocol).values
        if column.value not in values:
            raise UsageError(
                f"{path}: {column.protocol} has no value {column.value!r}.{did_you_mean(column.value, values)}"
            )
