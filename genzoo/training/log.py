"""The losses of recent steps, kept on the device and read rarely; what counts as broken; the progress bar."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from genzoo.errors import RunStopped
from genzoo.progress import Bar, bar
from genzoo.training.budget import Pace


class Broken(RunStopped):
    """A step that training cannot continue from, found when its window was read."""

    def __init__(self, message: str, first: int, step: int):
        super().__init__(message)
        self.first, self.step = first, step  # of the window, of the trouble


# Times the largest of the last windows: healthy gradients vary 200-fold (on 8gaussians), exploding ones
# 10^4-fold.
EXPLODED = 1e3
N_BEFORE = 10, 50  # windows that decide what is usual: at least (the first steps may do anything), at most
ADVICE = (
    "Try a lower train.lr, train.clip=1, a longer warm-up (objective.warmup, if the model has one), "
    "or look for bad images."
)


class Window:
    """The scalars of the steps since the last read, kept on the device so that no step waits for the host.

    Args:
        lines: the log so far, which decides what is usual.
    """

    def __init__(self, lines: Sequence[Mapping[str, Any]] = ()) -> None:
        self._steps: list[tuple[int, list[tuple[str, dict[str, Tensor]]]]] = []
        self._numbers: dict[str, list[float]] = {}
        self._last_finite: dict[str, float] = {}
        self._sizes: dict[str, deque[float]] = {}
        self._losses: frozenset[str] = frozenset()
        for line in lines:
            self._remember(line)

    def add(self, step: int, phases: Sequence[tuple[Sequence[str], Mapping[str, Tensor]]]) -> None:
        """Adds one step: per phase, the optimizers that step and its scalars."""
        self._steps.append((step, [("+".join(keys), dict(values)) for keys, values in phases]))

    def fetch(self, average: Any) -> list[tuple[int, dict[str, float]]]:
        """Brings the scalars of the steps since the last fetch to the host, in order; `average` is the mean over
        processes.

        Raises:
            Broken: a scalar is not finite, or a loss or gradient has exploded in all these steps (a spike that heals is
                none); the message names the phase, the step and the last finite values.
        """
        if not self._steps:
            return []
        rows = [
            (step, phase, name, value)
            for step, phases in self._steps
            for phase, values in phases
            for name, value in values.items()
        ]
        numbers = average(torch.stack([value.detach().float() for *_, value in rows])).tolist()
        fetched: dict[int, dict[str, float]] = {}
        for (step, phase, name, _), number in zip(rows, numbers, strict=True):
            if not math.isfinite(number):
                raise self._broken(f"{name} is {number} in the {phase} phase of step {step}", step)
            fetched.setdefault(step, {})[name] = number
            self._last_finite[name] = number
        for step, phase, name, _ in rows:
            if step != rows[-1][0]:
                continue
            least = min(abs(scalars[name]) for scalars in fetched.values() if name in scalars)
            before = self._sizes.get(name, ())
            if len(before) >= N_BEFORE[0] and least > EXPLODED * max(before) > 0:
                raise self._broken(
                    f"{name} is {least:.4g} or more in the {phase} phase up to step {step}, "
                    f"and was at most {max(before):.4g}",
                    step,
                )
        self._steps.clear()
        for scalars in fetched.values():
            for name, number in scalars.items():
                self._numbers.setdefault(name, []).append(number)
        return list(fetched.items())

    def means(self) -> dict[str, float]:
        """Returns each fetched scalar's mean since the last call, and forgets them."""
        means = {name: sum(values) / len(values) for name, values in self._numbers.items()}
        self._numbers.clear()
        self._remember(means)
        return means

    def _remember(self, line: Mapping[str, Any]) -> None:
        """Adds a window to what is usual; after the warm-up, other losses start over."""
        losses = frozenset(name for name in line if name.startswith("loss/"))
        if not losses <= self._losses:
            self._losses = losses
            self._sizes.clear()
        for name, value in line.items():
            if name.startswith(("loss/", "gradient/")):
                self._sizes.setdefault(name, deque(maxlen=N_BEFORE[1])).append(abs(value))

    def _broken(self, what: str, step: int) -> Broken:
        last = ", ".join(f"{key} {value:.4g}" for key, value in self._last_finite.items()) or "none"
        return Broken(f"{what}. Last finite values: {last}. {ADVICE}", self._steps[0][0], step)


class _Bar(Bar):
    """A bar that shows the time left of a budget, where there is one, instead of an extrapolation of the rate."""

    def __init__(self, items: None, pace: Pace, **options: Any):
        self._pace = pace
        super().__init__(items, **options)

    @property
    def format_dict(self) -> dict[str, Any]:
        return {**super().format_dict, "left": self._pace.left()}


def progress_bar(name: str, done: int, total: int, shown: bool, pace: Pace) -> Bar:
    """A bar over images; where the output is not a terminal, a line now and then. A budget's time left is shown."""
    return bar(
        name=name,
        shown=shown,
        logged=True,
        kind=_Bar,
        pace=pace,
        initial=done,
        total=total,
        unit="img",
        unit_scale=True,
        bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {left}, {rate_fmt}{postfix}]"
        if pace.budget
        else None,
    )
