"""Arithmetic of a run with a budget of time: how many steps and snapshots fit in, and whether it is late."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from genzoo.duration import as_time, in_seconds
from genzoo.errors import UsageError
from genzoo.training.schedule import FIRST_S

LATE = 1.1  # times the budget, from which a run says that it will be late
SPARE = 0.02  # of the budget, for what is not measured
LEAST_STEPS = 50
SNAPSHOTS = 20  # at most
PAUSE_S = 25.0  # between snapshots, at least
LAST = 1  # more, in snapshots: the last one fits its prior to more encodings
SNAPSHOT_SHARE = 0.1  # of the time, at most, for snapshots


@dataclass(frozen=True)
class Costs:
    """What a run takes on this machine, in seconds."""

    warmup: float  # a step before the warm-up ends
    late: float  # a step after it
    snapshot: float
    start: float = 0.0  # from the end of measuring to the first step
    flow: float = 0.0  # a step of the flow that is trained at the end


@dataclass(frozen=True)
class Plan:
    """The length of a run."""

    steps: int
    snapshots: int  # planned ones; at equal distances, the last one at the end, unless the user chose them


def plan_run(
    budget: str,
    passed: float,
    costs: Costs,
    warmup_steps: Callable[[int], int],
    minutes: float = 10.0,
    chosen: Callable[[int], int] | None = None,
    flow_steps: Callable[[int], int] = lambda steps: 0,
) -> Plan:
    """Plans a run that ends, with its last snapshot, when its budget does.

    Args:
        budget: as `in_seconds` reads it.
        passed: seconds of it that have passed.
        costs: measured.
        warmup_steps: steps in the run -> those of its warm-up.
        minutes: the longest pause between snapshots, see `Schedule`.
        chosen: steps in the run -> its snapshots; None plans them.
        flow_steps: steps in the run -> those of its flow.

    Raises:
        UsageError: not even LEAST_STEPS and the last snapshot fit in; the message names the least budget.
    """
    seconds = in_seconds(budget)

    def cost(steps: int) -> float:
        warmup = min(steps, warmup_steps(steps))
        return warmup * costs.warmup + (steps - warmup) * costs.late + flow_steps(steps) * costs.flow

    left = (1 - SPARE) * seconds - passed - costs.start
    if chosen is None:
        snapshots = count_snapshots(left, costs.snapshot)
        taken = snapshots + LAST + by_clock(left, snapshots, minutes)
        steps = most_steps(left - taken * costs.snapshot, cost)
    else:
        steps = most_steps(left, lambda n: cost(n) + (chosen(n) + LAST) * costs.snapshot)
        snapshots = chosen(steps)
    if steps < LEAST_STEPS:
        needs = passed + costs.start + (1 + LAST) * costs.snapshot + cost(LEAST_STEPS)
        flow = ", the flow" if flow_steps(LEAST_STEPS) else ""
        raise UsageError(
            f"--budget {budget} is too short: measuring, {LEAST_STEPS} steps{flow} and the last snapshot take about "
            f"{needs:.0f} s here: give at least {as_time(1.2 * needs / (1 - SPARE))}."
        )
    if chosen is not None:
        return Plan(steps, snapshots)
    snapshots = min(snapshots, steps)
    return Plan(steps // snapshots * snapshots, snapshots)


def count_snapshots(seconds: float, cost: float) -> int:
    """How many snapshots a run of so many seconds takes: one in PAUSE_S at most, for SNAPSHOT_SHARE of the time."""
    return max(1, min(SNAPSHOTS, int(seconds / max(PAUSE_S, cost / SNAPSHOT_SHARE))))


def by_clock(seconds: float, planned: int, minutes: float) -> int:
    """How many snapshots `Schedule` takes by the clock in so many seconds, between those that are planned."""
    if seconds <= 0:
        return 0
    interval, pause, found = seconds / planned, FIRST_S, 0
    for _ in range(planned):
        left = interval
        while left > (wait := min(pause, 60 * minutes)):
            left, pause, found = left - wait, 2 * pause, found + 1
        pause *= 2
    return found


def most_steps(seconds: float, cost: Callable[[int], float]) -> int:
    """Returns the largest number of steps whose cost, which grows with them, is at most so many seconds."""
    if cost(1) > seconds:
        return 0
    low, high = 1, 2
    while cost(high) <= seconds:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= seconds else (low, middle)
    return low


class Pace:
    """Compares a run with its budget.

    Args:
        budget: as `in_seconds` reads it; None = there is none.
        began: when its time began, by `clock`.
        clock: seconds.
    """

    def __init__(self, budget: str | None, began: float, clock: Callable[[], float] = time.monotonic):
        self.budget, self._began, self._clock = budget, began, clock
        self._earlier, self._last, self._said = 0.0, (0, 0.0), False

    def start(self, earlier: float) -> None:
        """Begins training; the run was trained for `earlier` seconds before this process."""
        self._earlier = earlier

    def passed(self) -> float:
        """Seconds of training, over all restarts, and of planning, in the process that planned."""
        return self._earlier + self._clock() - self._began

    def left(self) -> str:
        """What the progress bar shows: `1:20 left of 3min`."""
        if self.budget is None:
            return ""
        left = in_seconds(self.budget) - self.passed()
        return f"{_minutes(left)} left of {self.budget}" if left >= 0 else f"{_minutes(-left)} over {self.budget}"

    def late(self, step: int, total_steps: int) -> str | None:
        """Called before each snapshot: says once that, at the rate since the last one, the run will be late, or is.

        The schedule stays: a run that depended on the machine's load could not be resumed exactly.
        """
        if self.budget is None:
            return None
        (step_before, before), now = self._last, self.passed()
        self._last = step, now
        if self._said or (step < total_steps and not (0 < step_before < step)):
            return None
        rate = (now - before) / (step - step_before) if step < total_steps else 0.0
        end = now + (total_steps - step) * rate
        if end <= LATE * in_seconds(self.budget):
            return None
        self._said = True
        return (
            f"slower than when it was planned: at this rate the run ends after {_minutes(end)} instead of "
            f"{self.budget}; its schedule stays"
        )


def _minutes(seconds: float) -> str:
    """`0:47`, `12:03`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
