"""What a run cannot be, once its data, networks and machine are known."""

import os
import shutil

import torch
from torch import nn

from genzoo.data import Dataset
from genzoo.errors import UsageError
from genzoo.objective import Objective
from genzoo.spec import RunConfig, TrainConfig
from genzoo.training.plan import refuse_single_values

LOOKED_AT = 64  # items, about, not all of which may be the same if a setting is to be chosen by their errors


def refuse_misfits(run: RunConfig, objective: Objective, world: int, total_steps: int) -> None:
    """Refuses a run that its settings cannot describe.

    Raises:
        UsageError: a batch that does not divide, or into parts too small for BatchNorm, a step that cannot be compiled,
            or a run without a step.
    """
    c = run.train
    if c.batch % (world * c.accumulate):
        raise UsageError(
            f"train.batch={c.batch} does not divide over {world} processes x {c.accumulate} micro-batches: "
            "choose a multiple."
        )
    if c.compile and not can_compile(c, objective, world):
        raise UsageError(
            "train.compile=true takes one process, and neither train.checkpointing nor an objective with networks of "
            "its own: leave it out, or them."
        )
    if not total_steps:
        raise UsageError(f"train.duration={c.duration} is not even one image: use a longer one, e.g. --images 100k.")
    refuse_single_values(run, world, objective.spaces)


def refuse_constant(objective: Objective, dataset: Dataset) -> None:
    """Refuses settings that choose themselves on data without variance: there is nothing to choose them by.

    Raises:
        UsageError: LOOKED_AT items, evenly spaced, are all the same.
    """
    if not objective.controllers or dataset.size is None:
        return
    items = dataset.batch(range(0, dataset.size, max(1, dataset.size // LOOKED_AT)))
    if (items == items[:1]).all():
        names = " and ".join(f"objective.{name}" for name in objective.controllers)
        raise UsageError(
            f"{names} cannot be chosen: the {len(items)} items looked at, of {dataset.size:,}, are all the same. Check "
            f"--data, or give a number: --set objective.{next(iter(objective.controllers))}=1."
        )


def can_compile(c: TrainConfig, objective: Objective, world: int) -> bool:
    """Whether a step of this run can be compiled."""
    return world == 1 and not c.checkpointing and not isinstance(objective, nn.Module)


def may_pay_to_compile(run: RunConfig, device: torch.device) -> bool:
    """Whether compiling may make a step faster: on a GPU; on a CPU, which needs a C++ compiler, for multi-layer
    perceptrons only, since convolutions gain nothing there (benchmarks/speed).
    """
    if device.type != "cpu":
        return True
    return run.arch.perceptrons and shutil.which(os.environ.get("CXX", "c++")) is not None
