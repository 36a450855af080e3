"""What a run says: a window of losses on the device, read rarely; a JSON line per window; any Accelerate tracker."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class RunStopped(RuntimeError):
    """A run that cannot go on; the message says where it stopped and what to try."""


class PeerLost(RunStopped):
    """Another process of the run is gone, and with it every step to come."""


class Window:
    """The scalars of the steps since the last read, kept on the device so that no step waits for the host."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, list[tuple[str, dict[str, Tensor]]]]] = []
        self._last_finite: dict[str, float] = {}

    def add(self, step: int, phases: Sequence[tuple[Sequence[str], Mapping[str, Tensor]]]) -> None:
        """Adds one step: per phase, the networks that it trains and its scalars."""
        self._steps.append((step, [("+".join(trains), dict(values)) for trains, values in phases]))

    def read(self, average: Any) -> dict[str, float]:
        """Returns each scalar's mean over the window and forgets it; `average` is the mean over processes.

        Raises:
            RunStopped: a scalar is not finite; the message names the phase, the step and the last finite values.
        """
        if not self._steps:
            return {}
        rows = [(step, phase, name, value) for step, phases in self._steps for phase, values in phases for name, value in values.items()]
        numbers = average(torch.stack([value.detach().float() for *_, value in rows])).tolist()
        sums: dict[str, list[float]] = {}
        for (step, phase, name, _), number in zip(rows, numbers, strict=True):
            if not math.isfinite(number):
                last = ", ".join(f"{key} {value:.4g}" for key, value in self._last_finite.items()) or "none"
                raise RunStopped(
                    f"{name} is {number} in the {phase} phase of step {step}. Last finite values: {last}. "
                    "Try a lower train.lr, train.clip=1, a longer objective.warmup, or look for bad images."
                )
            sums.setdefault(name, []).append(number)
            self._last_finite[name] = number
        self._steps.clear()
        return {name: sum(values) / len(values) for name, values in sums.items()}


class JsonLines:
    """An append-only log; on resume, the lines after the checkpoint are dropped so that no step is told twice."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def rewind(self, step: int) -> None:
        kept = [line for line in self.read() if line["step"] <= step]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def read(self) -> list[dict[str, Any]]:
        """Returns the whole lines; one that a kill cut short is left out."""
        lines = []
        for text in self.path.read_text().splitlines() if self.path.exists() else []:
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue
        return lines
