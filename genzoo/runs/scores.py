"""The scores of a run's snapshots, read from its log."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "score/"  # of the scores' names in the log


@dataclass(frozen=True)
class Scored:
    """One snapshot."""

    nimg: int  # images seen
    seconds: float  # of training
    score: float  # lower is better


def scored(lines: Iterable[Mapping[str, Any]]) -> tuple[str, list[Scored]]:
    """Returns the name of the newest score in a log, and its values, oldest first; the name is "" if there is none.

    A run that was resumed by another version of genzoo may log two scores, which cannot be compared.
    """
    found: dict[str, list[Scored]] = {}
    newest = ""
    for line in lines:
        for name in line:
            if name.startswith(PREFIX):
                newest = name
                found.setdefault(name, []).append(Scored(line["nimg"], line.get("seconds", 0.0), line[name]))
    return newest, found.get(newest, [])
