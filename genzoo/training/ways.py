"""How a step runs fastest on this machine: `auto` precision, threads and compilation, decided by timing real steps.

What a processor announces does not decide it: bf16 makes a step twice as fast on one CPU and slower on another of the
same generation, and a second thread gains nothing at small batches. So a few steps are timed each way, on throwaway
networks and before the run's first step: before its warm-up ends and after it.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from genzoo.configure import in_section
from genzoo.duration import as_time, in_seconds
from genzoo.errors import UsageError
from genzoo.launcher import launcher_number
from genzoo.runs.folder import read_config
from genzoo.spec import RunConfig, TrainConfig
from genzoo.training.misfits import can_compile, may_pay_to_compile
from genzoo.training.threads import useful_threads
from genzoo.training.timing import LIMIT_S, Clock, Rehearsed, Steps, StepTimes, time_steps

ROUNDS = 25  # at most, of two ways that are compared
CHECK_S, CHECK_SHARE = 15.0, 0.01  # at most, and of a budget, for timing the chosen way once more
FEW = 5  # rounds that must fit into that
PAYS = 1.05  # times as fast as the simpler way, or it is not taken
# Seconds of a run from which compiling may pay; for images it does on a GPU only, and takes 80 s (benchmarks/gpu).
LONG_S = {"points": 600.0, "images": 3600.0}
COMPILED = {True: "compiled", "cudagraphs": "CUDA graphs"}
Rehearse = Callable[[RunConfig, Path], Rehearsed]  # makes a trainer with a run folder


@dataclass(frozen=True)
class Trial:
    """One way to run steps, timed."""

    trainer: Rehearsed
    times: StepTimes

    def __str__(self) -> str:
        return f"{way(self.trainer.config.train)}: {self.times}"


@dataclass(frozen=True)
class Trials:
    """All ways that were timed, in order."""

    tried: tuple[Trial, ...]
    best: Trial
    left_out: str = ""  # why others were not

    @property
    def settings(self) -> dict[str, Any]:
        """Values of the fields of TrainConfig that may be `auto`."""
        return {name: getattr(self.best.trainer.config.train, name) for name in ("precision", "threads", "compile")}

    def __str__(self) -> str:
        shown = "; ".join(f"{trial}{' (chosen)' if trial is self.best else ''}" for trial in self.tried)
        return f"{shown}{self.left_out}"


def way(c: TrainConfig) -> str:
    """Names how steps run: `bf16, 2 threads, compiled`."""
    threads = [f"{c.threads} thread{'s' if c.threads != 1 else ''}"] if c.threads else []
    return ", ".join([c.precision, *threads, *([COMPILED[c.compile]] if c.compile else [])])


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
    return replace(in_section(run, "train", {name: trials.settings[name] for name in names}), notes=(*run.notes, text))


def try_ways(run: RunConfig, rehearse: Callable[[RunConfig], Rehearsed], clock: Clock) -> Trials:
    """Times a run's steps each way that its `auto` settings leave open, for about LIMIT_S.

    One setting after the other. On a CPU: fp32 and bf16 with as many threads as may help, then fewer threads, halved
    while that is faster, then the compiled step. On a GPU: CUDA graphs, then bf16, which shows only where the GPU does
    not wait for the host, then the compiled step.
    """
    names = open_settings(run.train)
    most = torch.get_num_threads()
    if "threads" in names and launcher_number("WORLD_SIZE") == 1:  # several processes must all try the same
        most = useful_threads(most, clock)
    plain = {"precision": "fp32", "threads": most, "compile": False}
    trainer = rehearse(in_section(run, "train", {name: plain[name] for name in names}))
    on_cpu = trainer.acc.device.type == "cpu"
    if "threads" in names and not on_cpu:  # the host's threads hardly matter
        names.remove("threads")
        trainer = rehearse(in_section(trainer.config, "train", {"threads": None}))
    changes = _changes(names, most, trainer)
    best = Steps(trainer, clock)
    allotted = LIMIT_S / max(2, 2 * len(changes))  # for each of the two ways that are compared
    if not changes:
        best.fill(allotted)
    tried, worse, left_out = [best], set[str](), ""
    for name, value in changes:
        if name in worse:
            continue
        if value is True and seconds_of_run(best) < (long := LONG_S["points" if run.arch.perceptrons else "images"]):
            left_out = f"; compiling is for runs of {as_time(long)} and more"
            continue
        spent, one = sum(steps.spent for steps in tried), best.times().both
        if one > allotted and spent + one > LIMIT_S:
            left_out = f"; other ways would take more than {LIMIT_S:.0f} s to time"
            break
        try:
            other = Steps(rehearse(in_section(best.trainer.config, "train", {name: value})), clock)
        except (UsageError, RuntimeError) as error:  # of compilers too
            if name != "compile":
                raise
            left_out = "; not compiled: " + str(error).partition("\n")[0]  # known with the first step only
            continue
        tried.append(other)
        if _faster(best, other, allotted):
            best = other
        else:
            worse.add(name)
    trials = [Trial(steps.trainer, steps.times()) for steps in tried]
    return Trials(tuple(trials), trials[tried.index(best)], left_out)


def seconds_of_run(steps: Steps) -> float:
    """How long a run takes: its budget, or else all its steps, as the late ones were timed."""
    c = steps.trainer.config.train
    return in_seconds(c.budget) if c.budget is not None else steps.times().late * steps.trainer.total_steps


def _faster(best: Steps, other: Steps, seconds: float) -> bool:
    """Whether another way pays. They take turns: on a machine with neighbors, one second is not as fast as the next."""
    while len(other) < ROUNDS and other.spent <= seconds:
        best.round()
        other.round()
    return other.times().both * PAYS < best.times(last=len(other)).both


def _changes(names: Sequence[str], most: int, trainer: Rehearsed) -> list[tuple[str, Any]]:
    """What to try, one after the other."""
    run, acc = trainer.config, trainer.acc
    able = "compile" in names and can_compile(run.train, trainer.objective, acc.num_processes)
    changes: list[tuple[str, Any]] = [("compile", "cudagraphs")] if able and acc.device.type == "cuda" else []
    changes += [("precision", "bf16")] if "precision" in names else []
    if "threads" in names:
        changes += [("threads", most // 2**i) for i in range(1, most.bit_length())]
    return [*changes, ("compile", True)] if able and may_pay_to_compile(run, acc.device) else changes


def checked(best: Trial, budget_s: float, clock: Clock) -> Trial:
    """Times the steps of the chosen way again, and returns means: no machine is equally fast all the time.

    Not where hardly any would fit into the time that this may take.
    """
    seconds = min(CHECK_S, CHECK_SHARE * budget_s)
    if FEW * best.times.both > seconds:
        return best
    return Trial(best.trainer, time_steps(best.trainer, seconds, clock, fmean))
