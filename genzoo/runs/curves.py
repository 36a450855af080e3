"""The log of a run as its pictures show it: each line is read once, and so many are kept at most."""

from collections.abc import Mapping
from typing import Any

from genzoo.files import JsonLines
from genzoo.runs.scores import DISTANCE, PREFIX, REFINED

MOST = 4000  # lines of losses: more than a picture has pixels across


class Curves:
    """Keeps the lines of a growing log: all that snapshots wrote, and of the others every one, then every second, every
    fourth, ..., at most MOST.

    Args:
        log: of the run.
    """

    def __init__(self, log: JsonLines):
        self._log, self._replaced = log, -1
        self._forget()

    def _forget(self) -> None:
        self._offset, self._count, self._every = 0, 0, 1
        self._snapshots: list[tuple[int, Mapping[str, Any]]] = []  # with the number of each line
        self._others: list[tuple[int, Mapping[str, Any]]] = []

    def lines(self) -> list[Mapping[str, Any]]:
        """Reads what was logged since the last call; returns the lines that are kept, in the order of the log."""
        if self._replaced != self._log.replaced:  # it was rewound
            self._replaced = self._log.replaced
            self._forget()
        new, self._offset = self._log.read_from(self._offset)
        for line in new:
            self._add(line)
        last = [(self._count - 1, new[-1])] if new else []  # the newest values are always shown
        kept = {number: line for number, line in (*self._snapshots, *self._others, *last)}
        return [kept[number] for number in sorted(kept)]

    def _add(self, line: Mapping[str, Any]) -> None:
        number, self._count = self._count, self._count + 1
        if any(name.startswith((PREFIX, REFINED, DISTANCE)) for name in line):
            self._snapshots.append((number, line))
        elif number % self._every == 0:
            self._others.append((number, line))
        if len(self._others) > MOST:
            self._every *= 2
            self._others = [(number, line) for number, line in self._others if number % self._every == 0]
