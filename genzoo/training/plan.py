"""`--dry-run`: the resolved configuration, the update plan, the sizes and the memory of a run, without data and without training."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from genzoo import hub
from genzoo.data import heldout_split
from genzoo.errors import UsageError
from genzoo.noise import Noise
from genzoo.objective import Progress, Update, lockstep
from genzoo.registry import get_spec, split_name
from genzoo.resolve import build, data_shape, section_classes
from genzoo.settings import fields, show
from genzoo.spec import RunConfig
from genzoo.training.loader import as_real
from genzoo.training.memory import LiveBytes

EPOCH = 10**6  # images; the real number is not known without the data
LATE = 10**12  # images seen when every warm-up is over
META = torch.device("meta")
# What a process takes besides tensors; chosen by the rows of benchmarks/memory, whose README says how. CPU, glibc.
LIBRARIES = 64 * 2**20  # code paged in and compiled by the first step (32 MiB), and the largest block that glibc serves from its heap
HOLES = 1 / 8  # of all tensors: free memory between them that the heap does not give back


@dataclass(frozen=True)
class Phase:
    """One optimiser step of an iteration."""

    trains: tuple[str, ...]
    logs: tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """Memory of a run in bytes."""

    kept: int  # weights, the optimiser's two moments, and the average
    step: int  # the most that tensors of one step take at once, besides

    @property
    def total(self) -> int:
        return round((1 + HOLES) * (self.kept + self.step)) + LIBRARIES


def plan(run: RunConfig) -> str:
    """Returns the text of a dry run. Everything is computed on the meta device: no data, no weights, no time."""
    c, shape = run.train, data_shape(run)
    if not hub.is_id(run.data.name):  # that would need the network
        heldout_split(run.data)  # refuses a name that leads nowhere
    with META:
        model = build(run, shape)
    spec, preset_name = split_name(run.model)
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
    (warm, _), (late, needs) = (_trace(run, nimg) for nimg in (0, LATE))
    lines += _updates("warm-up", warm) + _updates("then", late) if _differ(warm, late) else _updates("", late)
    lines += ["", "networks:"]
    sizes = {name: sum(p.numel() for p in net.parameters()) for name, net in model.named_children()}
    lines += [f"  {name:<10} {type(net).__name__:<14} {sizes[name]:>12,} parameters" for name, net in model.named_children()]
    lines += ["", *_memory(run, needs), f"length: {c.duration} at {c.batch} images a step"]
    return "\n".join(lines)


def _configuration(run: RunConfig) -> Iterator[str]:
    """Every option, a star beside those that differ from the defaults."""
    for section, cls in section_classes(get_spec(run.model.partition(".")[0])).items():
        yield f"\n{section}:"
        for name, _, default, _ in fields(cls):
            value = getattr(getattr(run, section), name)
            yield f"  {'*' if value != default else ' '} {name:<17} {show(value)}"


def estimate(run: RunConfig) -> Estimate:
    """Estimates the memory of a run's process after its imports: one step runs on the meta device, and its tensors are counted.

    Counted are weights, moments (two, as Adam's) and average, the batch, all that autograd keeps, gradients on their way, gradients of
    weights, and what `objective.recompute`, `train.accumulate` and `train.checkpointing` make of these; all in fp32. Not counted are what
    kernels take for themselves (on the CPU next to nothing; cuDNN's workspace is not known), saving, scoring and pictures.

    Raises:
        UsageError: the networks cannot run without data.
    """
    return _trace(run, LATE)[1]


def _trace(run: RunConfig, nimg: int) -> tuple[list[Phase], Estimate]:
    """Runs one step of one process on the meta device, as the trainer does, after so many images."""
    c, shape = run.train, data_shape(run)
    objective = get_spec(run.model.partition(".")[0]).objective(run.objective, shape, run.arch.z_dim)
    at = Progress(step=nimg // c.batch, batch=c.batch, total_nimg=LATE, epoch_nimg=EPOCH)
    with META:
        model = build(run, shape)
    phases, live = [], LiveBytes()
    live.count(model.state_dict().values())
    state = [torch.empty_like(p) for p in model.parameters() for _ in ("first moment", "second moment")]
    average = [torch.empty_like(value) for value in model.state_dict().values()] if c.ema else []
    live.count([*state, *average])
    kept = live.now
    with live:
        batch = torch.empty(c.batch, *shape, dtype=torch.uint8 if len(shape) == 3 else torch.float32, device=META)
        n = max(1, c.batch // c.accumulate)
        micro = (
            objective.draw(part, Noise(seed=0, step=0, batch=c.batch, start=i * n, stop=i * n + len(part), like=part))
            for i, part in enumerate(as_real(batch, META).split(n))
        )
        try:
            logs: tuple[str, ...] = ()
            for phase in lockstep([objective.step(model, one, at) for one in micro]):
                update = _backward(model, phase)
                logs += tuple(update.logs)
                if not update.waits:
                    phases.append(Phase(update.trains, logs))
                    logs = ()
                    model.zero_grad()
        except RuntimeError as error:  # a trunk with data-dependent control flow cannot run without data
            raise UsageError(
                f"--dry-run cannot trace this network ({error}): train a few steps instead, --images {4 * c.batch}."
            ) from error
    return phases, Estimate(kept, live.peak - kept)


def _backward(model: nn.Module, phase: Iterator[Update]) -> Update:
    """Makes the gradients of one phase; returns its last update, without the graph."""
    for update in phase:
        trained = [p for name in update.trains for p in getattr(model, name).parameters() if p.requires_grad]
        update.loss.backward(inputs=trained, retain_graph=update.keep_graph)
        last = replace(update, loss=update.loss.detach())
    return last


def _memory(run: RunConfig, needs: Estimate) -> Iterator[str]:
    """The estimate, and what would make it smaller where this machine has less."""
    c, has = run.train, machine_memory(run.train.device)
    yield (
        f"memory, estimated: weights, moments{' and average' if c.ema else ''} {_mib(needs.kept)} + a step's tensors {_mib(needs.step)} "
        f"+ heap and libraries {_mib(needs.total - needs.kept - needs.step)} = {_mib(needs.total)} in {c.precision}"
        f"{' (counted in fp32)' if c.precision == 'bf16' else ''}, saving and scoring not counted"
    )
    if needs.total <= has:
        return
    yield f"this machine has {_mib(has)}; less is needed with a smaller train.batch, or at {c.batch} with"
    for settings, smaller in _smaller(run):
        yield f"  {_mib(estimate(smaller).total):>9}  {' '.join(f'--set {name}=true' for name in settings)}"


def _smaller(run: RunConfig) -> Iterator[tuple[tuple[str, ...], RunConfig]]:
    """The same run with each measure that saves memory and that it has not taken yet, and with all of them."""
    choices = {"objective.recompute": "objective", "train.checkpointing": "train"}
    open_ = [name for name, section in choices.items() if getattr(getattr(run, section), name.partition(".")[2], None) is False]
    for settings in [*((name,) for name in open_), *([tuple(open_)] if len(open_) > 1 else [])]:
        changed = {choices[name]: replace(getattr(run, choices[name]), **{name.partition(".")[2]: True}) for name in settings}
        yield settings, replace(run, **changed)


def machine_memory(device: str) -> int:
    """Memory of the device that `train.device` means, in bytes: of the first GPU, or of the machine."""
    if device == "auto" and torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _updates(when: str, phases: list[Phase]) -> list[str]:
    return [f"  {when + ': ' if when else ''}{i}. {' + '.join(p.trains)}, by {', '.join(p.logs)}" for i, p in enumerate(phases, 1)]


def _differ(a: list[Phase], b: list[Phase]) -> bool:
    return [phase.trains for phase in a] != [phase.trains for phase in b]


def _mib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{math.ceil(size / 2**20)} MiB"
