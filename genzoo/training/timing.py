"""How long a step takes: one of the warm-up and one after it, with throwaway networks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import median
from typing import Protocol

import torch

from genzoo.data import Dataset
from genzoo.data.batches import Batches, useful_workers
from genzoo.objective import Objective, Progress
from genzoo.registry import get_spec
from genzoo.spec import RunConfig
from genzoo.training.iteration import Iteration
from genzoo.training.launch import Processes, alike, deterministic, round_products
from genzoo.training.plan import LATE
from genzoo.training.threads import torch_threads

LIMIT_S = 5.0  # for all ways together, without compilation
RECORDED = 5  # rounds after which CUDA graphs of all parts of a step have been recorded
Clock = Callable[[], float]


class Rehearsed(Protocol):
    """What timing needs of a trainer, whose networks are thrown away."""

    config: RunConfig
    acc: Processes
    dataset: Dataset
    total_steps: int
    objective: Objective
    iteration: Iteration

    def data(self) -> Batches: ...


@dataclass(frozen=True)
class StepTimes:
    """Seconds per step of one way."""

    warmup: float
    late: float  # after the warm-up; the same where there is none
    first: float  # of the first steps, which load or compile their code

    def __str__(self) -> str:
        before, after = (f"{1000 * t:.3g} ms" if t < 1 else f"{t:.3g} s" for t in (self.warmup, self.late))
        return f"{after} a step" if before == after else f"{before} a step in the warm-up, {after} later"

    @property
    def both(self) -> float:
        return self.warmup + self.late


class Steps:
    """Steps of one way, timed round by round: one of the warm-up and one after it; two, where one in so many does more.

    The first steps, which load or compile their code, and one round are taken at once; no round where the first steps
    alone, without compilation, took longer than all ways may.

    Args:
        trainer: whose steps they are.
        clock: seconds.
    """

    def __init__(self, trainer: Rehearsed, clock: Clock) -> None:
        run, batches, size = trainer.config, trainer.data(), trainer.dataset.size
        warmup = get_spec(run.model.partition(".")[0]).warmup(run.objective)
        batch, parts = run.train.batch, batches.parts
        self.trainer, self._clock, self._batches, self._numbers = trainer, clock, batches, count()
        self._period = trainer.objective.period
        last = (LATE + 1) // self._period * self._period - 1  # of a period
        late = (last,) if self._period == 1 else (last - 1, last)
        self._at = [
            Progress(step, batch, (LATE + 1) * batch * parts, epoch_nimg=size, parts=parts)
            for step in (late if warmup == "0" else (0, *late))
        ]
        c = run.train
        workers = useful_workers(trainer.dataset) if c.workers is None else c.workers
        self._loads = trainer.acc.device.type == "cpu" and not workers  # else batches are there when a step begins
        self._rounds = list[list[float]]()
        self._first = self._round()
        for _ in range(RECORDED if c.compile == "cudagraphs" else 0):
            self._first = [sum(pair) for pair in zip(self._first, self._round(), strict=True)]
        if c.compile or self.spent < LIMIT_S:
            self.round()

    def __len__(self) -> int:
        """Rounds, without the first steps."""
        return len(self._rounds)

    def round(self) -> None:
        self._rounds.append(self._round())

    def fill(self, seconds: float) -> None:
        """Times rounds until so many seconds are spent."""
        while self.spent < seconds:
            self.round()

    def times(self, average: Callable[[Sequence[float]], float] = median, last: int = 0) -> StepTimes:
        """Returns averages of the `last` rounds, 0 = all; without any round, the times of the first steps."""
        means = [average(seconds) for seconds in zip(*(self._rounds[-last:] or [self._first]), strict=True)]
        rare = means.pop() if self._period > 1 else means[-1]
        late = means[-1] + (rare - means[-1]) / self._period
        return StepTimes(means[0] if len(means) > 1 else late, late, sum(self._first))

    @property
    def spent(self) -> float:
        """Seconds of all steps, but for compilation."""
        return sum(map(sum, self._rounds)) + (0.0 if self.trainer.config.train.compile else sum(self._first))

    def _round(self) -> list[float]:
        acc, seconds = self.trainer.acc, list[float]()
        round_products(self.trainer.config.train.precision)  # the trainer that was made last has decided it
        with torch_threads(self.trainer.config.train.threads), deterministic(acc.device):
            for at in self._at:
                number = next(self._numbers)
                loaded = None if self._loads else self._batches[number]
                began = self._clock()
                self.trainer.iteration(self._batches[number] if loaded is None else loaded, at)
                if acc.device.type != "cpu":
                    torch.accelerator.synchronize()
                seconds += alike([self._clock() - began], acc)
        return seconds


def time_steps(
    trainer: Rehearsed, seconds: float, clock: Clock, average: Callable[[Sequence[float]], float] = median
) -> StepTimes:
    """Times a trainer's steps: the averages of as many as fit into `seconds`, or the first ones where these do not."""
    steps = Steps(trainer, clock)
    steps.fill(seconds)
    return steps.times(average)
