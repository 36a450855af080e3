"""Tiny models of several networks, and a driver of their steps in float64, for comparisons with transcriptions."""

import copy
from typing import Any

import torch
from steps import LR, SHAPES, Z, data, distance, draw
from torch import Tensor, nn

from genzoo.models.generative import Generative
from genzoo.objective import Objective, Progress, phases
from genzoo.registry import get_spec

N, STEPS = 6, 6
TOLERANCE = 1e-10  # relative, on weights and buffers after STEPS of Adam: see `apart`


def model_of(name: str, kind: str = "conv", **arch: Any) -> Generative:
    """A tiny model with fresh weights, the same at each call; of images (3, 8, 4) or points (2,)."""
    sizes = {"encoder": kind, "decoder": kind, "z_dim": Z, "channels": (4, 8), "hidden": (16, 16)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return get_spec(name).model()(shape=SHAPES["mlp" if kind == "mlp" else "conv"], arch=sizes | arch).double()


def objective_of(name: str, model: Generative, **config: Any) -> Objective:
    spec = get_spec(name)
    return spec.objective(spec.config(**config), model.spaces)


def items(number: int, kind: str = "conv") -> Tensor:
    return data(number, "mlp" if kind == "mlp" else "conv")


def drawn(objective: Objective, step: int, kind: str = "conv", start: int = 0, stop: int = N) -> list[Any]:
    """What the objective draws for each of the step's real batches: for the transcription, too."""
    parts = 1 + objective.fresh
    numbers = range(step * parts, (step + 1) * parts)
    return [draw(objective, number, items(number, kind), start, stop) for number in numbers]


def adams(objective: Objective, model: nn.Module) -> dict[str, torch.optim.Adam]:
    """One Adam per network, and one for each further optimizer that the objective declares."""
    nets = dict(model.named_children())
    keys = {name: name for name in nets}
    keys |= {f"{name}-{by}": name for name, names in objective.optimizers.items() for by in names}
    return {key: torch.optim.Adam(nets[name].parameters(), lr=LR) for key, name in keys.items()}


def train(
    objective: Objective, model: nn.Module, kind: str = "conv", steps: int = STEPS, micro: int = 1
) -> list[dict[str, float]]:
    """Trains in place and returns the logged curves of each step."""
    optimizers, curves, size = adams(objective, model), [], N // micro
    for step in range(steps):
        batches = [drawn(objective, step, kind, i * size, (i + 1) * size) for i in range(micro)]
        at = Progress(step=step, batch=N, total_nimg=steps * N, parts=1 + objective.fresh)
        curves.append({})
        for phase in phases(objective, model, batches, at):
            curves[-1] |= {name: value.item() for name, value in phase.logs.items()}
            for key in phase.keys:
                if phase.when is None or phase.when.item():
                    optimizers[key].step()
                optimizers[key].zero_grad()
    return curves


def copied(model: nn.Module) -> Any:
    return copy.deepcopy(model)


def apart(ours: nn.Module, theirs: nn.Module) -> float:
    """Largest difference of any weight or buffer of two models, over the largest weight."""
    largest = max(p.abs().max().item() for p in theirs.parameters())
    return distance(ours, theirs) / largest
