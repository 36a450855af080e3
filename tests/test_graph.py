"""A compiled step gives the same weights and buffers as an uncompiled one, for every form, through warm-up and
micro-batches.
"""

import copy
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from helpers import ONCE, tiny_run
from steps import (
    FORMS,
    SHAPES,
    STEPS,
    TOLERANCE,
    Z,
    adams,
    at,
    data,
    distance,
    micro_batches,
    move,
    networks,
    objective_of,
    recorded,
)
from torch import fx, nn

from genzoo import Trainer
from genzoo.errors import UsageError
from genzoo.models.vae.objective import VAEObjective
from genzoo.models.vae.presets import VAEConfig
from genzoo.objective import Objective, Phase, Progress, Spaces, Step, Update, phases
from genzoo.training.capture import Captured, Record
from genzoo.training.graph import CompiledPhases, Compiler

pytestmark = pytest.mark.usefixtures("one_thread")
SHORT = ("train.duration=32", *ONCE)  # four steps


def eager(objective: Objective, nets: nn.ModuleDict) -> Callable[..., Iterator[Phase]]:
    return partial(phases, objective, nets)


def both(
    form: str,
    kind: str,
    compiler: Compiler | None = None,
    micro: int = 1,
    record: Record | None = None,
    hidden: tuple[int, ...] = (16, 16),
    **more: Any,
) -> tuple[nn.ModuleDict, nn.ModuleDict, list[bool]]:
    """Trains two copies, eager and compiled; returns them, and per step whether an older trace was used.

    Settings that are `auto` have another value in every step.
    """
    objective = objective_of(form, kind, **more)
    slow, fast = (networks(form, kind, hidden=hidden) for _ in range(2))
    compiled = CompiledPhases(fast, eager(objective, fast), objective.controllers, compiler, record)
    optimizers, reused = (adams(slow), adams(fast)), []
    for step in range(STEPS):
        for i, controller in enumerate(objective.controllers.values()):
            controller.value = 0.7 + 0.1 * step + 0.3 * i
        batches, known = micro_batches(objective, step, data(step, kind), micro), len(compiled.traces)
        for run, moved in zip((eager(objective, slow), compiled), optimizers, strict=True):
            for phase in run(batches, at(step)):
                move(phase, moved)
        reused.append(len(compiled.traces) == known)
    return slow, fast, reused


@pytest.mark.parametrize("form", FORMS)
def test_a_traced_step_is_the_step(form):
    """On conv networks with BatchNorm: what a trace could lose are the running averages, and the order of the two
    players.
    """
    slow, fast, reused = both(form, "conv")
    assert reused == [False, True, True, True, True]
    assert distance(fast, slow) < TOLERANCE


@pytest.mark.parametrize(("form", "micro"), [("introvae-official", 2), ("softintrovae-official", 2)])
def test_micro_batches_are_traced_side_by_side(form, micro):
    slow, fast, _ = both(form, "mlp", micro=micro)
    assert distance(fast, slow) < TOLERANCE


@pytest.mark.parametrize(
    ("form", "kind", "again"),
    [("softintrovae-official", "mlp", False), ("introvae-paper", "conv", True)],
    ids=["kept graph", "recompute"],
)
def test_the_end_of_warmup_is_another_trace(form, kind, again):
    slow, fast, reused = both(form, kind, warmup="2it", recompute=again)
    assert reused == [False, True, False, True, True]
    assert distance(fast, slow) < TOLERANCE


@pytest.mark.parametrize(
    ("form", "auto"),
    [
        ("vae", ["beta_rec"]),
        ("introvae-paper", ["margin", "beta"]),
        ("introvae-official", ["margin", "beta"]),
        ("softintrovae-paper", ["beta_rec", "beta_neg"]),
        ("softintrovae-official", ["beta_rec", "beta_neg"]),
    ],
)
def test_settings_that_move_are_inputs_of_one_trace(form, auto):
    slow, fast, reused = both(form, "mlp", **dict.fromkeys(auto, "auto"))
    assert reused == [False, True, True, True, True]
    assert distance(fast, slow) < TOLERANCE


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_code_computes_the_same():
    """Inductor's code, in float64, on the networks that it is for; of one player, as compiling takes long."""
    slow, fast, reused = both("vae", "mlp", torch.compile, hidden=(8,))
    assert reused == [False, True, True, True, True]
    assert distance(fast, slow) < TOLERANCE


def test_functionalized_batchnorm_keeps_its_running_averages():
    """AOTAutograd, the part of the compiler that turns writing in place into values, sees that BatchNorm writes."""
    slow, fast, _ = both("vae", "conv", partial(torch.compile, backend="aot_eager"))
    assert distance(fast, slow) < TOLERANCE


def test_a_compiler_may_lay_images_out_differently():
    """As cuDNN's channels_last convolutions on a GPU, which are traced with contiguous results."""

    def channels_last(*args: Any) -> torch.Tensor:
        return torch.ops.aten.convolution.default(*args).contiguous(memory_format=torch.channels_last)

    def compiler(graph: fx.GraphModule) -> fx.GraphModule:
        for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten.convolution.default):
            node.target = channels_last
        graph.recompile()
        return graph

    slow, fast, _ = both("vae", "conv", compiler)
    assert distance(fast, slow) < TOLERANCE


@pytest.mark.parametrize(("form", "kind"), [*((form, "mlp") for form in FORMS), ("introvae-official", "conv")])
def test_a_recorded_step_is_the_step(form, kind):
    """Recorded from the second call of its first segment on, one segment more per step; scalars of each step stay.

    With BatchNorm, whose averages are written in place, of one form.
    """
    slow, fast, reused = both(form, kind, record=recorded)
    assert reused == [False, True, True, True, True]
    assert distance(fast, slow) < TOLERANCE


def test_recorded_settings_move():
    slow, fast, _ = both("softintrovae-official", "mlp", record=recorded, beta_rec="auto", beta_neg="auto")
    assert distance(fast, slow) < TOLERANCE


def test_a_recording_reads_new_inputs():
    """An input that stays the same object is read and written in place; every other one is copied."""

    def function(x: torch.Tensor, weight: torch.Tensor) -> list[torch.Tensor]:
        weight += 1
        return [x * weight]

    run, weight, given = Captured(function, 1, recorded), torch.ones(2), []
    for i in range(5):
        x = torch.full((2,), float(i))
        given += run(x, weight)
        assert torch.equal(weight, torch.full((2,), 2.0 + i)) and torch.equal(x, torch.full((2,), float(i)))
        assert torch.equal(given[-1], x * weight)
    assert [one is given[-1] for one in given] == [False, True, True, True, True]  # the recording's memory


def test_a_later_step_leaves_the_scalars_of_a_recorded_one():
    objective, nets = objective_of("vae", "mlp"), networks("vae", "mlp")
    compiled = CompiledPhases(nets, eager(objective, nets), {}, None, recorded)
    optimizers, logs = adams(nets), list[dict[str, torch.Tensor]]()
    for step in range(4):
        for phase in compiled(micro_batches(objective, step, data(step, "mlp")), at(step)):
            logs.append(dict(phase.logs))
            move(phase, optimizers)
    assert len({log["error/sse"].item() for log in logs}) == 4


def test_an_objective_that_reads_the_step_is_refused():
    nets = networks("vae", "mlp")

    class Counting(VAEObjective):
        def step(self, nets: nn.Module, batch: Any, at: Progress) -> Step:
            for update in super().step(nets, batch, at):
                yield Update(update.trains, update.loss * (1 + at.step))

    objective = Counting(VAEConfig(), Spaces(SHAPES["mlp"], (Z,)))
    compiled = CompiledPhases(nets, eager(objective, nets), {}, None)
    with pytest.raises(UsageError, match=r"reads at\.step"):
        list(compiled(micro_batches(objective, 0, data(0, "mlp")), at(0)))


def test_there_is_one_trace_per_set_of_answers():
    """A network that is updated at every third step only: two traces, used in turns."""
    slow, fast = networks("vae", "mlp"), networks("vae", "mlp")

    class Alternating(VAEObjective):
        def step(self, nets: nn.Module, batch: Any, at: Progress) -> Step:
            if at.every(3):
                yield Update(("encoder",), sum(part.square().mean() for part in nets.encoder(batch.x)))
            yield from super().step(nets, batch, at)

    objective = Alternating(VAEConfig(), Spaces(SHAPES["mlp"], (Z,)))
    compiled = CompiledPhases(fast, eager(objective, fast), {}, None)
    optimizers, numbers = (adams(slow), adams(fast)), []
    for step in range(7):
        batches = micro_batches(objective, step, data(step, "mlp"))
        for run, moved in zip((eager(objective, slow), compiled), optimizers, strict=True):
            for phase in run(batches, at(step)):
                move(phase, moved)
        numbers.append(len(compiled.traces))
    assert numbers == [1, 1, 2, 2, 2, 2, 2]
    assert distance(fast, slow) < TOLERANCE


def test_recording_is_refused_without_a_gpu():
    with pytest.raises(UsageError, match="train.compile=cudagraphs is for GPUs, and this run is on cpu"):
        Trainer(tiny_run("vae", "train.compile=cudagraphs"), out="run", progress=False)


def test_a_compiler_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="install g"):
        Trainer(tiny_run("vae", "train.compile=true"), out="run", progress=False)


def test_a_trainer_takes_it_as_an_option(monkeypatch):
    """Learning rates drop and weights are clipped outside of the graphs; the run is the run without, to rounding."""
    monkeypatch.setattr("genzoo.training.iteration.COMPILER", None)
    settings = ("objective.warmup=1it", "train.lr_drops=2it", "train.clip=0.5", "arch.norm=group", *SHORT)
    models = []
    for compile in ("false", "true"):
        trainer = Trainer(tiny_run("introvae", *settings, f"train.compile={compile}"), out=compile, progress=False)
        trainer.fit()
        models.append(copy.deepcopy(trainer.model))
    assert distance(models[1], models[0]) < 1e-6


def test_a_compiled_run_resumes_to_the_same_bits(monkeypatch):
    """The first step after a start is traced and then run from the trace, like every other step."""
    monkeypatch.setattr("genzoo.training.iteration.COMPILER", None)
    states = []
    for name, durations in (("straight", (32,)), ("halves", (16, 32))):
        for duration in durations:
            settings = (*SHORT, "train.compile=true", "objective.warmup=0", f"train.duration={duration}")
            trainer = Trainer(tiny_run("introvae", *settings), out=name, progress=False)
            trainer.fit()
        states.append(trainer.model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
