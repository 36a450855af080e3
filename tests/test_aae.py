"""AAE and WAE-GAN: exactness, known mistakes, the prior's scale, runs."""

import shutil
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import TINY, as_options, same, weights
from reference_aae import AAE_MISTAKES, WAE_MISTAKES, Players, aae, wae_gan
from relatives import LR, STEPS, TOLERANCE, apart, copied, drawn, model_of, objective_of, train
from torch.distributions import Normal

import genzoo
from genzoo import Trainer, resolve
from genzoo.cli import main
from genzoo.models.aae.objective import log_density

pytestmark = pytest.mark.usefixtures("one_thread")
SCALE = 1.5
CASES: dict[str, dict[str, Any]] = {
    "paper": {"form": "paper", "beta": 0.7, "weight": 2.0},
    "wae": {"form": "wae", "beta": 0.3, "weight": 2.0},
    "wae-log-prior": {"form": "wae", "beta": 0.3, "weight": 2.0, "log_prior": True},
}
SETTINGS = [*TINY, "arch.hidden=8,8", "train.log_every=4", "train.snapshot_every=4it", "train.prior=normal"]


def transcribed(model: Any, kind: str, case: str, mistake: str | None = None) -> list[dict[str, float]]:
    """Trains a model by the transcription, with the latents that the objective draws."""
    c, objective, players = CASES[case], objective_of("aae", model, **CASES[case]), Players(model, LR)
    curves = []
    for step in range(STEPS):
        (batch,) = drawn(objective, step, kind)
        same_for_all = {"beta": c["beta"], "weight": c["weight"], "mistake": mistake}
        if c["form"] == "paper":
            curves.append(aae(players, batch.x, batch.z_p, **same_for_all))
        else:
            more = {"scale": SCALE, "log_prior": c.get("log_prior", False)}
            curves.append(wae_gan(players, batch.x, batch.z_p, **same_for_all, **more))
    return curves


@pytest.mark.parametrize(("case", "kind"), [*product(CASES, ("conv", "mlp")), ("paper", "shuffle"), ("wae", "dcgan:5")])
def test_weights_and_curves_are_the_transcriptions(case: str, kind: str):
    ours = model_of("aae", kind, prior_scale=SCALE)
    theirs = copied(ours)
    found = train(objective_of("aae", ours, **CASES[case]), ours, kind)
    expected = transcribed(theirs, kind, case)
    assert apart(ours, theirs) < TOLERANCE
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, rel=1e-9)


@pytest.mark.parametrize(("case", "kind"), [*product(CASES, ("conv", "mlp"))])
def test_micro_batches_give_the_same_weights(case: str, kind: str):
    ours = model_of("aae", kind, norm="none", prior_scale=SCALE)
    theirs = copied(ours)
    train(objective_of("aae", ours, **CASES[case]), ours, kind, micro=2)
    transcribed(theirs, kind, case)
    assert apart(ours, theirs) < TOLERANCE


MISTAKES = [("paper", mistake) for mistake in AAE_MISTAKES] + [("wae-log-prior", mistake) for mistake in WAE_MISTAKES]


@pytest.mark.parametrize(("case", "mistake"), MISTAKES)
def test_known_mistakes_are_far_away(case: str, mistake: str):
    right = model_of("aae", "mlp", prior_scale=SCALE)
    wrong = copied(right)
    transcribed(right, "mlp", case)
    transcribed(wrong, "mlp", case, mistake)
    assert apart(right, wrong) > 1e-5


def test_the_forms_differ_in_their_optimizers():
    model = model_of("aae")
    assert objective_of("aae", model).optimizers == {"encoder": ("adversary",)}
    assert objective_of("aae", model, form="wae").optimizers == {}


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_the_prior_has_its_scale(scale: float):
    model = genzoo.create_model("aae", shape=(2,), encoder="mlp", decoder="mlp", z_dim=3, prior_scale=scale)
    z = model.latents(4000, torch.Generator().manual_seed(0))
    assert z.std().item() == pytest.approx(scale, rel=0.02)
    expected = Normal(torch.zeros(3), scale).log_prob(z).sum(1)
    torch.testing.assert_close(log_density(z, scale), expected)


@pytest.fixture(scope="module")
def run(tmp_path_factory, own_cache) -> Path:
    """A run of 12 steps, with checkpoints at 8 and 12."""
    out = tmp_path_factory.mktemp("runs") / "aae"
    return Trainer(resolve("aae", settings=SETTINGS), out=out, progress=False).fit()


def test_a_run_resumes_to_the_same_bits_with_all_four_optimizers(run):
    shutil.copytree(run, "run")
    last = Path("run", "checkpoints", f"{12:09d}")
    assert any("encoder-adversary" in path.name for path in last.iterdir())
    shutil.rmtree(last)
    Trainer(resolve("aae", settings=SETTINGS), out="run", progress=False).fit()
    assert same(weights(run), weights(Path("run")))
    assert any(name.startswith("critic.") for name in weights(run))


def test_the_verbs_take_its_point_codes(run, capsys):
    for verb in (["sample", "--n", "2"], ["reconstruct", "--n", "2"], ["encode", "--n", "2"]):
        assert main([verb[0], str(run), *verb[1:]]) == 0, capsys.readouterr().err
    assert main(["train", "aae", "--dry-run", *as_options(*SETTINGS, "train.lr_of.encoder-adversary=1e-5")]) == 0
    assert "critic" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("objective.weight=-1", "objective.weight"),
        ("arch.prior_scale=0", "arch.prior_scale"),
        ("arch.prior=mog:3", "AAE does not learn a prior: leave out arch.prior=mog:3"),
        ("train.lr_of.adversary=1e-4", "train.lr_of.adversary: the model has no network of that name"),
    ],
)
def test_bad_settings_are_refused_in_one_line(setting: str, message: str, capsys):
    assert main(["train", "aae", *as_options(*SETTINGS, setting), "--out", "run"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_the_settings_of_public_code():
    run = resolve("aae.mnist")
    assert (run.arch.hidden, run.arch.z_dim, run.arch.prior_scale, run.train.lr) == ((1000, 1000), 2, 5, 1e-4)
    run = resolve("aae.celeba64-wae")
    assert (run.objective.form, run.objective.weight, run.objective.beta) == ("wae", 100, 0.2)
    assert (run.train.lr, run.train.lr_of["critic"], run.arch.hidden) == (3e-4, 1e-3, (1024,) * 4)
