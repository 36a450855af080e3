"""Optimizers, rates and averages: against hand computation, and what a kept graph and several processes must not do."""

import copy
import math
from functools import partial
from typing import Any

import pytest
import timm.optim.muon as timm_muon
import torch
from helpers import ONCE, tiny_run
from steps import recorded
from timm.optim import create_optimizer_v2
from timm.optim.muon import zeropower_via_newtonschulz as timm_zeropower
from torch import Tensor, nn

from genzoo import Trainer
from genzoo.errors import UsageError
from genzoo.objective import Progress, Update
from genzoo.spec import TrainConfig
from genzoo.training.launch import average_gradients
from genzoo.training.muon import COEFFICIENTS, Muon, orthogonalized
from genzoo.training.optim import WeightAverage, learning_rate, make_optimizer, make_optimizers

pytestmark = pytest.mark.usefixtures("one_thread")


def nets() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"encoder": nn.Linear(2, 2), "decoder": nn.Linear(2, 2)}


def at(step: int, total: int = 100) -> Progress:
    return Progress(step=step, batch=10, total_nimg=10 * total)


def rates(**settings: Any) -> list[float]:
    return [learning_rate(1.0, TrainConfig(**settings), at(step)) for step in (0, 25, 50, 75, 99)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"lr_schedule": "constant", "lr_drops": ("50%",)}, [1, 1, 1, 1, 1]),
        ({"lr_drops": ("300", "75%"), "lr_factor": 0.5}, [1, 1, 0.5, 0.25, 0.25]),
        ({"lr_schedule": "linear"}, [1, 0.75, 0.5, 0.25, 0.01]),
        ({"lr_schedule": "linear", "lr_from": "50%", "lr_end": 0.2}, [1, 1, 1, 0.6, 1 - 0.8 * 0.98]),
        ({"lr_schedule": "cosine"}, [0.5 * (1 + math.cos(done * math.pi)) for done in (0, 0.25, 0.5, 0.75, 0.99)]),
        ({"lr_schedule": "exponential", "lr_from": "500", "lr_end": 0.01}, [1, 1, 1, 0.1, 0.01**0.98]),
    ],
    ids=["constant", "steps", "linear", "linear from the middle", "cosine", "exponential"],
)  # fmt: skip
def test_schedules_are_functions_of_images_seen(settings, expected):
    assert rates(**settings) == pytest.approx(expected)


def test_an_exponential_that_ends_at_zero_is_refused():
    with pytest.raises(UsageError, match=r"train\.lr_end"):
        make_optimizers(nets(), {}, TrainConfig(lr_schedule="exponential"))


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_plain_optimizers_have_no_momentum_unless_asked_for(optimizer):
    for momentum in (None, 0.5):
        made = make_optimizers(nets(), {}, TrainConfig(optimizer=optimizer, momentum=momentum))["encoder"]
        assert made.param_groups[0]["momentum"] == (momentum or 0)
    p = nn.Parameter(torch.ones(1))
    step = make_optimizers({"net": nn.ParameterList([p])}, {}, TrainConfig(optimizer="sgd", lr=0.1))["net"]
    for _ in range(2):
        p.grad = torch.ones(1)
        step.step()
    assert p.item() == pytest.approx(0.8)  # Nesterov's momentum of 0.9 would give 0.52


@pytest.mark.parametrize("optimizer", ["adam", "lion"])
def test_momentum_of_an_optimizer_without_is_refused(optimizer):
    with pytest.raises(UsageError, match=r"leave train\.momentum out"):
        make_optimizers(nets(), {}, TrainConfig(optimizer=optimizer, momentum=0.5))


def test_a_second_optimizer_has_its_own_rate_or_its_networks():
    further = {"encoder": ("adversary",)}
    for lr_of, expected in (
        ({}, (1e-3, 1e-3)),
        ({"encoder": 1e-4}, (1e-4, 1e-4)),
        ({"encoder": 1e-4, "encoder-adversary": 1e-5}, (1e-4, 1e-5)),
    ):
        made = make_optimizers(nets(), further, TrainConfig(lr=1e-3, lr_of=lr_of))
        assert list(made) == ["encoder", "decoder", "encoder-adversary"]
        assert tuple(made[key].param_groups[0]["lr"] for key in ("encoder", "encoder-adversary")) == expected
    with pytest.raises(UsageError, match="Did you mean encoder-adversary"):
        make_optimizers(nets(), further, TrainConfig(lr_of={"encoder-adversry": 1e-5}))


def test_the_average_of_a_run_is_the_average_of_its_weights():
    """Recomputed from the raw weights of every step: decay 0.9, at most (1 + n) / (10 + n)."""
    trainer = Trainer(tiny_run("vae", "train.ema=0.3", *ONCE), out="run", progress=False)
    raw = next(trainer.model.decoder.parameters())
    history, real_step = [], trainer.train_step

    def recorded(parts, at):
        scalars = real_step(parts, at)
        history.append(raw.detach().clone())
        return scalars

    trainer.train_step = recorded
    trainer.fit()
    average = history[0]
    for n, value in enumerate(history[1:], start=1):
        decay = min(0.3, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * value
    assert trainer.ema is not None
    torch.testing.assert_close(next(trainer.ema.module.decoder.parameters()), average, rtol=1e-6, atol=1e-7)
    assert (average - history[-1]).abs().max() > 1e-6


def test_the_decay_of_the_average_warms_up():
    """The first weights are copied; then the decay is (1 + n) / (10 + n), at most the given one."""
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    average = WeightAverage(net, 0.9)
    for n in (0, 1, 2, 1000):
        with torch.no_grad():
            for tensor in (*net.parameters(), *net.buffers()):
                tensor.add_(1)
        average.n_averaged.fill_(n)
        before = [tensor.clone() for tensor in average.module.parameters()]
        average.update_parameters(net)
        share = 1 - min(0.9, (1 + n) / (10 + n)) if n else 1.0
        for old, now, new in zip(before, average.module.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(now, old + share * (new - old))
        assert average.module[1].num_batches_tracked == net[1].num_batches_tracked
        assert average.n_averaged == n + 1


def test_dropout_is_a_function_of_the_step():
    """The second half of a resumed run draws the same masks as an uninterrupted run."""
    settings = ("arch.encoder=timm:test_vit", "data.size=32x32", *ONCE)
    states = []
    for out, durations in (("straight", (48,)), ("halves", (24, 48))):
        for duration in durations:
            trainer = Trainer(tiny_run("vae", *settings, f"train.duration={duration}"), out=out, progress=False)
            for module in trainer.model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.5
            trainer.fit()
        states.append(trainer.model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))


def test_a_kept_graph_through_moved_weights_is_an_error():
    """Fused Adam alone would let it pass, with a wrong gradient."""
    trainer = Trainer(tiny_run("vae"), out="run", progress=False)

    def wrong_order(nets, batch, at):
        mu, _ = nets.encoder(batch.x)
        loss = nets.decoder(mu).square().mean()
        yield Update(("decoder",), loss, keep_graph=True)
        yield Update(("encoder",), loss)  # walks through the decoder, which has moved

    trainer.objective.step = wrong_order
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        trainer.fit()


class TwoProcesses:
    """Stands for two processes, of which the other one holds `other` as its flat message."""

    num_processes = 2

    def __init__(self, other: Tensor):
        self._other = other

    def reduce(self, flat: Tensor, how: str) -> Tensor:
        assert how == "mean"
        return (flat + self._other) / 2


def test_a_parameter_outside_of_every_graph_is_left_alone():
    """Weight and bias; the other process has a gradient of neither, of the bias, or of both."""
    for theirs, expected in (
        ([0.0, 0.0], (2.0, None)),
        ([0.0, 1.0], (2.0, 3.0)),
        ([1.0, 1.0], (5.0, 3.0)),
    ):
        net = nn.Linear(1, 1)
        net.weight.grad = torch.full((1, 1), 4.0)
        flat = torch.tensor([6.0 * theirs[0], 6.0 * theirs[1], *theirs])
        found = average_gradients(net.parameters(), TwoProcesses(flat))  # pyright: ignore[reportArgumentType]
        assert net.weight.grad.item() == expected[0]
        assert (net.bias.grad is None) if expected[1] is None else (net.bias.grad.item() == expected[1])
        assert len(found) == 2 - (expected[1] is None)


def test_muon_takes_the_steps_of_timms(monkeypatch):
    """In float64, in which timm is made to orthogonalize too: matrices of three sizes, and what is not a matrix."""
    monkeypatch.setattr(timm_muon, "zeropower_via_newtonschulz", partial(timm_zeropower, dtype=torch.float64))
    finals = []
    for kind in ("ours", "timm"):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False),
            nn.Conv2d(8, 8, 3, groups=8, bias=False),  # depthwise: by AdamW
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 3, 1),  # too narrow: by AdamW
            nn.Conv2d(3, 8, 3),
            nn.Flatten(),
            nn.Linear(32, 48),
            nn.Linear(48, 5, bias=False),
        ).to(torch.float64, memory_format=torch.channels_last)
        if kind == "ours":
            optimizer = Muon(net.parameters(), 1e-2, momentum=0.9, weight_decay=0.1, vector_lr=0.3, iterations=4)
        else:
            optimizer = create_optimizer_v2(
                net,
                "muon",
                lr=1e-2,
                momentum=0.9,
                weight_decay=0.1,
                filter_bias_and_bn=False,
                fallback_lr_scale=0.3,
                ns_steps=4,
            )
        data = torch.Generator().manual_seed(1)
        for _ in range(10):
            optimizer.zero_grad()
            net(torch.rand(4, 3, 8, 8, generator=data, dtype=torch.float64)).square().sum().backward()
            optimizer.step()
        finals.append([p.detach() for p in net.parameters()])
    for a, b in zip(*finals, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_muon_from_a_recording_takes_the_same_steps():
    """Also after its state was loaded: momenta are other tensors then."""
    nets = [nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 16)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    optimizers = Muon(nets[0].parameters(), 1e-2), Muon(nets[1].parameters(), 1e-2, record=recorded)
    for step in range(6):
        for net, optimizer in zip(nets, optimizers, strict=True):
            if step == 3:
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            optimizer.param_groups[0]["lr"] = 1e-2 / (1 + step)
            optimizer.zero_grad()
            net(torch.full((4, 8), 1.0 + step)).square().sum().backward()
            optimizer.step()
        assert all(torch.equal(a, b) for a, b in zip(*(net.parameters() for net in nets), strict=True))


def test_a_loaded_state_of_muon_is_on_the_device_of_its_weights():
    """`step` too, which torch leaves where it was saved unless the optimizer says `fused`: here, on the CPU."""
    nets = nn.Linear(8, 8), nn.Linear(8, 8, device="meta")
    optimizers = [Muon(net.parameters(), 1e-2) for net in nets]
    for p in nets[0].parameters():
        p.grad = torch.ones_like(p)
    optimizers[0].step()
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    assert {value.device.type for state in optimizers[1].state.values() for value in state.values()} == {"meta"}


@pytest.mark.parametrize("iterations", [1, 3, 5])
def test_orthogonalized_moves_singular_values_only(iterations):
    """Against a singular value decomposition and the scalar polynomial, for values over six decades; and zeros."""
    torch.manual_seed(0)
    shapes = [(6, 40), (40, 6), (6, 6), (9, 20)]
    matrices = [torch.randn(n, m, dtype=torch.float64) @ torch.logspace(0, -6, m).double().diag() for n, m in shapes]
    found = orthogonalized([*matrices, torch.zeros(4, 8)], COEFFICIENTS[:iterations])
    for x, y in zip(matrices, found, strict=False):
        u, s, vh = torch.linalg.svd(x, full_matrices=False)
        s = s / s.norm()
        for a, b, c in COEFFICIENTS[:iterations]:
            s = a * s + b * s**3 + c * s**5
        torch.testing.assert_close(y, u @ s.diag() @ vh, rtol=0, atol=1e-11)
    assert found[-1].shape == (4, 8) and not found[-1].any()


@pytest.mark.parametrize("name", ["muon", "adamuon"])
def test_muon_moves_vectors_as_far_as_matrices(name):
    """The first update: root mean square 0.2 x the rate, of weights by muon and of biases by AdamW."""
    net = nn.Linear(64, 32)
    before = [param.detach().clone() for param in net.parameters()]
    optimizer = make_optimizer(list(net.parameters()), 1e-2, TrainConfig(optimizer=name))
    for param in net.parameters():
        param.grad = torch.randn(param.shape, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    moved = [(a - b).square().mean().sqrt().item() for a, b in zip(net.parameters(), before, strict=True)]
    assert moved == pytest.approx([2e-3, 2e-3], rel=0.25)


def test_muon_trains_resumes_and_has_no_rule_on_growing_weights():
    """A run in two halves ends with the bits of one without a stop, and its log has no growth to judge."""
    states = []
    for out, durations in (("straight", (48,)), ("halves", (24, 48))):
        for duration in durations:
            settings = ("train.optimizer=muon", "train.lr=1e-2", f"train.duration={duration}", *ONCE)
            trainer = Trainer(tiny_run("introvae", *settings), out=out, progress=False)
            trainer.fit()
        states.append(trainer.model.state_dict())
        names = {name for line in trainer.folder.log.read() for name in line}
        assert "vitals/spread" in names and "vitals/growth" not in names
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
