"""What a program hooks into a run, and what a run says of its end."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from genzoo.duration import as_time
from genzoo.errors import UsageError

FIRST_S = 5.0  # seconds of steps after the first log line, in which code is loaded, that the first forecast is made by
SHORT_S = 60.0  # of a run whose length is not worth a line
OFF = 1.5  # times as long as forecast, or as short, from which the forecast is corrected


class Callback:
    """Base of callbacks; override what you need. The first process calls it, after everything is written.

    What it raises stops the run, which can be resumed from its last checkpoint.
    """

    def on_log(self, line: Mapping[str, Any]) -> None:
        """Called for each line of log.jsonl that holds losses: step, nimg, seconds and scalars by name."""

    def on_snapshot(self, folder: Path, position: Mapping[str, Any]) -> None:
        """Called after each snapshot: `folder / "model"` can be loaded; position is step, nimg and seconds."""


class Forecast(Callback):
    """Prints when a run will end, by its rate in spans that double, and corrects it: a warm-up is faster than the rest.

    Args:
        total_steps: of the run.
        report: prints one line.
        clock: seconds.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        total_steps: int,
        report: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ):
        self._total_steps, self._report, self._clock, self._now = total_steps, report, clock, now
        self._since: tuple[int, float] | None = None  # step and time at which the span began
        self._span = FIRST_S
        self._end: float | None = None  # by the clock, as forecast last

    def on_log(self, line: Mapping[str, Any]) -> None:
        step, now = line["step"], self._clock()
        if self._since is None or step <= self._since[0]:  # or it went back to a checkpoint
            self._since = step, now
            return
        passed = now - self._since[1]
        if passed < self._span:
            return
        left = (self._total_steps - step) * passed / (step - self._since[0])
        expected = None if self._end is None else max(self._end - now, 1.0)
        self._since, self._span = (step, now), 2 * self._span
        if left < SHORT_S or (expected is not None and 1 / OFF < left / expected < OFF):
            return
        self._end = now + left
        end = time.strftime("%a %H:%M", time.localtime(self._now() + left))
        self._report(f"step {step:,} of {self._total_steps:,}: about {as_time(left)} to go, until {end}")


def hooks(
    callbacks: Callback | Sequence[Callback], forecasts: bool, steps: int, report: Callable[[str], object]
) -> list[Callback]:
    """Returns the callbacks of a run of so many steps, a forecast of its end before those that were passed.

    Raises:
        UsageError: one of these is not a Callback.
    """
    callbacks = [callbacks] if isinstance(callbacks, Callback) else callbacks
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise UsageError(f"callbacks: {callback!r} is not a genzoo.Callback: pass objects of a subclass.")
    return [*([Forecast(steps, report)] if forecasts else []), *callbacks]
