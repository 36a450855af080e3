"""What a step may yield beyond plain updates, on toy objectives in float64: gates, second optimizers, means, new
batches.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from genzoo.errors import UsageError
from genzoo.items import Items
from genzoo.noise import Noise
from genzoo.objective import Fresh, Mean, Objective, Phase, Progress, Spaces, Step, Update, frozen, of_mean, phases

N, LR = 8, 0.1


class Batch(NamedTuple):
    x: Tensor


class Toy(Objective):
    """Takes its step from a function."""

    def __init__(self, run: Callable[..., Step], fresh: int = 0):
        super().__init__(None, Spaces((2,), (2,)))
        self._run, self.fresh = run, fresh

    def draw(self, items: Items, noise: Noise) -> Batch:
        return Batch(items.x + noise.normal("jitter", 2))

    def step(self, nets: Any, batch: Any, at: Progress) -> Step:
        return self._run(nets, batch, at)


def networks() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"first": nn.Linear(2, 3), "second": nn.Linear(3, 2)}).double()


def batches(objective: Objective, micro: int = 1, step: int = 0) -> list[list[Any]]:
    """The drawn batches of each micro-batch."""
    size, found = N // micro, []
    for i in range(micro):
        found.append([])
        for part in range(1 + objective.fresh):
            x = torch.randn(N, 2, generator=torch.Generator().manual_seed(10 * step + part)).double()
            noise = Noise(0, step, N, i * size, (i + 1) * size, like=x, part=part)
            found[-1].append(objective.draw(Items(x[i * size : (i + 1) * size]), noise))
    return found


def at(step: int = 0) -> Progress:
    return Progress(step=step, batch=N, total_nimg=100 * N)


def train(objective: Objective, nets: nn.ModuleDict, micro: int = 1, steps: int = 3) -> list[list[Phase]]:
    """Gradient descent; a gated phase moves nothing. Returns the phases of each step."""
    seen = []
    for step in range(steps):
        seen.append([])
        for phase in phases(objective, nets, batches(objective, micro, step), at(step)):
            for name in phase.trains:
                if phase.when is None or phase.when:
                    with torch.no_grad():
                        for p in nets[name].parameters():
                            p -= LR * p.grad
                nets[name].zero_grad()
            seen[-1].append(phase)
    return seen


def weights(nets: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(nets.parameters()).detach().clone()


def test_a_mean_has_any_shape_and_spans_micro_batches_and_processes():
    replies = []

    def step(nets, batch, at):
        replies.append((yield Mean(batch.x.T @ batch.x / len(batch.x))))
        yield Update(("first",), nets.first(batch.x).square().mean())

    objective = Toy(step)
    parts = batches(objective, micro=4)
    expected = torch.stack([part[0].x.T @ part[0].x / 2 for part in parts]).mean(0)
    list(phases(objective, networks(), parts, at(), mean=lambda value: value + 1))  # another process has two more
    assert len(replies) == 4
    for reply in replies:
        torch.testing.assert_close(reply, expected + 1, rtol=1e-12, atol=0)


@pytest.mark.parametrize("micro", [2, 4, 8])
def test_of_mean_is_exact_under_micro_batches(micro):
    """The KL of a batch's moments (AGE) and a squared Gram matrix (pulling-away): value and gradient are the whole
    batch's.
    """

    def step(nets, batch, at):
        z = nets.second(nets.first(batch.x))
        m = yield Mean(z.mean(0))
        moments = torch.stack([z.mean(0), (z - m).square().mean(0)])
        kl = yield from of_mean(lambda h: (0.5 * (h[1] + h[0].square() - 1 - h[1].log())).sum(), moments)
        gram = yield from of_mean(lambda g: g.square().sum(), z.T @ z / len(z))
        loss = kl + 0.1 * gram
        yield Update(("first", "second"), loss, {"loss/toy": loss.detach()})

    whole, parts = networks(), networks()
    a, b = train(Toy(step), whole), train(Toy(step), parts, micro)
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-12, atol=1e-14)
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(other[0].logs["loss/toy"], one[0].logs["loss/toy"], rtol=1e-12, atol=0)
    assert (weights(whole) - weights(networks())).abs().max() > 1e-3


def test_of_mean_has_the_gradient_of_the_function_of_the_mean():
    nets = networks()

    def step(nets, batch, at):
        yield Update(("first",), (yield from of_mean(lambda h: h.exp().sum(), nets.first(batch.x).mean(0))))

    objective = Toy(step)
    (phase,) = phases(objective, nets, batches(objective), at())
    expected = torch.autograd.grad(nets["first"](batches(objective)[0][0].x).mean(0).exp().sum(), nets["first"].weight)
    torch.testing.assert_close(nets["first"].weight.grad, expected[0], rtol=1e-12, atol=0)
    assert phase.trains == ("first",)


def test_a_gate_keeps_the_number_of_phases():
    def step(nets, batch, at):
        size = yield Mean(batch.x.mean())
        y = nets.second(nets.first(batch.x)).square().mean()
        yield Update(("first",), y, keep_graph=True, when=size > 1e9)
        yield Update(("second",), y)

    nets = networks()
    before = {name: weights(net) for name, net in nets.items()}
    seen = train(Toy(step), nets, micro=2)
    assert [len(step) for step in seen] == [2, 2, 2]
    assert all(not step[0].when and step[1].when is None for step in seen)
    assert torch.equal(weights(nets["first"]), before["first"])
    assert not torch.equal(weights(nets["second"]), before["second"])


def test_a_second_optimizer_has_a_key_of_its_own():
    def step(nets, batch, at):
        yield Update(("first", "second"), nets.second(nets.first(batch.x)).square().mean())
        yield Update(("first",), nets.first(batch.x).square().mean(), by="adversary")

    objective = Toy(step)
    objective.optimizers = {"first": ("adversary",)}
    (steps,) = train(objective, networks(), steps=1)
    assert [phase.keys for phase in steps] == [("first", "second"), ("first-adversary",)]


def test_logs_are_means_over_micro_batches():
    def step(nets, batch, at):
        loss = nets.first(batch.x).square().mean()
        yield Update(("first",), loss, {"loss/toy": loss.detach(), "data/mean": batch.x.mean()})

    objective, nets = Toy(step), networks()
    ((whole,),) = train(objective, nets, steps=1)
    ((parts,),) = train(objective, networks(), micro=4, steps=1)
    assert whole.logs.keys() == parts.logs.keys() == {"loss/toy", "data/mean"}
    for name, value in whole.logs.items():
        torch.testing.assert_close(parts.logs[name], value, rtol=1e-12, atol=1e-14)


def test_fresh_batches_are_new_and_in_order():
    seen = []

    def step(nets, batch, at):
        seen.append(batch.x)
        for _ in range(2):
            seen.append((yield Fresh()).x)
        yield Update(("first",), nets.first(batch.x).square().mean())

    objective = Toy(step, fresh=2)
    ((first, *rest),) = batches(objective)
    train(objective, networks(), steps=1)
    assert len(seen) == 3
    for got, drawn in zip(seen, (first, *rest), strict=True):
        assert torch.equal(got, drawn.x)
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


def test_every_is_the_last_of_n_steps():
    assert [step for step in range(12) if at(step).every(4)] == [3, 7, 11]


def test_progress_counts_all_real_batches_of_a_step():
    one, three = (Progress(step=5, batch=8, total_nimg=10**6, epoch_nimg=100, parts=parts) for parts in (1, 3))
    assert (one.nimg, three.nimg) == (40, 120)
    assert one.before("6it") and three.before("6it") and not three.before("5it")
    assert one.before("1ep") and not three.before("1ep")


def refused(step: Callable[..., Step], fresh: int = 0, micro: int = 1) -> str:
    objective = Toy(step, fresh)
    with pytest.raises(UsageError) as caught:
        train(objective, networks(), micro)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_network_that_does_not_exist_is_named():
    def step(nets, batch, at):
        yield Update(("first",), nets.first(batch.x).mean())
        yield Update(("secnd",), nets.first(batch.x).mean())

    assert refused(step) == (
        "ModuleDict: phase 2 of its step trains 'secnd', and the model has no such network. Did you mean second?"
    )


def test_an_update_without_a_trainable_parameter_is_named():
    def step(nets, batch, at):
        nets.first.requires_grad_(False)
        yield Update(("first",), nets.second(nets.first(batch.x)).mean())

    assert "ModuleDict: phase 1 of its step trains 'first', which has no trainable parameter" in refused(step)


@pytest.mark.parametrize("micro", [1, 2])
def test_yielding_inside_frozen_is_named(micro):
    def update(nets, batch, at):
        with frozen(nets.first):
            yield Update(("second",), nets.second(nets.first(batch.x)).mean())

    def mean(nets, batch, at):
        with frozen(nets.first):
            yield Mean(nets.first(batch.x).mean())

    def fine(nets, batch, at):
        yield Update(("first",), nets.first(batch.x).mean())

    for step in (update, mean):
        assert "ModuleDict: phase 1 of its step yields inside frozen(first): compute inside" in refused(
            step, micro=micro
        )
    train(Toy(fine), networks(), micro)  # nothing stays frozen


def test_more_fresh_batches_than_declared_are_refused():
    def step(nets, batch, at):
        yield Fresh()
        yield Fresh()

    assert "more than 1 fresh batches: set `fresh`" in refused(step, fresh=1)


@pytest.mark.parametrize("micro", [1, 2])
def test_an_update_that_waits_for_nothing_is_refused(micro):
    def other(nets, batch, at):
        loss = nets.second(nets.first(batch.x)).square().mean()
        yield Update(("first",), loss, keep_graph=True, waits=True)
        yield Update(("second",), loss)

    def end(nets, batch, at):
        yield Update(("first",), nets.first(batch.x).square().mean(), waits=True)

    def gated(nets, batch, at):
        yield Update(("first",), nets.first(batch.x).square().mean(), waits=True, when=torch.tensor(True))

    assert "waits for another update of first, and one of ('second',) follows" in refused(other, micro=micro)
    assert "waits for another update, and the step ends" in refused(end, micro=micro)
    assert "waits and has a gate" in refused(gated, micro=micro)


@pytest.mark.parametrize("micro", [1, 2])
def test_parts_of_an_update_are_added(micro):
    def parts(nets, batch, at):
        y = nets.second(nets.first(batch.x))
        yield Update(("first",), y.square().mean(), {"loss/a": y.detach().mean()}, keep_graph=True, waits=True)
        yield Update(("first",), y.mean(), {"loss/b": y.detach().mean()})

    def whole(nets, batch, at):
        y = nets.second(nets.first(batch.x))
        yield Update(("first",), y.square().mean() + y.mean())

    one, other = networks(), networks()
    seen = train(Toy(parts), one, micro)
    train(Toy(whole), other, micro)
    torch.testing.assert_close(weights(one), weights(other), rtol=1e-12, atol=1e-14)
    assert [[set(phase.logs) for phase in step] for step in seen] == [[{"loss/a", "loss/b"}]] * 3


def test_an_optimizer_that_is_not_declared_is_named():
    def step(nets, batch, at):
        yield Update(("first",), nets.first(batch.x).square().mean(), by="advrsary")

    assert "asks for an optimizer 'advrsary' of 'first', which `Objective.optimizers` does not declare" in refused(step)
