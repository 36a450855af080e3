"""The scores of a run's snapshots, read from its log."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "score/"  # of the scores' names in the log
REFINED = "refined/"  # of the score with the prior that the run's flow has refined, at its end
DISTANCE = "distance/"  # of what is measured besides, by the name of a feature extractor


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
    lines = list(lines)
    newest = next((name for line in reversed(lines) for name in line if name.startswith(PREFIX)), "")
    return newest, measured(lines, PREFIX).get(newest, [])


def measured(lines: Iterable[Mapping[str, Any]], prefix: str) -> dict[str, list[Scored]]:
    """Returns what snapshots measured under names that begin with `prefix`, oldest first."""
    found: dict[str, list[Scored]] = {}
    for line in lines:
        for name in line:
            if name.startswith(prefix):
                found.setdefault(name, []).append(Scored(line["nimg"], line.get("seconds", 0.0), line[name]))
    return found
