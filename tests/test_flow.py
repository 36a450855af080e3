"""The flow that refines the fitted mixture: what it learns, what it keeps, its file, and the runs that train one."""

import math
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers import read_log, same, tiny_run
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import genzoo
from genzoo import Trainer
from genzoo.errors import UsageError
from genzoo.fitted import FILE, Flow, Mixture, fit, fit_flow, fit_mixture, flow, load_fitted, select
from genzoo.fitted.flow import Velocity, transported
from genzoo.training import snapshot
from genzoo.training.budget import Costs, plan_run
from genzoo.training.costs import time_flow
from genzoo.training.fitting import FLOW_SHARE, FLOW_STEPS, flow_steps

LEARNED = 95  # steps of the flow that tests share


def ring(n: int = 3000) -> torch.Tensor:
    """Points on a circle in three dimensions, which no Gaussian resembles."""
    rng = torch.Generator().manual_seed(0)
    angle, noise = 2 * math.pi * torch.rand(n, generator=rng), 0.02 * torch.randn(n, 3, generator=rng)
    return torch.stack([angle.cos(), 2 * angle.sin(), 0 * angle], 1) + noise


def radii(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([x[:, 0], x[:, 1] / 2], 1).norm(dim=1)


@pytest.fixture(scope="module")
def learned() -> Flow:
    return fit_flow(ring(), fit_mixture(ring(), 1), steps=LEARNED)


def test_a_flow_learns_what_its_mixture_leaves_out(learned):
    drawn = [prior.sample(2000, (3,), torch.Generator().manual_seed(1)) for prior in (learned.base, learned)]
    before, after = ((radii(x) - 1).abs().mean() for x in drawn)
    assert before > 0.3 and after < 0.15  # measured: 0.39, 0.089
    assert drawn[1][:, 2].abs().mean() < 0.05  # flat, as the ring is
    record = learned.training
    assert record.encodings == 3000 and record.steps == LEARNED and 0 < record.kept <= LEARNED
    assert record.heldout < 0.8 * record.still


def test_lines_begin_in_the_component_that_an_encoding_belongs_to():
    """Both ends in the flow's units; so the starts are distributed as the mixture."""
    rng = torch.Generator().manual_seed(0)
    x = torch.cat([torch.randn(500, 2, generator=rng) - 9, torch.randn(1500, 2, generator=rng) + 9])
    base, scales = fit_mixture(x, 2), torch.tensor([3.0, 0.5])
    start, end, t = next(flow._Pairs(x, base, scales, "cpu").batches(rng, 1, 1000))
    sides = [(part * scales @ base.basis.T + base.center).mean(1) > 0 for part in (start, end)]
    assert torch.equal(*sides) and 0 < t.min() < t.max() < 1
    drawn = start * scales @ base.basis.T + base.center
    assert drawn[sides[0]].mean(0) == pytest.approx(torch.full((2,), 9.0), abs=0.2)
    assert drawn[sides[0]].std(0) == pytest.approx(torch.ones(2), abs=0.1)


def test_heuns_method_is_of_second_order():
    class Rotation(nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return (2 * t)[:, None] * torch.stack([-x[:, 1], x[:, 0]], 1)  # after time 1: by one radian

    x = torch.tensor([[1.0, 0.0]])
    exact = torch.tensor([[math.cos(1), math.sin(1)]])
    errors = [(transported(Rotation(), x, steps) - exact).norm().item() for steps in (10, 20, 40)]
    assert errors[0] < 0.02
    assert errors[0] / errors[2] > 8  # the last step, Euler's, is of second order in its length, too


def test_a_flow_that_was_not_kept_is_its_mixture():
    x = ring(300)
    base = fit_mixture(x, 1)
    still = Flow(base, torch.ones(3), Velocity(3), flow.Training(300, 5, 0, 1.0, 1.0))
    assert not Velocity(3)(x, torch.rand(300)).any()
    draws = torch.rand(50), torch.randn(50, 3)
    assert torch.equal(still.at(*draws), base.at(*draws))


def test_few_encodings_are_not_copied():
    """A flow that is trained for long memorizes 60 encodings; what is kept is of before."""
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    found = fit_flow(x, fit_mixture(x, 1), steps=60)
    assert found.training.kept < 60
    nearest = torch.cdist(found.sample(500, (8,), torch.Generator().manual_seed(0)), x).amin(1)
    assert nearest.median() > 0.5 * torch.cdist(x, x).fill_diagonal_(math.inf).amin(1).median()


def test_fits_are_functions_of_encodings_and_seed():
    x, state = ring(300), torch.get_rng_state()
    first, again, other = (fit(x, "flow:6", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    draws = torch.rand(5), torch.randn(5, 3)
    assert torch.equal(first.at(*draws), again.at(*draws)) and not torch.equal(first.at(*draws), other.at(*draws))


def test_directions_beyond_the_most_are_the_mixtures(monkeypatch):
    monkeypatch.setattr(flow, "MOST", 2)
    x = torch.cat([ring(1000), 0.1 * torch.randn(1000, 4, generator=torch.Generator().manual_seed(2))], 1)
    found = fit_flow(x, fit_mixture(x, 1), steps=30)
    assert found.scales.shape == (2,) and found.training.kept
    draws = torch.rand(500), torch.randn(500, 7)
    moved = (found.at(*draws) - found.base.at(*draws)) @ found.base.basis
    assert moved[:, :2].abs().mean() > 0.1 and moved[:, 2:].abs().max() < 1e-4


def test_the_file_holds_tensors_and_text(learned, tmp_path):
    learned.save(tmp_path / FILE)
    again = load_fitted(tmp_path / FILE, 3)
    assert isinstance(again, Flow) and again.training == learned.training and again.base.record == learned.base.record
    draws = torch.rand(50), torch.randn(50, 3)
    assert torch.equal(again.at(*draws), learned.at(*draws))
    with pytest.raises(UsageError, match="3 latent dimensions, and the model has 7"):
        load_fitted(tmp_path / FILE, 7)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:5000])
    with pytest.raises(UsageError, match="cannot be read as a fitted prior"):
        load_fitted(tmp_path / FILE, 3)


@pytest.mark.parametrize("harm", ["scales", "net.enter.weight", "base.center"])
def test_a_file_whose_tensors_do_not_fit_together_is_refused(learned, harm, tmp_path):
    learned.save(tmp_path / FILE)
    tensors = load_file(tmp_path / FILE)
    with safe_open(tmp_path / FILE, "pt") as file:
        about = file.metadata()
    for changed in (tensors[harm][:1].clone(), torch.full_like(tensors[harm], math.nan)):
        save_file({**tensors, harm: changed}, tmp_path / FILE, about)
        with pytest.raises(UsageError, match="cannot be read as a fitted prior"):
            load_fitted(tmp_path / FILE, 3)


def test_a_flow_also_offers_its_mixture(learned):
    assert select(learned, "flow") is learned is select(learned, f"flow:{LEARNED}")
    assert select(learned, "gmm") is learned.base is select(learned, "gmm:1")
    for name in ("gmm:2", "flow:401", "normal"):
        assert select(learned, name) is None
    assert select(learned.base, "flow") is None and select(None, "gmm") is None


@pytest.mark.parametrize("latent", ["flat", "grid"])
def test_a_model_samples_from_either(latent):
    model = genzoo.create_model("vae", latent=latent, shape=(3, 16, 16), channels=(4, 8), z_dim=5).eval()
    model.fit_prior(torch.rand(600, 3, 16, 16, generator=torch.Generator().manual_seed(0)).split(100), "flow:10")
    assert model.prior_name() == "flow:10" and model.prior_name("gmm") == model.fitted_prior.base.name
    rng = torch.Generator()
    drawn = {prior: model.latents(3, rng.manual_seed(0), prior=prior) for prior in (None, "flow", "gmm", "normal")}
    assert torch.equal(drawn[None], drawn["flow"]) and not torch.equal(drawn["gmm"], drawn["normal"])
    assert torch.equal(drawn["flow"], drawn["gmm"]) == (model.fitted_prior.training.kept == 0)
    model.save_pretrained("saved")
    again = genzoo.load("saved")
    torch.testing.assert_close(again.latents(3, rng.manual_seed(0)), drawn["flow"])
    card = Path("saved/README.md").read_text()
    assert re.search(r"`flow:10`, the mixture `gmm:\d+`, refined by a flow of 10 steps", card)


def test_two_encodings_have_no_flow():
    with pytest.raises(UsageError, match="take gmm"):
        fit(torch.eye(2), "flow")


def test_the_flow_of_a_run_has_a_share_of_its_steps():
    least, most = FLOW_STEPS
    steps = [flow_steps("auto", n) for n in (0, FLOW_SHARE * least - 1, FLOW_SHARE * least, 10**7)]
    assert steps == [0, 0, least, most]
    assert [flow_steps(asked, 10) for asked in ("flow:7", "flow", "gmm", "gmm:5", "normal")] == [7, flow.STEPS, 0, 0, 0]


def test_a_budget_has_room_for_the_flow():
    costs = Costs(0.1, 0.1, 1.0, flow=0.05)
    without, beside = (plan_run("3min", 0.0, costs, lambda n: 0, flow_steps=f) for f in (lambda n: 0, lambda n: n // 3))
    assert without.snapshots == beside.snapshots
    assert beside.steps == pytest.approx(without.steps * 0.1 / (0.1 + 0.05 / 3), rel=0.01)


@pytest.mark.parametrize("worse", [None, 1e9, math.nan])
def test_a_run_keeps_the_flow_where_its_samples_score_better(worse, monkeypatch, capfd):
    better = worse is None
    monkeypatch.setattr(snapshot, "score_of", lambda *_: 0.0 if better else worse)
    run = Trainer(tiny_run("vae", "train.prior=flow:8"), out="run").fit()
    last, refined = [line for line in read_log(run) if "prior" in line][-2:]
    assert refined["refined/pyramid_frechet"] == pytest.approx(0.0 if better else worse, nan_ok=True)
    assert last["prior"].startswith("gmm:") and refined["prior"] == "flow:8" and last["step"] == refined["step"]
    kept = genzoo.load(run).fitted_prior
    assert isinstance(kept, Flow if better else Mixture)
    assert f"{'flow:8' if better else kept.name} is kept" in capfd.readouterr().out
    shown = "0.0000" if better else f"{last['score/pyramid_frechet']:.4f}"
    assert shown in (run / "model" / "README.md").read_text()


FLOW = ("train.snapshot_every=6it", "train.prior=flow:8")


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """A run that keeps its flow, whatever its samples score."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "score_of", lambda *_: 0.0)
        return Trainer(tiny_run("introvae", *FLOW), out=tmp_path_factory.mktemp("straight") / "run").fit()


def test_a_resumed_run_ends_with_the_same_flow(straight, monkeypatch):
    monkeypatch.setattr(snapshot, "score_of", lambda *_: 0.0)
    Trainer(tiny_run("introvae", *FLOW, "train.duration=48"), out="run").fit()
    run = Trainer(tiny_run("introvae", *FLOW), out="run").fit()
    assert same(*[load_file(path / "model" / FILE) for path in (run, straight)])
    assert genzoo.load(run).fitted_prior.training.kept
    logs = [[line for line in read_log(path) if "refined/pyramid_frechet" in line][-1] for path in (run, straight)]
    assert logs[0]["refined/pyramid_frechet"] == logs[1]["refined/pyramid_frechet"]


def log_of(path: Path) -> list[dict[str, float]]:
    """What the log says, but for seconds and memory."""
    differs = ("seconds", "peak_gib")
    return [{key: value for key, value in line.items() if key not in differs} for line in read_log(path)]


def test_a_run_that_is_stopped_in_its_flow_ends_with_the_same_one(straight, monkeypatch, capfd):
    """Until it is resumed, what is exported has the mixture."""
    monkeypatch.setattr(snapshot, "score_of", lambda *_: 0.0)
    config = tiny_run("introvae", *FLOW)
    trainer = Trainer(config, out="run")
    refine = trainer.prior_fit.refine

    def pressed(model):
        signal.raise_signal(signal.SIGINT)
        return refine(model)

    monkeypatch.setattr(trainer.prior_fit, "refine", pressed)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    said = capfd.readouterr().out
    assert "not trained yet" in said and "everything is saved. To resume:" in said
    assert isinstance(genzoo.load("run").fitted_prior, Mixture)
    run = Trainer(config, out="run").fit()
    assert same(*[load_file(path / "model" / FILE) for path in (run, straight)])
    assert log_of(run) == log_of(straight)


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])  # a second Ctrl-C; a kill
def test_training_is_saved_before_the_last_snapshot(end, straight, monkeypatch):
    monkeypatch.setattr(snapshot, "score_of", lambda *_: 0.0)
    config = tiny_run("introvae", *FLOW)
    trainer = Trainer(config, out="run")
    show = trainer.snapshots._show

    def ends(model, fixed, nimg):
        if trainer.step == trainer.total_steps:
            raise end
        show(model, fixed, nimg)

    monkeypatch.setattr(trainer.snapshots, "_show", ends)
    with pytest.raises(end):
        trainer.fit()
    resumed = Trainer(config, out="run")
    monkeypatch.setattr(resumed, "train_step", None)  # nothing is trained again
    run = resumed.fit()
    for name in (FILE, "diffusion_pytorch_model.safetensors"):
        assert same(*[load_file(path / "model" / name) for path in (run, straight)])
    assert log_of(run) == log_of(straight)
    before = (run / "log.jsonl").read_text()
    Trainer(config, out="run").fit()
    assert (run / "log.jsonl").read_text() == before  # it is complete, and no snapshot is taken again


def test_a_flow_is_timed_where_the_run_has_one():
    for prior, timed in (("flow:8", True), ("auto", True), ("gmm", False), ("normal", False)):
        trainer = Trainer(tiny_run("vae", f"train.prior={prior}"), out=prior)
        trainer.prior_fit(trainer.shown, last=False)
        mixture = trainer.shown.fitted_prior
        assert (time_flow(trainer, time.monotonic) > 0) == timed and trainer.shown.fitted_prior is mixture


@pytest.mark.parametrize("x", [torch.randn(40, 64), torch.cat([torch.randn(300, 3), torch.zeros(300, 2)], 1)])
def test_directions_without_variance_are_left_alone(x):
    """Fewer encodings than dimensions, and latents that are always the same."""
    found = fit_flow(x, fit_mixture(x, 1), steps=15)
    assert found.training.still < 20
    drawn = found.sample(100, x.shape[1:], torch.Generator().manual_seed(0))
    assert drawn.isfinite().all() and drawn.std(0).max() < 2 * x.std(0).max()
