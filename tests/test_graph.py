"""A compiled step is the step: the same weights and buffers as without, for every form, through warm-up and micro-batches."""

import copy
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from conftest import tiny_run
from test_objectives import FORMS, STEPS, TOLERANCE, N, adams, backward, data, distance, draw, networks, objective_of
from torch import fx, nn

from genzoo import Trainer
from genzoo.errors import UsageError
from genzoo.objective import Objective, Progress, Update, lockstep
from genzoo.training.graph import CompiledStep, Phase

pytestmark = pytest.mark.usefixtures("one_thread")
Compiler = Callable[[fx.GraphModule], Callable[..., Any]]


def as_it_is(graph: fx.GraphModule) -> fx.GraphModule:
    """The trace without a compiler, which takes seconds to look at it."""
    return graph


def compiled(objective: Objective, nets: nn.ModuleDict, micro: int, compiler: Compiler) -> CompiledStep:
    """The step of an objective, with an Adam for each network."""
    optimizers = adams(nets)

    def gradients(batches: Sequence[Any], at: Progress) -> Iterator[Phase]:
        for phase in lockstep([objective.step(nets, batch, at) for batch in batches]):
            updates = [backward(nets, update, micro) for update in phase]
            yield updates[-1].trains, dict(updates[-1].logs)

    def move(trains: Sequence[str]) -> dict[str, torch.Tensor]:
        for name in trains:
            optimizers[name].step()
            optimizers[name].zero_grad()
        return {}

    return CompiledStep(nets, gradients, move, compiler)


def both(
    form: str, kind: str, compiler: Compiler = as_it_is, micro: int = 1, **more: Any
) -> tuple[nn.ModuleDict, nn.ModuleDict, list[bool]]:
    """Trains two copies, eager and compiled; returns them, and per step whether an older trace was used."""
    objective = objective_of(form, kind, **more)
    eager, fast = networks(form, kind), networks(form, kind)
    slow_step, step = compiled(objective, eager, micro, as_it_is), compiled(objective, fast, micro, compiler)
    size, used = N // micro, []
    for i in range(STEPS):
        at, x = Progress(step=i, batch=N, total_nimg=STEPS * N), data(i, kind)
        batches = [draw(objective, i, x, k * size, (k + 1) * size) for k in range(micro)]
        for trains, _ in slow_step.gradients(batches, at):
            slow_step.move(trains)
        before = step._segments
        step(batches, at)
        used.append(step._segments is before)
    return eager, fast, used


@pytest.mark.parametrize("form", FORMS)
def test_a_traced_step_is_the_step(form):
    """On conv networks with BatchNorm: what a trace could lose are the running averages, and the order of the two players."""
    eager, fast, used = both(form, "conv")
    assert used == [False, True, True, True, True]
    assert distance(fast, eager) < TOLERANCE


@pytest.mark.parametrize(("form", "micro"), [("introvae-official", 2), ("softintrovae-official", 2)])
def test_micro_batches_are_traced_side_by_side(form, micro):
    eager, fast, _ = both(form, "mlp", micro=micro)
    assert distance(fast, eager) < TOLERANCE


@pytest.mark.parametrize("more", [{"warmup": "2it"}, {"warmup": "2it", "recompute": True}], ids=["kept graph", "recompute"])
def test_the_end_of_warmup_is_traced_anew(more):
    eager, fast, used = both("softintrovae-official", "conv", **more)
    assert used == [False, True, False, True, True]
    assert distance(fast, eager) < TOLERANCE


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_code_computes_the_same():
    """Inductor's code, in float64, on the networks that it is for."""
    eager, fast, used = both("softintrovae-official", "mlp", torch.compile)
    assert used == [False, True, True, True, True]
    assert distance(fast, eager) < TOLERANCE


def test_functionalised_batchnorm_keeps_its_running_averages():
    """AOTAutograd, the part of the compiler that turns writing in place into values, sees that BatchNorm writes."""
    eager, fast, _ = both("introvae-paper", "conv", partial(torch.compile, backend="aot_eager"))
    assert distance(fast, eager) < TOLERANCE


def test_an_objective_that_reads_the_step_is_refused():
    objective, nets = objective_of("vae", "mlp"), networks("vae", "mlp")
    plain = objective.step

    def counting(nets: nn.Module, batch: Any, at: Progress) -> Iterator[Update]:
        for update in plain(nets, batch, at):
            yield Update(update.trains, update.loss * (1 + at.step))

    objective.step = counting
    with pytest.raises(UsageError, match=r"reads at\.step"):
        compiled(objective, nets, 1, as_it_is)([draw(objective, 0, data(0, "mlp"))], Progress(step=0, batch=N, total_nimg=N))


def test_a_compiler_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="install g"):
        Trainer(tiny_run("vae", "train.compile=true"), out="run", progress=False)


def test_a_trainer_takes_it_as_an_option(monkeypatch):
    """Learning rates drop and weights are clipped outside of the graphs; the run is the run without, to rounding."""
    monkeypatch.setattr(CompiledStep.__init__, "__defaults__", (as_it_is,))
    settings = ("train.duration=48", "train.lr_drops=4it", "train.clip=0.5", "arch.norm=group")
    models = []
    for compile in ("false", "true"):
        trainer = Trainer(tiny_run("introvae", *settings, f"train.compile={compile}"), out=compile, progress=False)
        trainer.fit()
        models.append(copy.deepcopy(trainer.model))
    assert distance(models[1], models[0]) < 1e-6


def test_a_compiled_run_resumes_to_the_same_bits(monkeypatch):
    """The first step after a start is traced and then run from the trace, as every other."""
    monkeypatch.setattr(CompiledStep.__init__, "__defaults__", (as_it_is,))
    states = []
    for name, durations in (("straight", (96,)), ("halves", (48, 96))):
        for duration in durations:
            trainer = Trainer(tiny_run("introvae", "train.compile=true", f"train.duration={duration}"), out=name, progress=False)
            trainer.fit()
        states.append(trainer.model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
