"""One iteration of training: the objective's phases, averaged over processes, and the optimizers' steps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from genzoo.data.batches import as_real
from genzoo.items import Items
from genzoo.noise import Noise, generator
from genzoo.objective import Objective, Phase, Progress, phases
from genzoo.spec import TrainConfig
from genzoo.training.capture import recorder
from genzoo.training.graph import COMPILER, CompiledPhases
from genzoo.training.launch import Processes, average_buffers, average_gradients
from genzoo.training.optim import WeightAverage, learning_rate
from genzoo.training.recovery import Ladder

Scalars = dict[str, Tensor]


class Iteration:
    """Runs steps: draws their noise, drives all phases, and moves the networks after each.

    Args:
        objective: whose steps they are.
        model: holds the networks as child modules.
        ema: the average of the weights, updated after each step.
        optimizers: by key, see `genzoo.objective.Phase.keys`.
        c: batch, micro-batches, rates, clipping, and whether the phases are compiled.
        ladder: what recovery has changed.
        acc: averages over processes.
    """

    def __init__(
        self,
        objective: Objective,
        model: nn.Module,
        ema: WeightAverage | None,
        optimizers: Mapping[str, torch.optim.Optimizer],
        c: TrainConfig,
        ladder: Ladder,
        acc: Processes,
    ):
        self._objective, self._model, self._ema, self._optimizers = objective, model, ema, optimizers
        self._c, self._ladder, self._acc = c, ladder, acc
        # Walking the modules for their parameters in every phase would take a tenth of a small step.
        self._parameters = {name: list(net.parameters()) for name, net in model.named_children()}
        self._phases = self._eager
        if c.compile:
            way = (None, recorder(acc.device)) if c.compile == "cudagraphs" else (COMPILER, None)
            self._phases = CompiledPhases(model, self._eager, objective.controllers, *way)

    def __call__(self, parts: Sequence[Items], at: Progress) -> list[tuple[tuple[str, ...], Scalars]]:
        """Runs one step; returns, per phase, the optimizers that stepped and its scalars, on the device.

        Args:
            parts: this process's part of the step's real batches.
            at: where in the run the step stands.
        """
        seed = self._ladder.seed(self._c.seed, at.step)
        self._seed(generator(seed, f"torch/{self._acc.process_index}", at.step).initial_seed())
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(group["base_lr"], self._c, at) * self._ladder.lr_factor
        batches = list(self._draws(parts, at, seed))
        scalars = [(phase.keys, dict(phase.logs) | self._move(phase)) for phase in self._phases(batches, at)]
        average_buffers(self._model, self._acc)
        if self._ema is not None:
            self._ema.update_parameters(self._model)
        return scalars

    def _seed(self, seed: int) -> None:
        """Seeds torch's global generators, for layers that draw from them, such as dropout."""
        if self._acc.device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # the same numbers; torch.manual_seed walks through all devices
        else:
            torch.manual_seed(seed)

    def _draws(self, parts: Sequence[Items], at: Progress, seed: int) -> Iterator[list[Any]]:
        """Makes each micro-batch's batches of the step, with their noise."""
        c, acc = self._c, self._acc
        size = c.batch // (acc.num_processes * c.accumulate)
        for i, micro in enumerate(zip(*(as_real(items, acc.device).split(size) for items in parts), strict=True)):
            start = (acc.process_index * c.accumulate + i) * size
            noise = Noise(seed, at.step, c.batch, start, start + size, like=micro[0].x)
            yield [self._objective.draw(items, replace(noise, part=j)) for j, items in enumerate(micro)]

    def _eager(self, batches: Sequence[Sequence[Any]], at: Progress) -> Iterator[Phase]:
        return phases(self._objective, self._model, batches, at, mean=self._mean, backward=self._backward)

    def _mean(self, value: Tensor) -> Tensor:
        return self._acc.reduce(value, "mean")

    def _backward(self, loss: Tensor, inputs: Sequence[nn.Parameter], keep_graph: bool) -> None:
        self._acc.backward(loss, inputs=list(inputs), retain_graph=keep_graph)

    def _move(self, phase: Phase) -> Scalars:
        """Lets the phase's optimizers step; returns the norms of the gradients, and whether a gated phase moved."""
        scalars = {} if phase.when is None else {f"moves/{key}": phase.when.float() for key in phase.keys}
        moves = phase.when is None or bool(phase.when)
        for name, key in zip(phase.trains, phase.keys, strict=True):
            params = self._parameters[name]
            if moves:
                scalars[f"gradient/{key}"] = self._update(params, key)
            for p in params:
                p.grad = None
        return scalars

    def _update(self, params: Sequence[nn.Parameter], key: str) -> Tensor:
        """One optimizer step from the gradients of all processes; returns their norm."""
        norm = torch.nn.utils.get_total_norm(average_gradients(params, self._acc))
        if clip := min(filter(None, (self._c.clip, self._ladder.clip.get(key))), default=None):
            torch.nn.utils.clip_grads_with_norm_(params, clip, norm)
        self._optimizers[key].step()
        # Fused optimizers do not do this: without it, a graph kept over the step would silently use the new weights.
        torch.autograd.graph.increment_version([p for p in params if p.grad is not None])
        return norm
