"""Options of the two introspective objectives: each against a straight-line transcription in float64, with every form,
with micro-batches, and with what it refuses.
"""

import copy
import math
import weakref
from dataclasses import replace
from functools import cache, partial
from typing import Any

import pytest
import reference_options
import torch
from reference import players
from reference_options import Options
from steps import (
    FORMS,
    LR,
    SCALE,
    SHAPES,
    TOLERANCE,
    TWO_PLAYERS,
    N,
    Z,
    adams,
    at,
    data,
    distance,
    draw,
    micro_batches,
    move,
    networks,
    objective_of,
    train,
)
from steps import STEPS as ALL_STEPS
from torch import Tensor, nn

from genzoo.errors import UsageError
from genzoo.items import Items
from genzoo.models._diffaug import augmented
from genzoo.models._similarity import adversarial_similarity, annealing
from genzoo.nn import build_encoder
from genzoo.noise import Noise
from genzoo.objective import Objective, Spaces, phases
from genzoo.priors import Prior
from genzoo.registry import get_spec
from genzoo.spec import ArchConfig
from genzoo.training.graph import CompiledPhases

pytestmark = pytest.mark.usefixtures("one_thread")
SOFT = [form for form in TWO_PLAYERS if form.startswith("softintrovae")]
STEPS = 3


def transcribe(objective: Objective, form: str, kind: str, p: Any, options: Options, steps: int = STEPS) -> None:
    """The same steps in tests/reference_options.py, on the objective's own noise."""
    for step in range(steps):
        transcribe_batch(objective, form, kind, p, options, step, draw(objective, step, data(step, kind)))


def transcribe_batch(objective: Objective, form: str, kind: str, p: Any, options: Options, step: int, b: Any) -> None:
    c, official = objective.config, form.endswith("official")
    gain = 0 if (step + 1) % c.penalty_every else c.penalty_every
    o = replace(options, views=b.views, r1=gain * c.r1, r2=gain * c.r2)
    if getattr(c, "distance", "kl") == "as":
        o = replace(o, c=math.tanh(5 * step / ALL_STEPS))
    if FORMS[form][0] == "introvae":
        alpha_decoder = c.alpha if c.alpha_decoder is None else c.alpha_decoder
        weights = {"m": c.margin, "alpha": c.alpha, "alpha_decoder": alpha_decoder, "beta": c.beta}
        reference_options.introvae(p, b.x, b.eps, b.z_p, o, official=official, **weights, twice=c.recompute)
    else:
        names = {"b_kl": c.beta_kl, "b_rec": c.beta_rec, "b_neg": c.beta_neg, "gamma_r": c.gamma_r}
        weights = {"s": SCALE[kind], **names, "twice": c.recompute}
        reference_options.softintrovae(p, b.x, b.eps, b.z_p, b.eps_e, b.eps_d, o, official=official, **weights)


@cache
def without(form: str, kind: str) -> nn.ModuleDict:
    """Networks that were trained without options."""
    nets = networks(form, kind)
    train(objective_of(form, kind), nets, kind, STEPS)
    return nets


def check(form: str, kind: str, options: Options, **more: Any) -> None:
    """After some Adam steps, weights and BatchNorm buffers are those of the transcription, and not those without it."""
    objective = objective_of(form, kind, **more)
    nets = networks(form, kind)
    p = players(*copy.deepcopy(nets).values(), lr=LR)
    train(objective, nets, kind, STEPS)
    transcribe(objective, form, kind, p, options)
    for name, theirs in (("encoder", p.enc), ("decoder", p.dec)):
        assert distance(nets[name], theirs) < TOLERANCE
        assert distance(nets[name], without(form, kind)[name], buffers=False) > 100 * TOLERANCE


def check_micro_batches(form: str, kind: str, **more: Any) -> None:
    """Two micro-batches give the weights of one batch, on networks without BatchNorm."""
    whole, halves = networks(form, kind, norm="none"), networks(form, kind, norm="none")
    train(objective_of(form, kind, **more), whole, kind, steps=2)
    train(objective_of(form, kind, **more), halves, kind, steps=2, micro=2)
    assert distance(whole, halves) < TOLERANCE


@pytest.mark.parametrize("kind", ["conv", "mlp"])
@pytest.mark.parametrize("again", [False, True], ids=["kept-graph", "recompute"])
@pytest.mark.parametrize("form", TWO_PLAYERS)
def test_the_transcription_without_options_is_the_step(form: str, again: bool, kind: str):
    """So what the next tests find is the options'."""
    objective, nets = objective_of(form, kind, recompute=again), networks(form, kind)
    p = players(*copy.deepcopy(nets).values(), lr=LR)
    train(objective, nets, kind, STEPS)
    transcribe(objective, form, kind, p, Options())
    assert max(distance(nets.encoder, p.enc), distance(nets.decoder, p.dec)) < TOLERANCE


# economy


@pytest.mark.parametrize("again", [False, True], ids=["kept-graph", "recompute"])
@pytest.mark.parametrize("kind", ["conv", "mlp"])
@pytest.mark.parametrize("form", SOFT)
def test_economy_is_the_transcription(form: str, kind: str, again: bool):
    check(form, kind, Options(economy=True), economy=True, recompute=again)
    check_micro_batches(form, kind, economy=True, recompute=again)


@pytest.mark.parametrize("form", SOFT)
def test_economy_saves_a_decoding_per_kind_of_generated_image(form: str):
    counts = []
    for economy in (False, True):
        nets, calls = networks(form), list[int]()
        nets.decoder.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        train(objective_of(form, economy=economy), nets, steps=1)
        counts.append(len(calls))
    assert counts[0] - counts[1] == (2 if form.endswith("official") else 1)


# diffaug


@pytest.mark.parametrize("again", [False, True], ids=["kept-graph", "recompute"])
@pytest.mark.parametrize("form", TWO_PLAYERS)
def test_diffaug_is_the_transcription(form: str, again: bool):
    check(form, "conv", Options(), diffaug=True, recompute=again)
    check_micro_batches(form, "conv", diffaug=True, recompute=again, warmup="1it")


@pytest.mark.parametrize("form", TWO_PLAYERS)
def test_diffaug_is_no_part_of_the_warmup(form: str):
    plain, augmented_later = (
        train(objective_of(form, diffaug=diffaug, warmup="2it"), networks(form), steps=3) for diffaug in (False, True)
    )
    assert plain[:2] == augmented_later[:2]
    assert plain[2] != augmented_later[2]


def test_augmented_by_hand():
    """An image of ones, 16x16: what is moved in and cut out is 0, and the shares are those that are documented."""
    ones, off = torch.ones(1, 2, 16, 16), 0.9
    moved = augmented(ones, torch.tensor([[0.1, 0.999, 0.0, off, 0.5, 0.5]]))  # two down, two to the left
    assert moved[0, 0, :2].sum() == moved[0, 0, :, -2:].sum() == 0
    assert moved[0, :, 2:, :-2].min() == 1
    cut = augmented(ones, torch.tensor([[off, 0.5, 0.5, 0.1, 0.5, 0.5]]))
    assert cut[0, 0, 4:12, 4:12].sum() == 0
    assert cut.sum() == 2 * (256 - 64)
    corner = augmented(ones, torch.tensor([[off, 0.5, 0.5, 0.1, 0.0, 0.0]]))
    assert corner.sum() == 2 * (256 - 16)
    plain = augmented(ones, torch.tensor([[off, 0.5, 0.5, off, 0.5, 0.5]]))
    assert torch.equal(plain, ones)
    u = torch.rand(4000, 6, generator=torch.Generator().manual_seed(0))
    u[0] = 1 - 2**-24  # the largest that is drawn
    changed = (augmented(ones.expand(4000, -1, -1, -1), u) != 1).flatten(1).any(dim=1).float().mean()
    assert changed == pytest.approx(1 - 0.5 * (0.5 + 0.5 / 25), abs=0.03)  # one in 25 translations moves nothing


def test_augmented_passes_gradients_to_what_is_seen():
    x = torch.rand(5, 1, 8, 4, dtype=torch.float64, requires_grad=True)
    u = torch.rand(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda image: augmented(image, u), x)
    assert torch.autograd.gradgradcheck(lambda image: augmented(image, u).square(), x)


@pytest.mark.parametrize("form", TWO_PLAYERS)
def test_each_call_has_a_draw_of_its_own(form: str):
    views = draw(objective_of(form, diffaug=True), 0, data(0)).views
    assert len({numbers.sum().item() for numbers in views}) == len(views) == 7


def test_diffaug_needs_images():
    for form in TWO_PLAYERS:
        with pytest.raises(UsageError, match=r"objective.diffaug=true moves and cuts images.*\(2,\): leave it out"):
            objective_of(form, "mlp", diffaug=True)


# r1, r2


R1_R2 = {"r1": 0.02, "r2": 0.05, "penalty_every": 2}


@pytest.mark.parametrize("more", [{}, {"diffaug": True}, {"recompute": True}], ids=["plain", "diffaug", "recompute"])
@pytest.mark.parametrize("form", TWO_PLAYERS)
def test_slope_penalties_are_the_transcription(form: str, more: dict[str, Any]):
    """Added at every second step, twice as large."""
    check(form, "conv", Options(), **R1_R2, **more)


@pytest.mark.parametrize("name", ["r1", "r2"])
@pytest.mark.parametrize("form", TWO_PLAYERS)
def test_one_slope_penalty_alone(form: str, name: str):
    check(form, "mlp", Options(), **{name: 0.1, "penalty_every": 3})


@pytest.mark.parametrize("form", TWO_PLAYERS)
def test_slope_penalties_of_micro_batches(form: str):
    check_micro_batches(form, "conv", **R1_R2)


@pytest.mark.parametrize("form", TWO_PLAYERS)
def test_slopes_are_logged_at_the_steps_that_have_them(form: str):
    curves = train(objective_of(form, **R1_R2), networks(form), steps=4)
    assert [{"slope/real", "slope/sample"} <= step.keys() for step in curves] == [False, True, False, True]


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("form", TWO_PLAYERS)
def test_checkpointing_changes_no_slope_penalty(form: str, norm: str):
    """Second derivatives pass through recomputed activations."""
    plain, ours = networks(form, norm=norm), networks(form, norm=norm)
    for net in ours.values():
        net.gradient_checkpointing = True
    for nets in (plain, ours):
        train(objective_of(form, **R1_R2), nets, steps=2)
    assert distance(plain, ours) < TOLERANCE


class Attention(nn.Module):
    """An encoder with an operation that has no second derivative."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2 * Z)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        mixed = nn.functional.scaled_dot_product_attention(x, x, x)
        return self.head(mixed.mean(dim=(1, 2))).chunk(2, dim=1)


def test_slope_penalties_need_second_derivatives():
    form = TWO_PLAYERS[0]
    nets = networks(form)
    nets["encoder"] = Attention().double()
    with pytest.raises(UsageError, match=r"second derivatives, and an operation of this encoder has none: set arch"):
        train(objective_of(form, r1=1e-3, penalty_every=1), nets, steps=1)


def test_an_interval_of_no_penalty_is_refused():
    for form in TWO_PLAYERS:
        with pytest.raises(UsageError, match=r"objective.penalty_every=8 is the interval of .* 0: give one of them"):
            objective_of(form, penalty_every=8)


# encoder_steps


def parts_of(objective: Objective, step: int, start: int = 0, stop: int = N) -> list[Any]:
    """Real batches of one step, each with its own noise."""
    drawn = []
    for part in range(1 + objective.fresh):
        x = data(10 * step + part)
        noise = Noise(seed=7, step=step, batch=N, start=start, stop=stop, like=x, part=part)
        drawn.append(objective.draw(Items(x[start:stop]), noise))
    return drawn


def train_parts(objective: Objective, nets: nn.ModuleDict, micro: int = 1) -> list[list[str]]:
    """Trains for STEPS steps; returns the optimizers that stepped in each."""
    optimizers, moved, size = adams(nets), list[list[str]](), N // micro
    for step in range(STEPS):
        moved.append([])
        batches = [parts_of(objective, step, i * size, (i + 1) * size) for i in range(micro)]
        for phase in phases(objective, nets, batches, replace(at(step), parts=1 + objective.fresh)):
            moved[-1] += phase.keys
            move(phase, optimizers)
    return moved


@pytest.mark.parametrize("more", [{}, R1_R2, {"recompute": True}], ids=["plain", "slopes", "recompute"])
@pytest.mark.parametrize("form", TWO_PLAYERS)
def test_encoder_steps_are_the_transcription(form: str, more: dict[str, Any]):
    """Two updates of the encoder on fresh batches, then an iteration on the step's own."""
    objective, nets = objective_of(form, encoder_steps=3, **more), networks(form)
    p = players(*copy.deepcopy(nets).values(), lr=LR)
    assert train_parts(objective, nets) == [["encoder", "encoder", "encoder", "decoder"]] * STEPS
    for step in range(STEPS):
        first, *fresh = parts_of(objective, step)
        for b in fresh:
            transcribe_batch(objective, form, "conv", p, Options(encoder_only=True), step, b)
        transcribe_batch(objective, form, "conv", p, Options(), step, first)
    assert max(distance(nets.encoder, p.enc), distance(nets.decoder, p.dec)) < TOLERANCE


@pytest.mark.parametrize("form", TWO_PLAYERS)
def test_encoder_steps_of_micro_batches(form: str):
    objective = objective_of(form, encoder_steps=2, warmup="1it", **R1_R2)
    whole, halves = networks(form, norm="none"), networks(form, norm="none")
    moved = train_parts(objective, whole)
    assert train_parts(objective, halves, micro=2) == moved
    assert moved[0] == ["encoder", "decoder"] * 2  # both batches of a step of the warm-up train both networks
    assert distance(whole, halves) < TOLERANCE


def test_a_step_holds_no_graph_of_an_earlier_update():
    """What an update that ended with its optimizer's step has computed is freed before the next one computes."""
    form = TWO_PLAYERS[0]
    objective, nets = objective_of(form, encoder_steps=2), networks(form)
    graphs = list[weakref.ref]()
    nets.decoder.register_forward_hook(lambda net, inputs, output: graphs.append(weakref.ref(output)))
    at_phase = [
        sum(graph() is not None for graph in graphs)
        for _ in phases(objective, nets, [parts_of(objective, 0)], replace(at(0), parts=2))
    ]
    assert len(graphs) == 4 and at_phase[0] <= 2 and at_phase[1] <= 2


# bootstrap


@pytest.mark.parametrize("again", [False, True], ids=["kept-graph", "recompute"])
@pytest.mark.parametrize("kind", ["conv", "mlp"])
@pytest.mark.parametrize("form", SOFT)
def test_bootstrap_is_the_transcription(form: str, kind: str, again: bool):
    """Over an epoch of two steps, and into the next one; the target is the decoder as it was when the epoch began."""
    objective, nets = objective_of(form, kind, bootstrap=True, recompute=again), networks(form, kind)
    p, optimizers = players(*copy.deepcopy(nets).values(), lr=LR), adams(nets)
    for step in range(STEPS):
        progress = replace(at(step), epoch_nimg=2 * N)
        for phase in phases(objective, nets, micro_batches(objective, step, data(step, kind)), progress):
            move(phase, optimizers)
        if step % 2 == 0:
            target = copy.deepcopy(p.dec).requires_grad_(False)
        b = draw(objective, step, data(step, kind))
        transcribe_batch(objective, form, kind, p, Options(target=target), step, b)
    assert max(distance(nets.encoder, p.enc), distance(nets.decoder, p.dec)) < TOLERANCE


def test_bootstrap_is_refused_without_epochs():
    with pytest.raises(UsageError, match=r"objective.bootstrap=true copies the decoder once an epoch, and this"):
        train(objective_of("softintrovae-paper", bootstrap=True), networks("softintrovae-paper"), steps=1)


# distance


@pytest.mark.parametrize("more", [{}, {"recompute": True}, {"economy": True}, {"diffaug": True}], ids=str)
def test_the_distance_of_as_introvae_is_the_transcription(more: dict[str, Any]):
    """Its part falls from all of it in the first step; in the step, KLs have the rest."""
    check("softintrovae-official", "conv", Options(economy="economy" in more), distance="as", **more)


def test_similarity_by_hand():
    """One item a batch, one dimension: k(a, a) = 1 / sqrt(2 v)."""
    a, b = ((torch.tensor([[mean]]), torch.zeros(1, 1)) for mean in (0.0, 100.0))
    assert adversarial_similarity(a, a) == 0
    expected = 2 * math.sqrt(0.5) - 2 * math.exp(-1 / 4) * math.sqrt(0.5)  # means 0 and tanh(100) = 1, variances 1
    assert adversarial_similarity(a, b).item() == pytest.approx(expected, rel=1e-6)


def test_the_kl_begins_at_nothing_after_the_warmup():
    progress = [replace(at(0), step=step, total_nimg=100 * N) for step in (0, 20, 60, 99)]
    found = [annealing(one, "20it", torch.zeros(())).item() for one in progress[1:]]
    assert found == pytest.approx([0, math.tanh(5 / 2), math.tanh(5 * 79 / 80)])
    assert annealing(progress[0], "0", torch.zeros(())) == 0


def test_the_distance_is_refused_where_it_is_not_defined():
    with pytest.raises(UsageError, match=r"distance=as compares recon.*form=paper judges samples only: set"):
        objective_of("softintrovae-paper", distance="as")
    spec, prior = get_spec("softintrovae"), Prior("mog", components=3)
    with pytest.raises(UsageError, match=r"distance=as squashes latents .* arch.prior=mog .*leave one of the two out"):
        spec.objective(spec.config(distance="as"), Spaces(SHAPES["conv"], (Z,), prior))


# feature_loss


@pytest.mark.parametrize("more", [{}, {"recompute": True}, {"diffaug": True}], ids=str)
@pytest.mark.parametrize("form", SOFT)
def test_the_feature_loss_is_the_transcription(form: str, more: dict[str, Any]):
    """Of the poolings' outputs; the reconstruction passes through the encoder once more, and counts in BatchNorm."""
    check(form, "conv", Options(feature_loss=0.3), feature_loss=0.3, **more)


def test_the_feature_loss_of_micro_batches():
    check_micro_batches("softintrovae-official", "conv", feature_loss=0.3, warmup="1it")


@pytest.mark.parametrize("encoder", ["conv", "shuffle"])
def test_checkpointing_changes_no_stage(encoder: str):
    net = build_encoder((3, 16, 16), ArchConfig(encoder=encoder, z_dim=Z, channels=(4, 4, 8))).double()
    x = torch.rand(N, 3, 16, 16, dtype=torch.float64)
    code, plain = net(x, stages=True)
    net.gradient_checkpointing = True  # pyright: ignore[reportArgumentType]
    again, recomputed = net(x, stages=True)
    assert all(torch.equal(a, b) for a, b in zip((*code, *plain), (*again, *recomputed), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(net(x), code, strict=True))
    assert [tuple(one.shape[2:]) for one in plain] == {"conv": [(8, 8), (4, 4), (2, 2)], "shuffle": [(4, 4)] * 2}[
        encoder
    ]


def test_the_feature_loss_needs_a_convolutional_encoder():
    with pytest.raises(UsageError, match=r"feature_loss compares stages of .*, and this is MLPEncoder: set"):
        objective_of(SOFT[0], "mlp", feature_loss=0.1, warmup="1it").step(networks(SOFT[0], "mlp"), None, at(0))


# Compiled steps


def test_a_traced_step_with_options_is_the_step():
    """All of them at once, and of one model, as a trace takes seconds."""
    form, more = "softintrovae-paper", {"diffaug": True, "r1": 0.02, "r2": 0.05, "penalty_every": 1, "economy": True}
    objective, slow, fast = objective_of(form, **more), networks(form), networks(form)
    compiled = CompiledPhases(fast, partial(phases, objective, fast), objective.controllers, compiler=None)
    for run, optimizers in ((partial(phases, objective, slow), adams(slow)), (compiled, adams(fast))):
        for step in range(2):
            for phase in run(micro_batches(objective, step, data(step)), at(step)):
                move(phase, optimizers)
    assert distance(fast, slow) < TOLERANCE


def test_a_traced_step_follows_the_annealed_distance():
    """Its weight is another in each step, and an input of one trace."""
    form = "softintrovae-official"
    objective, slow, fast = objective_of(form, "mlp", distance="as"), networks(form, "mlp"), networks(form, "mlp")
    compiled = CompiledPhases(fast, partial(phases, objective, fast), objective.controllers, compiler=None)
    for run, optimizers in ((partial(phases, objective, slow), adams(slow)), (compiled, adams(fast))):
        for step in range(3):
            for phase in run(micro_batches(objective, step, data(step, "mlp")), at(step)):
                move(phase, optimizers)
    assert len(compiled.traces) == 1 and distance(fast, slow) < TOLERANCE
