"""The lines of `results/<suite>.jsonl`: the suite's header, and scores, finished cells and failures."""

from dataclasses import field
from typing import Any

from pydantic.dataclasses import dataclass

from genzoo.evaluation.lines import Line, ScoreLine
from genzoo.metrics.registry import Better


@dataclass(frozen=True)
class Column:
    """A column of a suite's tables: one value of one protocol."""

    protocol: str
    value: str
    title: str
    better: Better = "none"


@dataclass(frozen=True)
class Published:
    """A value as a paper printed it."""

    label: str
    data: str
    value: str
    text: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Header(Line):
    """The description of a suite; the last one of a file counts."""

    kind = "suite"

    suite: str
    title: str
    about: str = ""  # markdown
    columns: tuple[Column, ...] = ()
    published: tuple[Published, ...] = ()
    expected_cells: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CellLine(Line):
    """What all lines about a cell have in common."""

    suite: str = ""
    cell: str  # its name
    label: str  # of its row
    data: str
    seed: int = 0
    model: str = ""


@dataclass(frozen=True, kw_only=True)
class Score(CellLine, ScoreLine):
    """One protocol's values on a cell's model."""

    kind = "score"

    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class FinishedCell(CellLine):
    """A run that finished."""

    kind = "cell"

    overrides: dict[str, Any] = field(default_factory=dict)  # of the preset
    images_seen: int | None = None
    seconds: float | None = None  # of training
    seconds_in_all: float | None = None  # with scoring, of the process that finished the cell
    budget: str | None = None  # of time, that the run was planned for
    precision: str | None = None
    threads: int | None = None
    parameters: int | None = None
    curves: dict[str, list[float | None]] = field(default_factory=dict)  # "nimg" is the x axis
    guides: dict[str, float] = field(default_factory=dict)  # reference value of all curves "<key>/..."
    pictures: dict[str, str] = field(default_factory=dict)  # what it shows -> path below results/
    fingerprint: str = ""  # of everything that decides the cell's numbers


@dataclass(frozen=True, kw_only=True)
class Failure(CellLine):
    """A run that did not finish."""

    kind = "failure"

    reason: str


_CLASSES: dict[str, type[Header | Score | FinishedCell | Failure]] = {
    cls.kind: cls for cls in (Header, Score, FinishedCell, Failure)
}


def parse_line(record: dict[str, Any], where: str) -> Header | Score | FinishedCell | Failure | None:
    """Reads a line from its JSON object; None if it is of an unknown kind.

    Args:
        record: the object.
        where: names the line in messages.

    Raises:
        UsageError: a key is missing, or a value has the wrong type.
    """
    kind = record.get("kind")
    cls = _CLASSES.get(kind) if isinstance(kind, str) else None
    return cls.from_json(record, where) if cls else None
