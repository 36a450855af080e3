"""How a step runs fastest on this machine: `auto` precision, threads and compilation, decided by timing real steps.

What a processor announces does not decide it: bf16 makes a step twice as fast on one CPU and slower on another of the
same generation, and a second thread gains nothing at small batches. So a few steps are timed each way, on throwaway
networks and before the run's first step: before its warm-up ends and after it.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import torch

from genzoo.configure import in_section
from genzoo.data import Dataset
from genzoo.data.batches import Batches
from genzoo.errors import UsageError
from genzoo.objective import Objective, Progress
from genzoo.registry import get_spec
from genzoo.runs.folder import read_config
from genzoo.spec import RunConfig, TrainConfig
from genzoo.training.iteration import Iteration
from genzoo.training.launch import Processes, alike, deterministic
from genzoo.training.misfits import can_compile, may_pay_to_compile
from genzoo.training.plan import LATE

LIMIT_S = 5.0  # for all ways together, without compilation
CONVOLUTIONS = 8  # the first one does not count
ROUNDS = 25  # at most, of one way
PAYS = 1.05  # times as fast as the simpler way, or it is not taken
Clock = Callable[[], float]


class Rehearsed(Protocol):
    """What timing needs of a trainer, whose networks are thrown away."""

    config: RunConfig
    acc: Processes
    dataset: Dataset
    objective: Objective
    iteration: Iteration

    def data(self) -> Batches: ...


Rehearse = Callable[[RunConfig, Path], Rehearsed]  # makes a trainer with a run folder


@dataclass(frozen=True)
class StepTimes:
    """Seconds per step of one way."""

    warmup: float
    late: float  # after the warm-up; the same where there is none
    first: float  # of the first steps, which load or compile their code
    timed: float  # of all steps, but for compilation

    @property
    def both(self) -> float:
        return self.warmup + self.late


@dataclass(frozen=True)
class Trial:
    """One way to run steps, timed."""

    trainer: Rehearsed
    times: StepTimes

    def __str__(self) -> str:
        c, ms = self.trainer.config.train, [f"{1000 * t:.3g}" for t in (self.times.warmup, self.times.late)]
        figures = f"{ms[1]} ms a step" if ms[0] == ms[1] else f"{ms[0]} ms a step in the warm-up, {ms[1]} ms later"
        return f"{way(c)}: {figures}"


@dataclass(frozen=True)
class Trials:
    """All ways that were timed, in order."""

    tried: tuple[Trial, ...]
    best: Trial
    left_out: str = ""  # why others were not

    @property
    def settings(self) -> dict[str, Any]:
        """Values of the fields of TrainConfig that may be `auto`."""
        c = self.best.trainer.config.train
        return {"precision": c.precision, "threads": c.threads, "compile": c.compile}

    def __str__(self) -> str:
        shown = "; ".join(f"{trial}{' (chosen)' if trial is self.best else ''}" for trial in self.tried)
        return f"{shown}{self.left_out}"


def way(c: TrainConfig) -> str:
    """Names how steps run: `bf16, 2 threads, compiled`."""
    threads = [f"{c.threads} thread{'s' if c.threads != 1 else ''}"] if c.threads else []
    return ", ".join([c.precision, *threads, *(["compiled"] if c.compile else [])])


def open_settings(c: TrainConfig) -> list[str]:
    """Names the fields that are `auto`."""
    return [name for name in ("precision", "threads", "compile") if getattr(c, name) == "auto"]


def settled(run: RunConfig, folder: Path, rehearse: Rehearse, clock: Clock = time.perf_counter) -> RunConfig:
    """Decides the settings of a run that are `auto`: as the run in `folder` has them, else by timing, which is printed.

    Args:
        run: what is about to be trained; returned as it is where nothing is `auto`.
        folder: of the run.
        rehearse: makes a trainer with throwaway networks.
        clock: seconds.
    """
    names = open_settings(run.train)
    if not names:
        return run
    saved = read_config(folder)
    if saved is not None:
        return in_section(run, "train", {name: getattr(saved.train, name) for name in names})
    with tempfile.TemporaryDirectory() as temporary:
        trials = try_ways(run, lambda one: rehearse(one, Path(tempfile.mkdtemp(dir=temporary))), clock)
        text = f"timed here: {trials}"
        trials.best.trainer.acc.print(text)
    chosen = {name: trials.settings[name] for name in names}
    return replace(in_section(run, "train", chosen), notes=(*run.notes, text))


def try_ways(run: RunConfig, rehearse: Callable[[RunConfig], Rehearsed], clock: Clock) -> Trials:
    """Times a run's steps each way that its `auto` settings leave open, for about LIMIT_S.

    One setting after the other: fp32 and bf16 with as many threads as help one convolution, then fewer threads, halved
    while that is faster, then the compiled step.
    """
    names = open_settings(run.train)
    most = torch.get_num_threads()
    if "threads" in names and int(os.environ.get("WORLD_SIZE", 1)) == 1:  # several processes must all try the same
        most = useful_threads(most, clock)
    plain = {"precision": "fp32", "threads": most, "compile": False}
    trainer = rehearse(in_section(run, "train", {name: plain[name] for name in names}))
    on_cpu = trainer.acc.device.type == "cpu"
    if "threads" in names and not on_cpu:  # the host's threads hardly matter
        names.remove("threads")
        trainer = rehearse(in_section(trainer.config, "train", {"threads": None}))
    changes = _changes(names, most, trainer)
    allotted = LIMIT_S / (1 + len(changes))
    best = Trial(trainer, time_steps(trainer, allotted, clock))
    tried, worse, left_out = [best], set[str](), ""
    for name, value in changes:
        if name in worse:
            continue
        spent = sum(trial.times.timed for trial in tried)
        if best.times.both > allotted and spent + best.times.both > LIMIT_S:
            left_out = f"; other ways would take more than {LIMIT_S:.0f} s to time"
            break
        trainer = rehearse(in_section(best.trainer.config, "train", {name: value}))
        try:
            trial = Trial(trainer, time_steps(trainer, allotted, clock))
        except UsageError:
            if name != "compile":
                raise
            continue  # what an objective does that cannot be compiled is known with its first step only
        tried.append(trial)
        if trial.times.both * PAYS < best.times.both:
            best = trial
        else:
            worse.add(name)
    return Trials(tuple(tried), best, left_out)


def useful_threads(most: int, clock: Clock) -> int:
    """The number of threads, halved down from `most`, with which one convolution is the fastest.

    On a machine whose cores are busy, threads that wait for each other make a step up to 100 times as slow: that must
    not be found out by timing a whole one.
    """
    x, weight = torch.ones(16, 32, 32, 32), torch.ones(32, 32, 3, 3)
    seconds = dict[int, float]()
    for n in (most // 2**i for i in range(most.bit_length())):
        with torch_threads(n), torch.no_grad():
            times = []
            for _ in range(CONVOLUTIONS):
                began = clock()
                torch.nn.functional.conv2d(x, weight)
                times.append(clock() - began)
        seconds[n] = sum(times[1:])
    return min(seconds, key=lambda n: (seconds[n], -n))


def _changes(names: Sequence[str], most: int, trainer: Rehearsed) -> list[tuple[str, Any]]:
    """What to try, one after the other."""
    changes: list[tuple[str, Any]] = [("precision", "bf16")] if "precision" in names else []
    if "threads" in names:
        changes += [("threads", most // 2**i) for i in range(1, most.bit_length())]
    run, acc = trainer.config, trainer.acc
    able = can_compile(run.train, trainer.objective, acc.num_processes) and may_pay_to_compile(run, acc.device)
    return [*changes, ("compile", True)] if "compile" in names and able else changes


def time_steps(trainer: Rehearsed, seconds: float, clock: Clock) -> StepTimes:
    """Times a trainer's steps: the medians of as many as fit into `seconds`, or the first ones where these do not."""
    run, acc = trainer.config, trainer.acc
    parts = trainer.data()[0]
    batch, n = run.train.batch, len(parts)
    total, epoch = (LATE + 1) * batch * n, trainer.dataset.size
    warmup = get_spec(run.model.partition(".")[0]).warmup(run.objective)
    steps = (LATE,) if warmup == "0" else (0, LATE)

    def timed(step: int) -> float:
        began = clock()
        trainer.iteration(parts, Progress(step, batch, total, epoch_nimg=epoch, parts=n))
        if acc.device.type != "cpu":
            torch.accelerator.synchronize()
        return alike([clock() - began], acc)[0]

    with torch_threads(run.train.threads), deterministic(acc.device):
        first = {step: timed(step) for step in steps}
        if sum(first.values()) > LIMIT_S and not run.train.compile:
            return StepTimes(first[steps[0]], first[LATE], sum(first.values()), sum(first.values()))
        times: Mapping[int, list[float]] = {step: [] for step in steps}
        spent = 0.0 if run.train.compile else sum(first.values())
        while len(times[LATE]) < ROUNDS and (spent < seconds or not times[LATE]):
            for step in steps:
                times[step].append(timed(step))
                spent += times[step][-1]
    return StepTimes(median(times[steps[0]]), median(times[LATE]), sum(first.values()), spent)


@contextmanager
def torch_threads(n: int | str | None) -> Iterator[None]:
    """Lets PyTorch use so many threads; None changes nothing."""
    before = torch.get_num_threads()
    if isinstance(n, int):
        torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
