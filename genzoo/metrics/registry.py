"""Metrics by the word that a protocol's name begins with.

A metric is one function behind `@metric(...)`, which declares all that the rest of genzoo needs to know of it:

    @metric(
        "contrast",
        inputs=Images,
        values={"contrast": Value("contrast", "higher")},
        definition="Mean standard deviation over the pixels of {n} samples.",
        examples=("contrast1k_train",),
    )
    def contrast(images: Images) -> Result:
        samples = torch.cat(list(images.generate(images.n)))
        return Result({"contrast": samples.flatten(1).std(dim=1).mean().item()})

The built-in metrics are in the modules of `genzoo.metrics`. Another distribution offers its own through an entry point
of the group `genzoo.metrics` that names the function or its module: `contrast = "mypackage.contrast"`. Entry points are
loaded when protocols are listed, or when one is asked for that genzoo itself does not have.
"""

import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from typing import Any, Literal, TypeVar

from genzoo import plugins
from genzoo.errors import UsageError
from genzoo.metrics.inputs import Inputs

GROUP = "genzoo.metrics"
Better = Literal["lower", "higher", "none"]

_WORD = re.compile(r"[a-z]([a-z0-9_]*[a-z])?")  # a number may follow it in a protocol's name
_metrics: dict[str, "Metric"] = {}  # by word
_plugins: dict[EntryPoint, str | None] = {}  # loaded entry points, with the error of those that failed


@dataclass(frozen=True)
class Value:
    """One number that a metric yields."""

    title: str  # of a table's column, with the unit
    better: Better = "none"
    inception: str | None = None  # the title on Inception's features, where the number has its own name there


@dataclass(frozen=True)
class Result:
    """The numbers that a metric found."""

    values: Mapping[str, float]  # by the names that the metric declares; those that do not apply are left out
    spreads: Mapping[str, float] = field(default_factory=dict)  # standard deviation over repeated draws from one model
    details: Mapping[str, Any] = field(default_factory=dict)  # for the result line


@dataclass(frozen=True)
class Metric:
    """A metric as it was declared."""

    word: str  # how the names of its protocols begin
    inputs: type[Inputs]
    values: Mapping[str, Value]
    definition: str  # a sentence for reports; {n}, {split} and {extractor} stand for those of a protocol
    examples: tuple[str, ...]  # names of protocols, for listings and suggestions
    inception: str | None  # the word on Inception's features, `fid` beside `fd`; None = the name says `inception`
    compute: Callable[[Any], Result]


In = TypeVar("In", bound=Inputs)


def metric(
    word: str,
    *,
    inputs: type[In],
    values: Mapping[str, Value],
    definition: str,
    examples: tuple[str, ...] = (),
    inception: str | None = None,
) -> Callable[[Callable[[In], Result]], Callable[[In], Result]]:
    """Registers the decorated function as a metric, and returns it unchanged; for the arguments see `Metric`.

    Raises:
        ValueError: the word is taken, or a number could not follow it.
    """
    for name in (word, inception or word):
        if not _WORD.fullmatch(name):
            raise ValueError(f"A metric's word is lower-case, starts and ends with a letter, and {name!r} does not.")

    def register(compute: Callable[[In], Result]) -> Callable[[In], Result]:
        for name in (word, inception or word):
            if any(name in (other.word, other.inception) for other in _metrics.values()):
                raise ValueError(f"There is a metric {name!r} already: choose another word.")
        _metrics[word] = Metric(word, inputs, values, definition, examples, inception, compute)
        return compute

    return register


def list_metrics(installed: bool = True) -> list[Metric]:
    """Returns all metrics, built-in ones first; with `installed`, those of other distributions too."""
    _load_built_in()
    if installed:
        _load_plugins()
    return list(_metrics.values())


def broken_plugins() -> list[str]:
    """Describes each distribution whose metrics could not be loaded, one line each."""
    _load_plugins()
    return [error for error in _plugins.values() if error is not None]


@functools.cache
def _load_built_in() -> None:
    package = importlib.import_module("genzoo.metrics")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"genzoo.metrics.{module.name}")


def _load_plugins() -> None:
    for point in (point for points in plugins.offers(GROUP).values() for point in points):
        if point not in _plugins:
            _plugins[point] = _load(point)


def _load(point: EntryPoint) -> str | None:
    """Imports what an entry point names, which registers its metrics; returns what went wrong, if anything."""
    try:
        plugins.load("Metric", point)
    except UsageError as error:
        return " ".join(str(error).split())
    return None
