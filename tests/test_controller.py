"""Settings that adjust themselves: the laws on simulated runs, real runs, and resuming bit for bit."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ONCE, tiny_run

import genzoo
from genzoo import Trainer
from genzoo.configure import resolve
from genzoo.controller import (
    BOUND,
    EVERY,
    FIRST,
    HORIZON,
    RATE,
    Averages,
    Balance,
    Calibration,
    Fixed,
    Law,
)
from genzoo.errors import UsageError
from genzoo.models.introvae.controllers import hinge_margin
from genzoo.models.vae import VAEObjective
from genzoo.objective import Progress
from genzoo.runs.checkpoint import Checkpoints

WARMUP = 300


def drive(balance, scalars, steps, start=0):
    """Shows a controller `scalars(step, value)` for every step; returns the values and the events."""
    values, events = [], []
    for step in range(start, start + steps):
        message = balance.observe(Progress(step=step, batch=8, total_nimg=10**6), scalars(step, balance.value))
        values.append(balance.value)
        events += [message] if message else []
    return values, events


def hinge_run(real=20.0, spread=3.0):
    """KL(sample) as in IntroVAE's Figure 5: generated images gather around m, a tenth of m apart."""

    def scalars(step, m):
        seen = {"kl/real": real + math.sin(step), "spread/real": spread}
        return seen if step < WARMUP else seen | {"kl/sample": m, "hinge/active": 0.5}

    return scalars


def soft_run(real=20.0, spread=3.0, scale=1 / 256, beta_kl=0.2, beta_rec=0.0):
    """KL(sample) where push and pull balance, which is how IntroVAE's margin is implicit in the exponential."""

    def scalars(step, beta_neg):
        seen = {"kl/real": real + math.sin(step), "spread/real": spread}
        sample = math.log(beta_neg / beta_kl) / (2 * scale * beta_neg)
        return (
            seen
            if step < WARMUP
            else seen | {"kl/sample": sample, "expelbo/sample": math.exp(-2 * scale * beta_neg * sample)}
        )

    return scalars


NAMES = ("margin", "beta_neg")


def case(name):
    """Returns (makes the controller, the run that it sees, its first choice)."""
    if name == "margin":
        return lambda: hinge_margin(16, f"{WARMUP}it"), hinge_run(), 20 + 20 / 4
    pytest.importorskip("genzoo.models.softintrovae")
    from genzoo.models.softintrovae.controllers import negative_weight, soft_weight

    make = lambda: negative_weight(16, 1 / 256, 0.2, f"{WARMUP}it")  # noqa: E731
    return make, soft_run(), soft_weight(20 + 2 * 3, 1 / 256, 0.2)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_choice_comes_from_the_warm_up_and_holds_in_a_quiet_run(name):
    make, game, expected = case(name)
    balance = make()
    before, _ = drive(balance, game, WARMUP - 1)
    assert len(set(before)) == 1  # nothing moves while nothing is known
    values, events = drive(balance, game, 2000, start=WARMUP - 1)
    assert values[0] == pytest.approx(expected, rel=0.02)
    assert len(set(values)) == 1
    assert [text.partition(",")[0].startswith(f"{name} = ") for text in events] == [True]
    assert "20" in events[0]  # the KL of real images it was chosen for


@pytest.mark.parametrize("offset", [0.1, 10.0])
@pytest.mark.parametrize("name", NAMES)
def test_a_start_ten_times_off_comes_back_without_overshoot(name, offset):
    make, game, expected = case(name)
    balance = make()
    balance.offset = offset
    values, _ = drive(balance, game, WARMUP + 2000)
    chosen = values[WARMUP - 1 :]
    assert chosen[0] == pytest.approx(offset * expected, rel=0.02)
    steps = [math.log(b / a) for a, b in pairwise(chosen)]
    assert max(map(abs, steps)) <= RATE + 1e-12
    assert all(step * math.log(offset) <= 1e-12 for step in steps)  # one way only
    assert chosen[EVERY * math.ceil(math.log(10) / RATE) + EVERY] == pytest.approx(expected, rel=0.02)
    assert chosen[-1] == pytest.approx(expected, rel=0.02)


def test_the_soft_weight_never_starts_where_it_loses_against_beta_kl():
    from genzoo.models.softintrovae.controllers import negative_weight

    balance = negative_weight(2, 0.5, 0.3, f"{WARMUP}it")
    balance.offset = 0.1
    values, _ = drive(balance, soft_run(real=0.3, spread=0.03, scale=0.5, beta_kl=0.3), WARMUP)
    assert values[-1] == pytest.approx(0.3 * math.e)


@pytest.mark.parametrize(
    ("name", "after", "way"),
    [
        ("margin", {"kl/real": 300.0, "spread/real": 8.0, "hinge/active": 0.5}, 1),  # real images above the margin
        ("margin", {"kl/real": 20.0, "spread/real": 3.0, "hinge/active": 0.0}, 1),  # a hinge that is off
        (
            "margin",
            {"kl/real": 0.2, "spread/real": 0.1, "hinge/active": 1.0},
            -1,
        ),  # one that never lets go, far above real images
        (
            "beta_neg",
            {"kl/real": 30.0, "spread/real": 3.0, "kl/sample": 10.0, "expelbo/sample": 0.5},
            -1,
        ),  # against the rule of thumb
        ("beta_neg", {"kl/real": 20.0, "spread/real": 3.0, "kl/sample": 300.0, "expelbo/sample": 0.0}, -1),  # underflow
        (
            "beta_neg",
            {"kl/real": 10.0, "spread/real": 1.0, "kl/sample": 60.0, "expelbo/sample": 0.5},
            1,
        ),  # far above and still pushing
    ],
)
def test_lasting_pressure_moves_a_setting_slowly_and_to_its_bound_only(name, after, way):
    make, game, expected = case(name)
    balance = make()
    drive(balance, game, WARMUP)
    values, events = drive(balance, lambda step, value: after, 4000, start=WARMUP)
    steps = [math.log(b / a) for a, b in pairwise(values)]
    assert all(way * step >= -1e-12 for step in steps)
    assert max(map(abs, steps)) <= RATE + 1e-12
    assert way * math.log(values[-1] / values[0]) > 0.5
    assert len(events) == 1  # logged once, not at every decision
    if name == "margin":
        assert values[-1] == pytest.approx(expected * BOUND**way, rel=0.02)
    else:
        from genzoo.models.softintrovae.controllers import soft_weight

        level = (20 + 2 * 3) * BOUND ** (-way)
        assert values[-1] == pytest.approx(soft_weight(level, 1 / 256, 0.2), rel=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_a_delayed_noisy_run_does_not_make_it_oscillate(name):
    """The KL of real images follows the level with a delay of 150 steps and a loop gain of 0.8, as adversarial training
    might draw it along.
    """
    make, _, expected = case(name)
    balance = make()
    real = 20.0
    changes = []

    def game(step, value):
        nonlocal real
        if step >= WARMUP:
            level = value if name == "margin" else math.log(value / 0.2) * 128 / value
            real += (20 + 0.8 * (level / 1.25 - 20) - real) / 150
        seen = {"kl/real": real + 2 * math.sin(37 * step), "spread/real": 3.0}
        if step < WARMUP:
            return seen
        return seen | {"kl/sample": 1.1 * real, "hinge/active": 0.5, "expelbo/sample": 0.2 / value}

    values, _ = drive(balance, game, WARMUP + 6000)
    settled = values[3000:]
    changes = [b - a for a, b in pairwise(settled) if b != a]
    assert sum(a * b < 0 for a, b in pairwise(changes)) <= 1
    assert max(settled) < 1.1 * min(settled)
    assert 1 / BOUND < values[-1] / expected < BOUND


def test_without_a_warm_up_the_first_steps_decide():
    balance = hinge_margin(16, "0")
    values, _ = drive(balance, lambda *_: {"kl/real": 10.0, "spread/real": 1.0, "hinge/active": 0.5}, FIRST)
    assert values[0] == values[-2] == 8.0  # half a nat per latent dimension until then
    assert values[-1] == pytest.approx(10 + math.sqrt(8))


def test_a_short_run_chooses_after_a_quarter_of_it():
    """And not after most of it, or never."""
    balance, total = hinge_margin(16, "5%"), 146 * 8
    moved = []
    for step in range(146):
        balance.observe(Progress(step, 8, total), {"kl/real": 10.0, "spread/real": 1.0, "hinge/active": 0.5})
        moved += [step] if not moved and balance.value != 8.0 else []
    assert moved == [39]  # the first multiple of 10 from 36.5 on


def test_decisions_fall_on_multiples_only_and_not_on_a_clock():
    balance = hinge_margin(2, "5it")
    values, _ = drive(balance, lambda *_: {"kl/real": 50.0, "spread/real": 1.0, "hinge/active": 0.0}, 600)
    moved = [step for step in range(1, 600) if values[step] != values[step - 1]]
    assert moved
    assert all((step + 1) % EVERY == 0 for step in moved)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cut", [WARMUP - 3, WARMUP + 7, WARMUP + 333])
def test_a_saved_state_goes_on_to_the_same_bits(name, cut):
    make, game, _ = case(name)
    whole, first, second = make(), make(), make()
    for balance in (whole, first):
        balance.offset = 3.0
    expected, _ = drive(whole, game, WARMUP + 1000)
    drive(first, game, cut)
    second.offset = 3.0
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    rest, _ = drive(second, game, WARMUP + 1000 - cut, start=cut)
    assert rest == expected[cut:]


def test_a_state_that_is_loaded_leaves_nothing_of_the_one_before():
    averages = Averages()
    empty = averages.state_dict()
    averages.add({"kl/real": 5.0})
    averages.load_state_dict(empty)
    assert averages.state_dict() == empty


def test_averages_are_means_at_once_and_forget_slowly():
    averages = Averages()
    averages.add({"a": 3.0})
    assert averages.means() == {"a": 3.0}
    for _ in range(3 * HORIZON):
        averages.add({"a": 5.0, "b": 1.0})
    assert averages.means() == {"a": pytest.approx(5.0, abs=2 * math.exp(-3)), "b": pytest.approx(1.0)}


@pytest.mark.parametrize(
    ("level", "scale", "beta_kl"), [(33.0, 1 / 3072, 1.0), (35.0, 1 / 256, 0.2), (700.0, 1 / 196608, 0.5)]
)
def test_the_soft_weight_solves_its_equation_on_the_falling_branch(level, scale, beta_kl):
    from genzoo.models.softintrovae.controllers import soft_weight

    b = soft_weight(level, scale, beta_kl)
    assert math.log(b / beta_kl) / (2 * scale * b) == pytest.approx(level)
    assert soft_weight(1.1 * level, scale, beta_kl) < b
    assert b > math.e * beta_kl


def test_the_soft_weight_is_the_highest_for_a_level_that_none_reaches():
    from genzoo.models.softintrovae.controllers import soft_weight

    assert soft_weight(50.0, 0.5, 0.3) == pytest.approx(0.3 * math.e)


def test_a_given_number_never_moves():
    fixed = Fixed(7.0)
    for step in range(100):
        assert (
            fixed.observe(Progress(step=step, batch=8, total_nimg=10**6), {"kl/real": 1e6, "spread/real": 0.0}) is None
        )
    assert fixed.value == 7.0
    assert fixed.state_dict() == {}
    trainer = Trainer(tiny_run("introvae", "objective.margin=20"), out="run")
    assert trainer.controllers == {}
    lines = [json.loads(line) for line in (trainer.fit() / "log.jsonl").read_text().splitlines()]
    assert not any(name.startswith(("control/", "guide/")) for line in lines for name in line)


AUTO = [
    ("introvae", "margin"), ("introvae", "beta"), ("softintrovae", "beta_neg"), ("softintrovae", "beta_rec"),
    ("vae", "beta_rec"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "field"), AUTO)
def test_auto_and_numbers_are_both_typed(model, field):
    assert getattr(resolve(model, settings=[f"objective.{field}=auto"]).objective, field) == "auto"
    assert getattr(resolve(model, settings=[f"objective.{field}=12"]).objective, field) == 12.0
    with pytest.raises(UsageError, match=rf"objective.{field}=often: .*it is float \| auto, default"):
        resolve(model, settings=[f"objective.{field}=often"])
    with pytest.raises(UsageError, match="greater than"):
        resolve(model, settings=[f"objective.{field}=-1"])


@pytest.mark.parametrize("field", ["beta_neg", "beta_rec"])
def test_auto_needs_something_to_weigh_against(field):
    with pytest.raises(UsageError, match=f"objective.{field}=auto .*objective.beta_kl"):
        Trainer(tiny_run("softintrovae", f"objective.{field}=auto", "objective.beta_kl=0"), out="run")


@pytest.mark.parametrize(("model", "field"), AUTO)
def test_auto_is_refused_on_data_without_variance(model, field, tmp_path):
    images = np.full((70, 16, 16, 3), 90, np.uint8)
    np.save(tmp_path / "same.npy", images)
    images[40] += 1
    np.save(tmp_path / "differ.npy", images)
    settings = ["arch.channels=8,16", "train.batch=4", "train.duration=8", f"objective.{field}=auto"]
    with pytest.raises(
        UsageError, match=f"objective.{field} cannot be chosen: the 63 items looked at, of 63, are all the same"
    ):
        Trainer(resolve(model, data=str(tmp_path / "same.npy"), settings=settings), out="same")
    Trainer(resolve(model, data=str(tmp_path / "differ.npy"), settings=settings), out="differ")


def test_a_calibrated_weight_is_half_the_inverse_of_the_mean_squared_error():
    """By hand: 48 values with an SSE of 1.5 have a variance of 1/32 each, so the weight is 16; then it follows an
    average over 100 steps, at every tenth step, until the warm-up ends.
    """
    calibration, errors = Calibration(48, f"{WARMUP}it"), []

    def scalars(step, _):
        errors.append(1.5 if step < 100 else 0.75)
        return {"error/sse": errors[-1]}

    values, events = drive(calibration, scalars, WARMUP + 50)
    assert values[99] == pytest.approx(16.0)
    assert values[100:109] == [values[99]] * 9
    weights = [0.99**age for age in reversed(range(WARMUP))]
    average = sum(w * e for w, e in zip(weights, errors[:WARMUP], strict=True)) / sum(weights)
    assert values[WARMUP - 1] == pytest.approx(48 / (2 * average))
    assert set(values[WARMUP:]) == {values[WARMUP - 1]}  # held in the game, whatever the error does
    assert events == []


def test_a_calibrated_weight_has_the_scale_of_its_objective_and_is_bounded():
    """IntroVAE weighs half the SSE, Soft-IntroVAE all its terms by beta_kl. Errors below a gray level count as one,
    and errors of a divergence as a quarter of the range.
    """
    halved = drive(Calibration(48, None, scale=2.0), lambda *_: {"error/sse": 1.5}, 10)[0]
    diverged = drive(Calibration(48, None), lambda *_: {"error/sse": 1e30}, 10)[0]
    perfect = drive(Calibration(48, None), lambda *_: {"error/sse": 0.0}, 10)[0]
    assert halved[-1] == pytest.approx(32.0)
    assert diverged[-1] == pytest.approx(8.0)
    assert perfect[-1] == pytest.approx(6 * 255**2)


def test_a_calibrated_weight_is_restored():
    one, other = Calibration(48, None), Calibration(48, None)
    drive(one, lambda step, _: {"error/sse": 1 / (1 + step)}, 55)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    rest = [drive(c, lambda step, _: {"error/sse": 1 / (1 + step)}, 45, start=55)[0] for c in (one, other)]
    assert rest[0] == rest[1]


@pytest.mark.parametrize(
    ("model", "field", "scale"), [("introvae", "beta", 1), ("softintrovae", "beta_rec", 0.25), ("vae", "beta_rec", 1)]
)
def test_objectives_follow_their_calibrated_weight(model, field, scale, monkeypatch):
    """In a real run: the logged weight is that of the logged errors, and the loss is made with it."""
    monkeypatch.setattr(Calibration, "MOST", math.inf)
    half = "objective.calibration=0.5"
    weak = {
        "introvae": [half],  # of the 2 that half the error has
        "softintrovae": ["objective.beta_kl=0.5", half],
        "vae": ["objective.beta=1"],
    }[model]
    long = [] if model == "vae" else ["objective.warmup=100%"]
    settings = [f"objective.{field}=auto", "train.duration=264", "train.log_every=1", *long, *weak, *ONCE]
    run = Trainer(tiny_run(model, *settings), out="run").fit()
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss/elbo" in line]
    size = math.prod(genzoo.load("run").shape)
    weights = [0.99**age for age in reversed(range(30))]
    average = sum(w * line["error/sse"] for w, line in zip(weights, steps[:30], strict=True)) / sum(weights)
    value = steps[30][f"control/{field}"]
    assert value == pytest.approx(scale * size / (2 * average), rel=1e-4)
    beta = {"introvae": value / 2}.get(model, value)
    kl = {"softintrovae": 0.5}.get(model, 1.0)
    assert steps[31]["loss/elbo"] == pytest.approx(beta * steps[31]["error/sse"] + kl * steps[31]["kl/real"], rel=1e-4)


@pytest.mark.parametrize(("model", "field"), [("introvae", "beta"), ("softintrovae", "beta_rec")])
def test_a_factor_on_a_weight_that_is_a_number_is_refused(model, field):
    settings = [f"objective.{field}=20", "objective.calibration=0.5"]
    with pytest.raises(UsageError, match=rf"factor on objective\.{field}=auto, and that is 20.0: leave it out"):
        Trainer(tiny_run(model, *settings), out="run", progress=False)


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr("genzoo.controller.FIRST", 20)
    monkeypatch.setattr("genzoo.controller.HORIZON", 5)


def controls(run: str) -> list[dict[str, Any]]:
    """What controllers logged in a run."""
    events = [json.loads(line) for line in (Path(run) / "events.jsonl").read_text().splitlines()]
    return [event for event in events if event["kind"] == "control"]


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(("model", "field"), [("introvae", "margin"), ("softintrovae", "beta_neg")])
def test_a_run_logs_what_it_chose_and_resumes_to_the_same_bits(model, field, monkeypatch):
    def values_and_weights(folder):
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        _, state, _ = Checkpoints(folder / "checkpoints", 2).load_latest()
        return {line["step"]: line[f"control/{field}"] for line in lines if f"control/{field}" in line}, state

    def offset_run(out, **more):
        settings = ("train.duration=400", "train.snapshot_every=33it", "train.prior=normal")
        trainer = Trainer(tiny_run(model, f"objective.{field}=auto", *settings), out=out)
        balance = trainer.controllers[field]
        assert isinstance(balance, Balance)
        balance.offset = 3.0  # so that it moves at every decision
        return trainer

    straight, state = values_and_weights(offset_run("straight").fit())
    assert len(set(straight.values())) >= 4
    first = next(event for event in controls("straight") if event["step"])
    assert first["step"] == 20
    assert "chosen for kl/real" in first["text"]

    stopped = offset_run("stopped")
    real_step = stopped.train_step

    def interrupted(parts, at):
        if at.step == 36:
            stopped.schedule.last = -math.inf  # a snapshot by the clock, between two decisions
        if at.step == 37:
            raise KeyboardInterrupt
        return real_step(parts, at)

    monkeypatch.setattr(stopped, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit()
    assert Checkpoints(Path("stopped/checkpoints"), 2).steps()[-1] == 37
    resumed, again = values_and_weights(offset_run("stopped").fit())
    assert {step: resumed[step] for step in straight} == straight
    assert state[f"controller-{field}"] == again[f"controller-{field}"]
    assert all(state["model"][key].equal(again["model"][key]) for key in state["model"])


@pytest.mark.usefixtures("hasty")
def test_how_often_losses_are_logged_decides_nothing():
    def last(every):
        trainer = Trainer(
            tiny_run("introvae", "objective.margin=auto", "train.duration=400", f"train.log_every={every}", *ONCE),
            out=f"every{every}",
        )
        trainer.controllers["margin"].offset = 3.0
        trainer.fit()
        return (
            trainer.controllers["margin"].state_dict(),
            [p.detach().clone() for p in trainer.model.parameters()],
            trainer.objective.guides,
        )

    (state, weights, guides), (other, others, _) = last(7), last(50)
    assert state == other
    assert all(a.equal(b) for a, b in zip(weights, others, strict=True))
    assert guides == {"kl": state["value"]}


def test_a_law_names_the_curves_that_the_log_shows():
    law = Law("weight", 1.0, lambda means: means["loss/critic"], lambda means, value: 1, ("loss/critic", "loss/later"))
    _, events = drive(Balance(law, "0"), lambda step, value: {"loss/critic": 3.0, "loss/other": 7.0}, FIRST + HORIZON)
    chosen, moves = events
    assert chosen.startswith("weight = 3, chosen for loss/critic 3 (") and moves.endswith("too low (loss/critic 3)")


def test_a_third_party_objective_brings_its_own_controller(monkeypatch):
    """An objective needs only a mapping `controllers`; the trainer passes each every step once, in order."""

    class Counter:
        value = 1.0

        def __init__(self):
            self.seen = []

        def observe(self, at, scalars):
            self.seen.append(at.step)
            assert "loss/elbo" in scalars
            return "half of the run" if at.step == 5 else None

        def state_dict(self):
            return {"n": float(len(self.seen))}

        def load_state_dict(self, state):
            self.seen = list(range(int(state["n"])))

    counter = Counter()
    monkeypatch.setattr(VAEObjective, "controllers", {"counter": counter})
    Trainer(tiny_run("vae", "train.log_every=5"), out="run").fit()
    assert counter.seen == list(range(12))
    assert [event["text"] for event in controls("run")] == ["half of the run"]
