"""`--dry-run`: the resolved configuration, the update plan, the sizes and the memory of a run, without data and without training."""

import math
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genzoo.data import heldout_split
from genzoo.errors import UsageError
from genzoo.noise import Noise
from genzoo.objective import Mean, Progress
from genzoo.registry import get_spec, split_name
from genzoo.resolve import build, data_shape, section_classes
from genzoo.settings import fields, show
from genzoo.spec import RunConfig

EPOCH = 10**6  # images; the real number is not known without the data
LATE = 10**12  # images seen when every warm-up is over
COPIES = 4  # of every weight: itself, its gradient, Adam's two moments


@dataclass(frozen=True)
class Phase:
    """One optimiser step of an iteration."""

    trains: tuple[str, ...]
    logs: tuple[str, ...]
    saved_bytes: int  # activations that autograd holds when its backward begins, for one micro-batch
    kept: bool  # a later phase walks this graph again


class _Saved:
    """What autograd holds in a tensor's place."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor


def plan(run: RunConfig) -> str:
    """Returns the text of a dry run. Everything is computed on the meta device: no data, no weights, no time."""
    c, shape = run.train, data_shape(run)
    if run.data.name.count("/") != 1 or run.data.name.startswith((".", "~", "/")):  # a hub id, owner/name, would need the network
        heldout_split(run.data)  # refuses a name that leads nowhere
    with torch.device("meta"):
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
    warm, late = (_phases(run, model, shape, nimg) for nimg in (0, LATE))
    lines += _updates("warm-up", warm) + _updates("then", late) if _differ(warm, late) else _updates("", late)
    lines += ["", "networks:"]
    sizes = {name: sum(p.numel() for p in net.parameters()) for name, net in model.named_children()}
    lines += [f"  {name:<10} {type(net).__name__:<14} {sizes[name]:>12,} parameters" for name, net in model.named_children()]
    weights = 4 * sum(sizes.values()) * (COPIES + bool(c.ema))
    # A kept graph lives until the last phase of its step, so the micro-batches' graphs are in memory together.
    activations = max(p.saved_bytes for p in late) * (c.accumulate if any(p.kept for p in late) else 1)
    lines += [
        "",
        f"memory, estimated: weights, gradients, moments{' and average' if c.ema else ''} {_mib(weights)} + activations {_mib(activations)} = "
        f"{_mib(weights + activations)} in {c.precision}{' (activations counted in fp32)' if c.precision == 'bf16' else ''}, workspace not counted",
        f"length: {c.duration} at {c.batch} images a step",
    ]
    return "\n".join(lines)


def _configuration(run: RunConfig) -> Iterator[str]:
    """Every option, a star beside those that differ from the defaults."""
    for section, cls in section_classes(get_spec(run.model.partition(".")[0])).items():
        yield f"\n{section}:"
        for name, _, default, _ in fields(cls):
            value = getattr(getattr(run, section), name)
            yield f"  {'*' if value != default else ' '} {name:<17} {show(value)}"


def _phases(run: RunConfig, model: nn.Module, shape: tuple[int, ...], nimg: int) -> list[Phase]:
    """Runs one step on the meta device and notes each phase; sizes are those of one micro-batch on one process."""
    c = run.train
    objective = get_spec(run.model.partition(".")[0]).objective(run.objective, shape, run.arch.z_dim)
    n = max(1, c.batch // c.accumulate)
    real = torch.empty(n, *shape, device="meta")
    at = Progress(step=nimg // c.batch, batch=c.batch, total_nimg=LATE, epoch_nimg=EPOCH)
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    saved: weakref.WeakSet[_Saved] = weakref.WeakSet()  # dies entry by entry with the graph that holds it

    def remember(tensor: Tensor) -> _Saved:
        held = _Saved(tensor)
        saved.add(held)
        return held

    phases, reply = [], None
    with torch.autograd.graph.saved_tensors_hooks(remember, lambda held: held.tensor):
        step = objective.step(model, objective.draw(real, Noise(seed=0, step=0, batch=n, start=0, stop=n, like=real)), at)
        try:
            while True:
                update = step.send(reply)
                if isinstance(update, Mean):
                    reply = update.value.detach()
                    continue
                held = {(storage := held.tensor.untyped_storage())._cdata: storage.nbytes() for held in saved}
                phases.append(Phase(update.trains, tuple(update.logs), sum(held[key] for key in held.keys() - weights), update.keep_graph))
                inputs = [p for name in update.trains for p in getattr(model, name).parameters() if p.requires_grad]
                torch.autograd.grad(update.loss, inputs, retain_graph=update.keep_graph, allow_unused=True)  # frees what training would
                reply = update = held = None
        except StopIteration:
            return phases
        except RuntimeError as error:  # a trunk with data-dependent control flow cannot run without data
            raise UsageError(
                f"--dry-run cannot trace this network ({error}): train a few steps instead, --images {4 * c.batch}."
            ) from error


def _updates(when: str, phases: list[Phase]) -> list[str]:
    return [f"  {when + ': ' if when else ''}{i}. {' + '.join(p.trains)}, by {', '.join(p.logs)}" for i, p in enumerate(phases, 1)]


def _differ(a: list[Phase], b: list[Phase]) -> bool:
    return [phase.trains for phase in a] != [phase.trains for phase in b]


def _mib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{math.ceil(size / 2**20)} MiB"
