"""Every objective's training step is its paper's or its published code's: float64, on tiny real networks, against
tests/reference.py.
"""

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import reference
import torch
from reference import Players, players
from steps import (
    FORMS,
    LR,
    SCALE,
    SHAPES,
    STEPS,
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
    run_step,
    train,
)
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from genzoo.losses import kl_to_prior, reparameterize, sse
from genzoo.objective import Objective, frozen, phases

pytestmark = pytest.mark.usefixtures("one_thread")


def transcription(form: str, objective: Objective, kind: str, p: Players, step: int) -> dict[str, float]:
    """The same iteration in tests/reference.py, on the objective's own noise."""
    model, c, b = FORMS[form][0], objective.config, draw(objective, step, data(step, kind))
    if model == "vae":
        return reference.vae(p, b.x, b.eps, kl_weight=c.beta, rec_weight=c.beta_rec)
    warm = step < int(c.warmup.removesuffix("it"))
    if model == "introvae":
        if warm:
            return reference.vae(p, b.x, b.eps, kl_weight=1, rec_weight=c.beta / 2 if c.form == "paper" else 1)
        alpha_decoder = c.alpha if c.alpha_decoder is None else c.alpha_decoder
        weights = {"m": c.margin, "alpha": c.alpha, "alpha_decoder": alpha_decoder, "beta": c.beta}
        algorithm = {"paper": reference.introvae_paper, "official": reference.introvae_official}[c.form]
        return algorithm(p, b.x, b.eps, b.z_p, **weights, twice=c.recompute)
    if warm:
        return reference.vae(p, b.x, b.eps, kl_weight=c.beta_kl, rec_weight=c.beta_rec)
    weights = {"s": SCALE[kind], "b_kl": c.beta_kl, "b_rec": c.beta_rec, "b_neg": c.beta_neg, "gamma_r": c.gamma_r}
    if c.form == "paper":
        return reference.softintrovae_paper(p, b.x, b.eps, b.z_p, b.eps_e[1], b.eps_d[1], **weights, twice=c.recompute)
    return reference.softintrovae_official(p, b.x, b.eps, b.z_p, b.eps_e, b.eps_d, **weights, twice=c.recompute)


CASES = [
    ("vae", "conv", {}),
    ("vae", "mlp", {}),
    *(
        (form, "conv", {"recompute": again, "warmup": warmup})
        for form in TWO_PLAYERS
        for again in (False, True)
        for warmup in ("0", "2it")
    ),
    *((form, "mlp", {"recompute": again}) for form in TWO_PLAYERS for again in (False, True)),
    ("introvae-paper", "conv", {"alpha_decoder": 0.6}),
    ("introvae-official", "conv", {"alpha_decoder": None}),
]


@pytest.mark.parametrize(("form", "kind", "more"), CASES, ids=lambda value: str(value))
def test_step_is_the_papers(form: str, kind: str, more: dict[str, Any]):
    """After 5 Adam steps all weights and BatchNorm buffers are the transcription's, and so were all logged curves on
    the way.

    With recompute the transcription decodes twice, and its decoder's running statistics count that.
    """
    objective = objective_of(form, kind, **more)
    nets = networks(form, kind)
    start = copy.deepcopy(nets)
    p = players(*copy.deepcopy(nets).values(), lr=LR)

    curves = train(objective, nets, kind)
    expected = [transcription(form, objective, kind, p, step) for step in range(STEPS)]

    for name, theirs in (("encoder", p.enc), ("decoder", p.dec)):
        assert distance(nets[name], start[name]) > LR
        assert distance(nets[name], theirs) < TOLERANCE
    for got, want in zip(curves, expected, strict=True):
        assert got == pytest.approx({name: want[name] for name in got}, rel=1e-10)
    if form.startswith("introvae"):
        active = [want["hinge/active"] for want in expected if "hinge/active" in want]
        assert 0 < sum(active) < len(active)  # both sides of the margin were met


@pytest.mark.parametrize("form", ["softintrovae-paper", "softintrovae-official"])
def test_no_gamma_r_saves_decodings_and_nothing_else(form: str):
    """With gamma_r = 0 the published step's weights come out, while the decoder's BatchNorm has seen one batch less per
    generated image.
    """
    objective = objective_of(form, gamma_r=0)
    nets = networks(form)
    p = players(*copy.deepcopy(nets).values(), lr=LR)

    train(objective, nets)
    for step in range(STEPS):
        transcription(form, objective, "conv", p, step)

    assert distance(nets.encoder, p.enc) < TOLERANCE
    assert distance(nets.decoder, p.dec, buffers=False) < TOLERANCE
    counts = [
        [int(v) for name, v in net.named_buffers() if name.endswith("num_batches_tracked")]
        for net in (nets.decoder, p.dec)
    ]
    saved = STEPS * {"softintrovae-paper": 1, "softintrovae-official": 2}[form]
    assert {theirs - ours for ours, theirs in zip(*counts, strict=True)} == {saved}


@pytest.mark.parametrize("form", [form for form in TWO_PLAYERS if form.startswith("softintrovae")])
def test_losses_per_image_are_the_published_ones_in_other_units(form: str):
    """The game's gradients are C H W times as large, and so as large as those of the warm-up before it."""

    def gradients(units: str, step: int) -> dict[str, Tensor]:
        objective, nets = objective_of(form, units=units, warmup="1it"), networks(form)
        for phase in phases(objective, nets, micro_batches(objective, step, data(step)), at(step)):
            assert phase.keys  # each network's gradients are complete when its phase is
        return {name: nn.utils.parameters_to_vector([p.grad for p in nets[name].parameters()]) for name in nets}

    warmup, published, ours = gradients("image", 0), gradients("value", 1), gradients("image", 1)
    for name, found in ours.items():
        assert (found - published[name] / SCALE["conv"]).norm() < TOLERANCE * found.norm()
        assert 0.1 < found.norm() / warmup[name].norm() < 10 < warmup[name].norm() / published[name].norm()


@pytest.mark.parametrize("again", [False, True], ids=["kept-graph", "recompute"])
@pytest.mark.parametrize("form", TWO_PLAYERS)
def test_each_phase_reaches_its_own_network_only(form: str, again: bool):
    """The encoder's phase comes first and leaves every decoder gradient None, the decoder's leaves every encoder
    gradient None.

    The first graph is kept only where the second phase walks it again.
    """
    nets, order, kept = networks(form), [], []
    objective, optimizers = objective_of(form, recompute=again), adams(nets)

    def backward(loss: Tensor, inputs: Sequence[nn.Parameter], keep_graph: bool) -> None:
        kept.append(keep_graph)
        loss.backward(inputs=inputs, retain_graph=keep_graph)

    for step in range(2):
        for phase in phases(objective, nets, micro_batches(objective, step, data(step)), at(step), backward=backward):
            order += phase.trains
            (trained,), (other,) = phase.trains, {"encoder", "decoder"}.difference(phase.trains)
            assert all(p.grad is not None for p in nets[trained].parameters())
            assert all(p.grad is None for p in nets[other].parameters())
            assert all(p.requires_grad for p in nets.parameters())
            assert kept[0] == (trained == "encoder" and not again)
            kept.clear()
            move(phase, optimizers)
    assert order == ["encoder", "decoder"] * 2


@pytest.mark.parametrize("form", FORMS)
def test_updates_can_be_logged(form: str):
    """Every phase, warm-up included, logs detached finite scalars named panel/curve, among them its loss, which can be
    differentiated.
    """
    nets, losses = networks(form), list[Tensor]()
    optimizers, objective = adams(nets), objective_of(form, **({} if form == "vae" else {"warmup": "1it"}))

    def backward(loss: Tensor, inputs: Sequence[nn.Parameter], keep_graph: bool) -> None:
        assert loss.ndim == 0 and loss.requires_grad and loss.isfinite()
        losses.append(loss.detach())
        loss.backward(inputs=inputs, retain_graph=keep_graph)

    number = []
    for step in range(2):
        number.append(0)
        for phase in phases(objective, nets, micro_batches(objective, step, data(step)), at(step), backward=backward):
            number[-1] += 1
            (logged,) = (value for name, value in phase.logs.items() if name.startswith("loss/"))
            assert logged == sum(losses)
            losses.clear()
            for name, value in phase.logs.items():
                assert re.fullmatch(r"[a-z]+/[a-z_]+", name)
                assert value.ndim == 0 and not value.requires_grad and value.isfinite()
            move(phase, optimizers)
    assert number == ([1, 1] if form == "vae" else [1, 2])


@pytest.mark.parametrize("form", FORMS)
def test_noise_of_a_step(form: str):
    """All random tensors of a step differ from each other and from the next step's; micro-batches see slices of the
    whole batch's.
    """
    objective, x = objective_of(form), data(0)
    batches = [draw(objective, 0, x), draw(objective, 1, x)]
    halves = [draw(objective, 0, x, 0, N // 2), draw(objective, 0, x, N // 2, N)]

    def tensors(batch: Any) -> list[Tensor]:
        parts = (part for entry in batch[1:] for part in (entry if isinstance(entry, tuple) else (entry,)))
        return [part for part in parts if part is not None]

    noise = [t for batch in batches for t in tensors(batch)]
    assert all(t.shape == (N, Z) and t.dtype == x.dtype for t in noise)
    assert len({t[0, 0].item() for t in noise}) == len(noise)
    assert torch.equal(batches[0].x, x)
    for whole, first, second in zip(tensors(batches[0]), *map(tensors, halves), strict=True):
        assert torch.equal(whole, torch.cat([first, second]))


# Micro-batches


@pytest.mark.parametrize(
    ("form", "kind", "more"),
    [("vae", kind, {}) for kind in SHAPES]
    + [
        (form, kind, more)
        for form in TWO_PLAYERS
        for kind in SHAPES
        for more in ({}, {"recompute": True, "warmup": "1it"})
    ],
    ids=lambda value: str(value),
)
def test_micro_batches_equal_the_batch(form: str, kind: str, more: dict[str, Any]):
    """Two micro-batches of 3 give the weights of one batch of 6 after 3 Adam steps, on networks without BatchNorm."""
    whole, halves = networks(form, kind, norm="none"), networks(form, kind, norm="none")
    train(objective_of(form, kind, **more), whole, kind, steps=3)
    train(objective_of(form, kind, **more), halves, kind, steps=3, micro=2)
    assert distance(whole, halves) < TOLERANCE


HALVES = ((0, N // 2), (N // 2, N))


def encoder_gradient(
    nets: nn.ModuleDict, objective: Objective, processes: list[list[tuple[int, int]]], exchange: bool
) -> Tensor:
    """Gradient of the first phase, averaged over processes of one or more micro-batches; they `exchange` what the
    objective asks for.
    """

    def first_phase(parts: list[tuple[int, int]], mean: Callable[[Tensor], Tensor]) -> Tensor:
        batches = [[draw(objective, 0, data(0), *part)] for part in parts]
        next(phases(objective, nets, batches, at(0), mean=mean))
        gradient = torch.cat([p.grad.flatten() for p in nets.encoder.parameters()])
        nets.zero_grad()
        return gradient

    asked: list[list[Tensor]] = [[] for _ in processes]
    for micro, values in zip(processes, asked, strict=True):
        first_phase(micro, lambda value, values=values: values.append(value) or value)
    averages = [torch.stack(values).mean() for values in zip(*asked, strict=True)]
    gradients = []
    for micro in processes:
        replies = iter(averages)
        mean = (lambda value, replies=replies: next(replies)) if exchange else lambda value: value
        gradients.append(first_phase(micro, mean))
    return torch.stack(gradients).mean(dim=0)


@pytest.mark.parametrize("active", [True, False], ids=["active", "inactive"])
def test_official_hinge_is_on_the_mean_of_the_global_batch(active: bool):
    """Where the two halves of a batch lie on different sides of the margin, micro-batches and processes agree with the
    whole batch.

    A hinge on each half's own mean does not: it is half on, whatever the mean of the whole batch is.
    """
    nets, x = networks("introvae-official", norm="none"), data(0)
    with torch.no_grad():
        b = draw(objective_of("introvae-official"), 0, x)
        means = reference.kl(*nets.encoder(nets.decoder(b.z_p))).view(2, N // 2).mean(dim=1)
    low, high = sorted(means.tolist())
    objective = objective_of("introvae-official", margin=low + (high - low) * (0.75 if active else 0.25))
    assert low < objective.config.margin < high and (means.mean() < objective.config.margin) == active

    whole = encoder_gradient(nets, objective, [[(0, N)]], exchange=True)
    micro_batches = encoder_gradient(nets, objective, [list(HALVES)], exchange=True)
    processes = encoder_gradient(nets, objective, [[half] for half in HALVES], exchange=True)
    apart = encoder_gradient(nets, objective, [[half] for half in HALVES], exchange=False)

    size = whole.norm()
    assert (micro_batches - whole).norm() < 1e-12 * size
    assert (processes - whole).norm() < 1e-12 * size
    assert (apart - whole).norm() > 1e-3 * size


# Gradient checkpointing


@pytest.mark.parametrize(
    ("form", "again", "norm"),
    [
        *((form, again, "batch") for form in TWO_PLAYERS for again in (False, True)),
        *((TWO_PLAYERS[-1], True, norm) for norm in ("group", "none")),
    ],
)
def test_checkpointing_changes_no_weight_and_no_statistic(form: str, again: bool, norm: str):
    """Adam steps with one of warm-up: every weight and BatchNorm buffer, and all curves, where graphs are walked
    twice or frozen.
    """
    plain, ours = networks(form, norm=norm), networks(form, norm=norm)
    for net in ours.values():
        net.gradient_checkpointing = True
    objective = objective_of(form, recompute=again, warmup="1it")
    curves = train(objective, plain, steps=3), train(objective, ours, steps=3)
    assert distance(plain, networks(form, norm=norm)) > LR
    assert distance(plain, ours) < TOLERANCE
    assert curves[1] == [pytest.approx(step, rel=1e-12) for step in curves[0]]


def test_checkpointing_as_torch_has_it_counts_images_twice():
    """Why genzoo.nn.checkpointing is there: torch's own function moves BatchNorm's statistics again in backward."""
    form = "introvae-paper"
    plain, theirs = networks(form), networks(form)
    for net in theirs.values():
        net.gradient_checkpointing = True
        net._gradient_checkpointing_func = lambda part, x: torch.utils.checkpoint.checkpoint(
            part, x, use_reentrant=False
        )
    for nets in (plain, theirs):
        train(objective_of(form), nets, steps=1)
    assert distance(plain, theirs, buffers=False) < TOLERANCE
    assert distance(plain, theirs) >= 1  # of num_batches_tracked


# Known mistakes of public implementations: ours differs from each, and agrees where the mistake is taken out again


def mistaken_run(form: str, mistake: str | None, steps: int) -> nn.ModuleDict:
    objective, nets = objective_of(form), networks(form)
    c, p = objective.config, players(*nets.values(), lr=LR)
    for step in range(steps):
        b = draw(objective, step, data(step))
        if form == "introvae-paper":
            reference.introvae_mistaken(p, b.x, b.eps, b.z_p, m=c.margin, alpha=c.alpha, beta=c.beta, mistake=mistake)
        else:
            weights = {
                "s": SCALE["conv"],
                "b_kl": c.beta_kl,
                "b_rec": c.beta_rec,
                "b_neg": c.beta_neg,
                "gamma_r": c.gamma_r,
            }
            reference.softintrovae_mistaken(p, b.x, b.eps, b.z_p, b.eps_e, b.eps_d, **weights, mistake=mistake)
    return nets


MISTAKES = [("introvae-paper", mistake) for mistake in (None, *reference.INTROVAE_MISTAKES)]
MISTAKES += [("softintrovae-official", mistake) for mistake in (None, *reference.SOFT_MISTAKES)]


def relative(ours: nn.Module, theirs: nn.Module, start: nn.Module) -> float:
    """How far apart two networks are, in units of how far training has moved one of them."""
    a, b, c = (nn.utils.parameters_to_vector(net.parameters()) for net in (ours, theirs, start))
    return ((a - b).norm() / (a - c).norm()).item()


@pytest.mark.parametrize(("form", "mistake"), MISTAKES)
def test_known_mistake_is_not_ours(form: str, mistake: str | None):
    """Three Adam steps of our objective and of the same step with one mistake end apart; without the mistake (None)
    they do not.
    """
    ours, start = (networks(form) for _ in range(2))
    train(objective_of(form), ours, steps=3)
    theirs = mistaken_run(form, mistake, steps=3)
    if mistake is None:
        assert distance(ours, theirs) < TOLERANCE
    else:
        assert max(relative(ours[name], theirs[name], start[name]) for name in ours) > 0.01


def test_one_adam_that_freezes_by_requires_grad_is_not_ours():
    """Our encoder rests during the decoder's step. With one Adam and zeroed gradients it moves on by momentum, and the
    result is another.

    With gradients set to None, the default of today's torch, one Adam is the same as two: the zeros are the mistake.
    """
    objective, ours, start = objective_of("introvae-paper"), networks("introvae-paper"), networks("introvae-paper")
    optimizers = adams(ours)
    for step in range(3):
        for phase in run_step(objective, ours, optimizers, step, data(step)):
            if phase.trains == ("decoder",):
                before = copy.deepcopy(ours.encoder)  # between backward and the optimizer's step
        assert distance(ours.encoder, before) == 0

    for set_to_none in (True, False):
        theirs, moved = networks("introvae-paper"), []
        adam = torch.optim.Adam(theirs.parameters(), lr=LR)
        c = objective.config
        for step in range(3):
            b = draw(objective, step, data(step))
            weights = {"m": c.margin, "alpha": c.alpha, "beta": c.beta}
            moved.append(
                reference.introvae_one_adam(
                    *theirs.values(), adam, b.x, b.eps, b.z_p, **weights, set_to_none=set_to_none
                )
            )
        if set_to_none:
            assert max(moved) == 0
            assert distance(ours, theirs) < TOLERANCE
        else:
            assert min(moved) > LR / 10
            assert relative(ours.encoder, theirs.encoder, start.encoder) > 0.01


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_frozen_passes_gradients_to_the_input(name: str):
    """The input of a frozen network gets the gradient that it gets without freezing, the weights get none, and flags
    are put back.
    """
    net = networks("introvae-paper")[name]
    inputs = [
        (data(0) if name == "encoder" else torch.ones(N, Z, dtype=torch.float64)).requires_grad_() for _ in range(2)
    ]

    def value(x: Tensor) -> Tensor:
        out = net(x)
        return sum(part.square().sum() for part in (out if name == "encoder" else (out,)))

    value(inputs[0]).backward()
    net.zero_grad()
    with frozen(net):
        loss = value(inputs[1])
    loss.backward()

    assert inputs[1].grad.abs().sum() > 0
    assert torch.equal(inputs[0].grad, inputs[1].grad)
    assert all(p.grad is None and p.requires_grad for p in net.parameters())

    first, *rest = net.parameters()
    first.requires_grad_(False)
    with pytest.raises(KeyError), frozen(net):
        assert not any(p.requires_grad for p in rest)
        raise KeyError
    assert not first.requires_grad and all(p.requires_grad for p in rest)


# Terms


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def test_kl_to_prior():
    """torch.distributions' KL summed over latent dimensions; zero at the prior; 1/2 |mu|^2 at unit variance."""
    mu, logvar = normal(5, 4), normal(5, 4).flip(0)
    expected = kl_divergence(Normal(mu, logvar.exp().sqrt()), Normal(torch.zeros_like(mu), torch.ones_like(mu))).sum(
        dim=1
    )
    torch.testing.assert_close(kl_to_prior(mu, logvar), expected, rtol=1e-12, atol=1e-12)
    zeros = torch.zeros(2, 3)
    assert kl_to_prior(zeros, zeros).tolist() == [0, 0]
    assert kl_to_prior(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)).tolist() == [12.5]


@pytest.mark.parametrize("shape", [(3, 4, 2), (1, 2, 2), (2,)])
def test_sse(shape: tuple[int, ...]):
    """The sum over everything but images, per image, without 1/2; as target and as reconstruction alike."""
    x, y = normal(4, *shape), normal(4, *shape).flip(0)
    expected = torch.stack(
        [sum((a - b) ** 2 for a, b in zip(i.flatten(), j.flatten(), strict=True)) for i, j in zip(x, y, strict=True)]
    )
    torch.testing.assert_close(sse(x, y), expected, rtol=1e-12, atol=0)
    assert sse(torch.zeros(2, *shape), torch.ones(2, *shape)).tolist() == [torch.Size(shape).numel()] * 2


def test_reparameterize():
    """The latent lies at the noise's quantile of N(mu, exp(logvar)), and gradients reach both parameters, not through
    the noise.
    """
    mu, logvar, eps = normal(5, 4).requires_grad_(), normal(5, 4).flip(0).requires_grad_(), normal(4, 5).T
    z = reparameterize(mu, logvar, eps)
    standard = Normal(torch.zeros((), dtype=torch.float64), 1)
    torch.testing.assert_close(
        z.detach(), Normal(mu, logvar.exp().sqrt()).icdf(standard.cdf(eps)).detach(), rtol=1e-9, atol=1e-9
    )
    z.sum().backward()
    assert torch.equal(mu.grad, torch.ones_like(mu))
    torch.testing.assert_close(logvar.grad, 0.5 * logvar.detach().exp().sqrt() * eps, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("hinge", ["image", "batch"])
@pytest.mark.parametrize("branch", [True, False])
def test_introvae_ablations_do_what_they_describe(hinge, branch):
    """Both losses of one step, written out for the hinge on either KL, with and without the reconstructions counting as
    generated.
    """
    form, m = "introvae-paper", 0.14
    objective, nets = objective_of(form, "mlp", hinge=hinge, reconstruction_branch=branch), networks(form, "mlp")
    batch = draw(objective, 0, data(0, "mlp"))
    enc, dec = nets.encoder, nets.decoder
    mu, logvar = enc(batch.x)
    x_r, x_p = dec(reparameterize(mu, logvar, batch.eps)), dec(batch.z_p)
    l_ae = 0.5 * sse(batch.x, x_r).mean()
    kls = [kl_to_prior(*enc(image)) for image in ((x_r, x_p) if branch else (x_p,))]
    hinges = [(m - kl).relu().mean() if hinge == "image" else (m - kl.mean()).relu() for kl in kls]
    expected_e = kl_to_prior(mu, logvar).mean() + 0.25 * sum(hinges) + 0.3 * l_ae
    expected_d = 0.25 * sum(kl.mean() for kl in kls) + 0.3 * l_ae
    losses = list[Tensor]()

    def backward(loss: Tensor, inputs: Sequence[nn.Parameter], keep_graph: bool) -> None:
        losses.append(loss.detach())

    list(phases(objective, nets, [[batch]], at(0), backward=backward))  # no optimizer steps in between
    torch.testing.assert_close(losses, [expected_e, expected_d], rtol=1e-12, atol=0)


def test_a_weight_that_rounding_hides_costs_no_decoding():
    """The published gamma_r = 1e-8 is below the resolution of float32: two decodings less there, and nothing else in
    float64.
    """
    form = "softintrovae-official"
    counts = {}
    for dtype in (torch.float32, torch.float64):
        objective, nets = objective_of(form, "mlp", gamma_r=1e-8), networks(form, "mlp").to(dtype)
        calls = []
        nets.decoder.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        batch = draw(objective, 0, data(0, "mlp").to(dtype))
        list(phases(objective, nets, [[batch]], at(0)))
        counts[dtype] = len(calls)
    assert counts[torch.float64] == counts[torch.float32] + 2
