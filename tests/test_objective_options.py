"""Options of the two introspective objectives: each against a straight-line transcription in float64, with every form,
with micro-batches, and with what it refuses.
"""

import copy
from typing import Any

import pytest
import reference_options
from reference import players
from reference_options import Options
from steps import (
    FORMS,
    LR,
    SCALE,
    TOLERANCE,
    TWO_PLAYERS,
    data,
    distance,
    draw,
    networks,
    objective_of,
    train,
)

from genzoo.objective import Objective

pytestmark = pytest.mark.usefixtures("one_thread")
SOFT = [form for form in TWO_PLAYERS if form.startswith("softintrovae")]
STEPS = 4


def transcribe(objective: Objective, form: str, kind: str, p: Any, options: Options, steps: int = STEPS) -> None:
    """The same steps in tests/reference_options.py, on the objective's own noise."""
    c, official = objective.config, form.endswith("official")
    for step in range(steps):
        b = draw(objective, step, data(step, kind))
        if FORMS[form][0] == "introvae":
            alpha_decoder = c.alpha if c.alpha_decoder is None else c.alpha_decoder
            weights = {"m": c.margin, "alpha": c.alpha, "alpha_decoder": alpha_decoder, "beta": c.beta}
            reference_options.introvae(p, b.x, b.eps, b.z_p, options, official=official, **weights, twice=c.recompute)
        else:
            names = {"b_kl": c.beta_kl, "b_rec": c.beta_rec, "b_neg": c.beta_neg, "gamma_r": c.gamma_r}
            weights = {"s": SCALE[kind], **names, "twice": c.recompute}
            reference_options.softintrovae(
                p, b.x, b.eps, b.z_p, b.eps_e, b.eps_d, options, official=official, **weights
            )


def check(form: str, kind: str, options: Options, **more: Any) -> None:
    """After some Adam steps, weights and BatchNorm buffers are those of the transcription, and not those without it."""
    objective = objective_of(form, kind, **more)
    nets, without = networks(form, kind), networks(form, kind)
    p = players(*copy.deepcopy(nets).values(), lr=LR)
    train(objective, nets, kind, STEPS)
    transcribe(objective, form, kind, p, options)
    train(objective_of(form, kind), without, kind, STEPS)
    for name, theirs in (("encoder", p.enc), ("decoder", p.dec)):
        assert distance(nets[name], theirs) < TOLERANCE
        assert distance(nets[name], without[name], buffers=False) > 100 * TOLERANCE


def check_micro_batches(form: str, kind: str, **more: Any) -> None:
    """Two micro-batches give the weights of one batch, on networks without BatchNorm."""
    whole, halves = networks(form, kind, norm="none"), networks(form, kind, norm="none")
    train(objective_of(form, kind, **more), whole, kind, steps=3)
    train(objective_of(form, kind, **more), halves, kind, steps=3, micro=2)
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
