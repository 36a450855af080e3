"""What a run cannot be, once its data, networks and machine are known."""

import os
import shutil

import numpy as np
import torch
from torch import nn

from genzoo.data import Dataset
from genzoo.data.labels import listed
from genzoo.data.sets import class_numbers
from genzoo.errors import UsageError
from genzoo.objective import Objective
from genzoo.spec import RunConfig, TrainConfig
from genzoo.training.plan import refuse_single_values

FEW = 10  # items of a component, at least, in a fix
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


def refuse_unsuitable(run: RunConfig, objective: Objective, dataset: Dataset) -> None:
    """Refuses data without a label for every item, where a run takes labels, and with fewer items than a learned
    mixture has components.

    Raises:
        UsageError: they are such.
    """
    if run.data.labels is not None:
        class_numbers(dataset, run.data.labels)
    prior, size = objective.spaces.prior, dataset.size
    if prior.kind == "mog" and size is not None and prior.components > size:
        raise UsageError(
            f"arch.prior=mog:{prior.components} has more components than {dataset.name} has items, {size:,}: take "
            f"fewer, e.g. arch.prior=mog:{max(1, size // FEW)}."
        )


def thin_components(run: RunConfig, objective: Objective, dataset: Dataset) -> list[tuple[str, str, str]]:
    """Finds what a run has few items for: (problem, figures, fix) of classes of one item or none, and of a learned
    mixture with more components than a batch has items.
    """
    found, prior, labels = [], objective.spaces.prior, run.data.labels
    if prior.kind == "mog" and prior.components > run.train.batch:
        figures = f"a batch of {run.train.batch} items has fewer than arch.prior=mog:{prior.components} has components"
        fix = f"set arch.prior=mog:{run.train.batch} or less, or raise train.batch"
        found.append(("many components", figures, fix))
    if labels is not None:
        counts = np.bincount(class_numbers(dataset, labels), minlength=len(names := dataset.classes(labels)))
        if rare := [f"{name} ({n})" for name, n in zip(names, counts, strict=True) if n < 2]:
            figures = f"{len(rare)} of {len(names)} classes of {labels} have one item or none: {listed(rare)}"
            found.append(("rare classes", figures, "add items of these classes, or do not sample them"))
    return found


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
