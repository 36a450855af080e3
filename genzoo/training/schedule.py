"""When a run takes a snapshot: at planned steps, and at least once in so many minutes."""

import time

FIRST_S = 60.0  # the first snapshot by the clock comes after a minute; then the pauses double


class Schedule:
    """Decides by steps, alike on all processes, and by the clock of this one.

    Args:
        every_steps: steps between planned snapshots.
        minutes: the longest pause by the clock.
    """

    def __init__(self, every_steps: int, minutes: float):
        self.every_steps, self._minutes = every_steps, minutes
        self._earlier, self._began, self.last, self._pause = 0.0, time.monotonic(), time.monotonic(), FIRST_S

    def start(self, earlier: float) -> None:
        """Starts the clock; `earlier` is how many seconds the run has been trained before."""
        self._earlier, self._began, self.last, self._pause = earlier, time.monotonic(), time.monotonic(), FIRST_S

    def seconds(self) -> float:
        """Seconds of training, over all restarts."""
        return self._earlier + time.monotonic() - self._began

    def planned(self, step: int) -> bool:
        return step % self.every_steps == 0

    def due(self, step: int) -> bool:
        return self.planned(step) or time.monotonic() - self.last > min(self._pause, 60 * self._minutes)

    def taken(self) -> None:
        """Restarts the pause, twice as long."""
        self._pause *= 2
        self.last = time.monotonic()
