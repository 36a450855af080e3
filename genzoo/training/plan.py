"""`--dry-run`: a run's configuration, updates, sizes and memory, without data and without training."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from genzoo import hub
from genzoo.configure import data_shape, in_section, planned_classes, section_classes
from genzoo.data import heldout_split
from genzoo.data.batches import as_real
from genzoo.duration import in_images
from genzoo.errors import UsageError
from genzoo.evaluation.extractors import refuse_unknown
from genzoo.factory import build, build_objective
from genzoo.items import Items
from genzoo.noise import Noise
from genzoo.objective import Objective, Phase, Progress, Spaces, phases
from genzoo.registry import get_spec, split_name
from genzoo.settings import fields, show
from genzoo.spec import RunConfig
from genzoo.training.memory import LiveBytes
from genzoo.training.warmup import too_short

LONE = "more than 1 value per channel"  # in the complaint of normalization layers
EPOCH = 10**6  # images; the real number is not known without the data
LATE = 10**9 // 55440 * 55440 - 1  # a step after every warm-up, and the last of each 2, 3, ..., 12 and of 16 steps
META = torch.device("meta")
# What a process takes besides tensors; chosen by the rows of benchmarks/memory, explained in its README. CPU, glibc.
# Code paged in and compiled by the first step (32 MiB), and the largest block that glibc serves from its heap.
LIBRARIES = 64 * 2**20
HOLES = 1 / 8  # of all tensors: free memory between them that the heap does not give back


class Untraceable(UsageError):
    """A network that cannot run without data."""


@dataclass(frozen=True)
class Estimate:
    """Memory of a run in bytes."""

    kept: int  # weights, the optimizers' moments, and the average
    step: int  # the most that tensors of one step take at once, besides

    @property
    def total(self) -> int:
        return round((1 + HOLES) * (self.kept + self.step)) + LIBRARIES


def plan(run: RunConfig) -> str:
    """Returns the text of a dry run. Everything is computed on the meta device: no data, no weights, no time."""
    c, shape = run.train, data_shape(run)
    if not hub.is_id(run.data.name.partition(":")[0]):  # that would need the network
        heldout_split(run.data)  # refuses a name that leads nowhere
    for name in c.measure:
        refuse_unknown(name)
    with META:
        model = build(run, shape, planned_classes(run))
    spec, preset_name = split_name(run.model)
    assert preset_name is not None
    preset = spec.presets[preset_name]
    lines = [
        f"{run.model}: {spec.summary}",
        f"source: {preset.source}",
        f"published score: {preset.expected}",
        f"deviations: {preset.deviations}",
    ]
    lines += [f"note: {note}" for note in run.notes]
    lines += _configuration(run)
    lines += ["", "updates of one step, in order:"]
    (warm, _), (late, needs) = (_trace(run, step) for step in (0, LATE))
    lines += _updates("warm-up", warm) + _updates("then", late) if _differ(warm, late) else _updates("", late)
    lines += ["", "networks:"]
    sizes = {name: sum(p.numel() for p in net.parameters()) for name, net in model.named_children()}
    lines += [
        f"  {name:<10} {type(net).__name__:<14} {sizes[name]:>12,} parameters" for name, net in model.named_children()
    ]
    images = c.batch * (1 + build_objective(run, model.spaces, META).fresh)
    lines += ["", *_memory(run, needs), f"length: {c.duration} at {images} images a step", *_too_short(run, images)]
    return "\n".join(lines)


def _too_short(run: RunConfig, per_step: int) -> Iterator[str]:
    """A warning where the run would end in its warm-up; epochs are not counted, which needs the data."""
    with suppress(UsageError):
        length = in_images(run.train.duration, batch=per_step, epoch=None)
        if problem := too_short(run, length, per_step, None):
            _, figures, fix = problem
            yield f"warning: {figures}; {fix}"


def _configuration(run: RunConfig) -> Iterator[str]:
    """Every option, a star beside those that differ from the defaults."""
    for section, cls in section_classes(get_spec(run.model.partition(".")[0])).items():
        yield f"\n{section}:"
        for name, _, default, _ in fields(cls):
            value = getattr(getattr(run, section), name)
            yield f"  {'*' if value != default else ' '} {name:<17} {show(value)}"


def estimate(run: RunConfig) -> Estimate:
    """Estimates the memory of a run's process after its imports.

    One step runs on the meta device, and its tensors are counted: weights, moments (two, as Adam's) and average, the
    batch, all that autograd keeps, gradients on their way, gradients of weights, and the effect of the options that
    save memory; all in fp32. Not counted are what kernels allocate for themselves (on the CPU next to nothing; cuDNN's
    workspace is not known), saving, scoring and pictures.

    Raises:
        UsageError: the networks cannot run without data, or BatchNorm would see a single value.
    """
    return _trace(run, LATE)[1]


def refuse_single_values(run: RunConfig, world: int, spaces: Spaces) -> None:
    """Refuses micro-batches of one item where a BatchNorm layer has nothing else to normalize it by: on a 1x1 grid.

    Args:
        run: its networks are passed a step on the meta device, if its micro-batches are that small.
        world: number of processes.
        spaces: of its data and model, as the data has them.

    Raises:
        UsageError: there is such a layer.
    """
    local = run.train.batch // world
    if local > run.train.accumulate:
        return
    try:
        _trace(in_section(run, "train", {"batch": local}), LATE, spaces)
    except Untraceable:  # the first step tells
        pass


def _trace(run: RunConfig, step: int, spaces: Spaces | None = None) -> tuple[list[Phase], Estimate]:
    """Runs one step of one process on the meta device, as the trainer does, after so many steps."""
    c, shape = run.train, data_shape(run) if spaces is None else spaces.shape
    with META:
        model = build(run, shape, planned_classes(run) if spaces is None else spaces.classes)
    objective = build_objective(run, model.spaces, META)
    parts = 1 + objective.fresh
    at = Progress(step=step, batch=c.batch, total_nimg=(LATE + 1) * c.batch * parts, epoch_nimg=EPOCH, parts=parts)
    live = LiveBytes()
    live.count(model.state_dict().values())
    if isinstance(objective, nn.Module):
        live.count(objective.state_dict().values())
    state = [
        torch.empty_like(p)
        for name, net in model.named_children()
        for p in net.parameters()
        for _ in range(2 * (1 + len(objective.optimizers.get(name, ()))))  # two moments per optimizer
    ]
    average = [torch.empty_like(value) for value in model.state_dict().values()] if c.ema else []
    live.count([*state, *average])
    kept = live.now
    with live:
        items = _items(run, shape)  # the loader holds them while the step runs
        batches = list(_draws(objective, run, items, parts))
        try:
            found = []
            for phase in phases(objective, model, batches, at):
                found.append(replace(phase, logs=dict.fromkeys(phase.logs, torch.empty(0, device=META))))
                model.zero_grad()
        except ValueError as error:
            if LONE not in str(error):
                raise
            raise UsageError(
                "A normalization layer would see a single value, as a micro-batch has one item and the layer one "
                "pixel: use larger micro-batches (a larger train.batch, a smaller train.accumulate, fewer processes), "
                "or, where the layer has more than 32 channels, arch.norm=group."
            ) from None
        except RuntimeError as error:  # a trunk with data-dependent control flow cannot run without data
            raise Untraceable(
                f"--dry-run cannot trace this network ({error}): train a few steps instead, --images {4 * c.batch}."
            ) from error
    return found, Estimate(kept, live.peak - kept)


def _items(run: RunConfig, shape: tuple[int, ...]) -> Items:
    """A batch as the loader gives it."""
    n = run.train.batch
    x = torch.empty(n, *shape, dtype=torch.uint8 if len(shape) == 3 else torch.float32, device=META)
    return Items(x, torch.zeros(n, dtype=torch.int64, device=META) if run.data.labels else None)


def _draws(objective: Objective, run: RunConfig, items: Items, parts: int) -> Iterator[list[Any]]:
    """Each micro-batch's batches of a step."""
    c = run.train
    size = max(1, c.batch // c.accumulate)
    for i, micro in enumerate(as_real(items, META).split(size)):
        noise = Noise(seed=0, step=0, batch=c.batch, start=i * size, stop=i * size + len(micro), like=micro.x)
        yield [objective.draw(micro, replace(noise, part=part)) for part in range(parts)]


def _memory(run: RunConfig, needs: Estimate) -> Iterator[str]:
    """The estimate, and what would make it smaller where this machine has less."""
    c, available = run.train, machine_memory(run.train.device)
    average, counted = " and average" if c.ema else "", " (counted in fp32)" if c.precision == "bf16" else ""
    rest = needs.total - needs.kept - needs.step
    yield (
        f"memory, estimated: weights, moments{average} {as_mib(needs.kept)} + a step's tensors {as_mib(needs.step)} + "
        f"heap and libraries {as_mib(rest)} = {as_mib(needs.total)} in {c.precision}{counted}; not counted: Python and "
        "PyTorch themselves, saving, scoring"
    )
    if available is None or needs.total <= available:
        return
    yield f"this machine has {as_mib(available)}; less is needed with a smaller train.batch, or at {c.batch} with"
    for settings, smaller in _smaller(run):
        yield f"  {as_mib(estimate(smaller).total):>9}  {' '.join(f'--set {name}=true' for name in settings)}"


def unset_savers(run: RunConfig) -> tuple[str, ...]:
    """Names the switches that would save memory in this run, and are off."""
    refused = {"train.checkpointing"} if run.arch.spectral_norm else set()
    savers = (*get_spec(run.model.partition(".")[0]).memory_savers, *({"train.checkpointing"} - refused))
    return tuple(name for name in savers if _value(run, name) is False)


def _smaller(run: RunConfig) -> Iterator[tuple[tuple[str, ...], RunConfig]]:
    """The same run with each option that saves memory and is not set yet, and with all of them."""
    unset = unset_savers(run)
    for names in [*((name,) for name in unset), *([unset] if len(unset) > 1 else [])]:
        smaller = run
        for section, field in (name.split(".") for name in names):
            smaller = in_section(smaller, section, {field: True})
        yield names, smaller


def _value(run: RunConfig, name: str) -> Any:
    section, field = name.split(".")
    return getattr(getattr(run, section), field)


def machine_memory(device: str) -> int | None:
    """Memory of the device that `train.device` means, in bytes: of the first GPU, or of the machine.

    None where the system does not report it.
    """
    if device == "auto" and torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, other systems not these names
        return None


def _updates(when: str, found: list[Phase]) -> list[str]:
    """One line per phase: the optimizers that step, a gate if there is one, and what is logged."""
    prefix = f"{when}: " if when else ""
    gates = ["" if phase.when is None else " (gated)" for phase in found]
    return [
        f"  {prefix}{i}. {' + '.join(phase.keys)}{gate}, by {', '.join(phase.logs)}"
        for i, (phase, gate) in enumerate(zip(found, gates, strict=True), 1)
    ]


def _differ(a: list[Phase], b: list[Phase]) -> bool:
    return [phase.keys for phase in a] != [phase.keys for phase in b]


def as_mib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{math.ceil(size / 2**20)} MiB"
