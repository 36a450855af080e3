"""IAN: exactness, known mistakes, a composed encoder, runs."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import TINY, as_options, same, weights
from reference_ian import MISTAKES, Players, ian
from relatives import LR, STEPS, TOLERANCE, apart, copied, drawn, model_of, objective_of, train

import genzoo
from genzoo import Trainer, resolve
from genzoo.cli import main
from genzoo.errors import UsageError
from genzoo.losses import kl_to_prior

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = {"weight_x": 2.0, "weight_features": 0.5, "beta": 0.7}
SETTINGS = [*TINY, "arch.head=8", "train.log_every=4", "train.snapshot_every=4it", "train.prior=normal"]


def transcribed(model: Any, kind: str, mistake: str | None = None) -> list[dict[str, float]]:
    """Trains a model by the transcription, with the noise that the objective draws."""
    objective, players, curves = objective_of("ian", model, **OPTIONS), Players(model, LR), []
    for step in range(STEPS):
        (batch,) = drawn(objective, step, kind)
        w = {"w_x": OPTIONS["weight_x"], "w_f": OPTIONS["weight_features"], "beta": OPTIONS["beta"]}
        curves.append(ian(players, step, batch.x, batch.eps, batch.z_p, **w, mistake=mistake))
    return curves


@pytest.mark.parametrize("kind", ["conv", "mlp", "dcgan:5", "shuffle"])
def test_weights_and_curves_are_the_transcriptions(kind: str):
    ours = model_of("ian", kind, head=8)
    theirs = copied(ours)
    found = train(objective_of("ian", ours, **OPTIONS), ours, kind)
    expected = transcribed(theirs, kind)
    assert apart(ours, theirs) < TOLERANCE
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, rel=1e-9)


@pytest.mark.parametrize("kind", ["conv", "mlp"])
def test_micro_batches_give_the_same_weights(kind: str):
    ours = model_of("ian", kind, norm="none", head=8)
    theirs = copied(ours)
    train(objective_of("ian", ours, **OPTIONS), ours, kind, micro=2)
    transcribed(theirs, kind)
    assert apart(ours, theirs) < TOLERANCE


@pytest.mark.parametrize("mistake", MISTAKES)
def test_known_mistakes_are_far_away(mistake: str):
    right = model_of("ian", "mlp", head=8)
    wrong = copied(right)
    transcribed(right, "mlp")
    transcribed(wrong, "mlp", mistake)
    assert apart(right, wrong) > 1e-5


def test_a_head_on_the_trunk_encodes_and_the_trunk_is_saved_once(tmp_path):
    model = genzoo.create_model("ian", shape=(3, 16, 16), channels=(4, 8), z_dim=4).eval()
    x = torch.rand(3, 3, 16, 16)
    posterior = model.encode(x).latent_dist
    torch.testing.assert_close(model.score(x)["kl"], kl_to_prior(posterior.mean, posterior.logvar))
    model.save_pretrained(tmp_path)
    again = genzoo.load(str(tmp_path))
    assert same(model.state_dict(), again.state_dict())
    assert {name.partition(".")[0] for name in model.state_dict()} == {"trunk", "head", "decoder", "critic"}
    torch.testing.assert_close(again.eval().reconstruct(x), model.reconstruct(x))


def test_a_trunk_without_stages_is_refused():
    with pytest.raises(UsageError, match="A trunk needs stages, and .* has none: set arch.encoder=conv, shuffle"):
        genzoo.create_model("ian", shape=(3, 32, 32), encoder="timm:resnet10t", z_dim=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory, own_cache) -> Path:
    """A run of 12 steps, with checkpoints at 8 and 12."""
    out = tmp_path_factory.mktemp("runs") / "ian"
    return Trainer(resolve("ian", settings=SETTINGS), out=out, progress=False).fit()


def test_a_run_resumes_to_the_same_bits(run):
    shutil.copytree(run, "run")
    shutil.rmtree(Path("run", "checkpoints", f"{12:09d}"))
    Trainer(resolve("ian", settings=SETTINGS), out="run", progress=False).fit()
    assert same(weights(run), weights(Path("run")))


def test_the_verbs_take_its_encoder(run, capsys):
    for verb in (["reconstruct", "--n", "2"], ["encode", "--n", "2"]):
        assert main([verb[0], str(run), *verb[1:]]) == 0, capsys.readouterr().err
    assert main(["train", "ian", "--dry-run", *as_options(*SETTINGS)]) == 0
    assert "trunk" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("objective.weight_x=-1", "objective.weight_x"),
        ("arch.head=0", "arch.head"),
        ("train.lr_of.encoder=1e-4", "train.lr_of.encoder: the model has no network of that name"),
    ],
)
def test_bad_settings_are_refused_in_one_line(setting: str, message: str, capsys):
    assert main(["train", "ian", *as_options(*SETTINGS, setting), "--out", "run"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_the_settings_of_the_authors_code():
    run = resolve("ian.celeba64")
    assert (run.train.batch, run.train.lr, run.train.betas, run.train.duration) == (16, 2e-4, (0.5, 0.999), "80ep")
    assert (run.arch.z_dim, run.arch.head, run.arch.channels) == (100, 1000, (128, 256, 512, 1024))
    assert (run.objective.weight_x, run.objective.weight_features, run.objective.beta) == (12, 1, 1)
