"""WGAN-GP: its step is Algorithm 1, no known mistake is its own, and what it refuses."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import reference_wgangp as reference
import torch
from helpers import same, tiny_run, weights
from relatives import LR, STEPS, TOLERANCE, apart, copied, drawn, items, model_of, objective_of, train
from torch import nn

from genzoo import Trainer, resolve
from genzoo.bench.runner import obstacle
from genzoo.bench.suites import get_suite
from genzoo.cli import main
from genzoo.errors import UsageError

pytestmark = pytest.mark.usefixtures("one_thread")

NAME, SHORT = "wgangp", ("objective.n_critic=2",)
OPTIONS = {"n_critic": 3, "penalty": 2.0, "slope": 0.5}


def transcribed(start: nn.Module, kind: str, mistake: str | None = None, **config: Any) -> tuple[nn.Module, list]:
    """A copy of the model that the transcription trained, and its curves."""
    model = copied(start)
    objective = objective_of(NAME, model, **config)
    opt_g, opt_c = (torch.optim.Adam(net.parameters(), lr=LR) for net in (model.decoder, model.critic))
    how = {"penalty": objective.config.penalty, "slope": objective.config.slope, "mistake": mistake}
    curves = [
        reference.iteration(model.decoder, model.critic, opt_g, opt_c, drawn(objective, step, kind), **how)
        for step in range(STEPS)
    ]
    return model, curves


@pytest.mark.parametrize(
    ("kind", "arch", "config"),
    [
        ("conv", {}, {}),
        ("dcgan", {"critic_norm": "group", "output": "tanh"}, {"generator_batch": 2, "dequantize": True}),
        ("mlp", {}, {"n_critic": 1, "slope": 1.0}),
    ],
)
def test_step_is_the_papers(kind: str, arch: dict[str, Any], config: dict[str, Any]):
    """Weights, BatchNorm's buffers and curves after six iterations are the transcription's."""
    config = OPTIONS | config
    model = model_of(NAME, kind, **arch)
    theirs, expected = transcribed(model, kind, **config)
    start = copied(model)
    curves = train(objective_of(NAME, model, **config), model, kind)
    assert apart(model, theirs) < TOLERANCE
    assert min(apart(model.decoder, start.decoder), apart(model.critic, start.critic)) > LR
    for got, want in zip(curves, expected, strict=True):
        assert got == pytest.approx(want, rel=1e-8)


@pytest.mark.parametrize("kind", ["conv", "mlp"])
def test_two_micro_batches_are_the_batch(kind: str):
    whole, parts = (model_of(NAME, kind, norm="none") for _ in range(2))
    for model, micro in ((whole, 1), (parts, 2)):
        train(objective_of(NAME, model, **OPTIONS), model, kind, micro=micro)
    assert apart(parts, whole) < TOLERANCE


@pytest.mark.parametrize("mistake", reference.MISTAKES)
def test_known_mistake_is_not_ours(mistake: str):
    model = model_of(NAME, "mlp")
    theirs, _ = transcribed(model, "mlp", mistake, **OPTIONS)
    train(objective_of(NAME, model, **OPTIONS), model, "mlp")
    distance = apart(model, theirs)
    print(f"{mistake}: {distance:.2g}")
    assert distance > 1e-3


def test_dequantized_images_are_the_authors():
    objective = objective_of(NAME, model_of(NAME), dequantize=True)
    (batch,) = drawn(objective_of(NAME, model_of(NAME), n_critic=1, dequantize=True), 0)
    assert objective.fresh == 4
    x = items(0)
    noise = batch.x * 256 - x * 255
    assert 0 <= noise.min() < 0.1 and 0.9 < noise.max() < 1
    torch.testing.assert_close(batch.x, reference.dequantized(x, noise))
    with pytest.raises(UsageError, match=r"objective.dequantize=true is for images of 8 bits: leave it out"):
        objective_of(NAME, model_of(NAME, "mlp"), dequantize=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory, own_cache) -> Path:
    """A run of six steps, with checkpoints at the third and the last."""
    settings = [*SHORT, "train.duration=96", "train.snapshot_every=50%", "arch.z_dim=4"]
    return Trainer(tiny_run(NAME, *settings), out=tmp_path_factory.mktemp("runs") / NAME, progress=False).fit()


def test_a_run_resumes_to_the_same_bits(run, tmp_path):
    begun = tmp_path / "begun"
    shutil.copytree(run, begun)
    steps = sorted(path.name for path in (begun / "checkpoints").iterdir())
    assert len(steps) == 2
    shutil.rmtree(begun / "checkpoints" / steps[-1])
    assert main(["train", "--resume", str(begun)]) == 0
    assert same(weights(run), weights(begun))


def test_a_compiled_step_is_the_eager_one(monkeypatch):
    monkeypatch.setattr("genzoo.training.iteration.COMPILER", None)
    settings = ("train.duration=3it", "train.snapshot_every=100%", "arch.hidden=8,8", "train.batch=16", *SHORT)
    found = []
    for compiled in ("false", "true"):
        config = resolve(NAME, data="8gaussians", settings=[*settings, f"train.compile={compiled}"])
        trainer = Trainer(config, out=compiled, progress=False)
        trainer.fit()
        found.append(trainer.model)
    assert apart(*found) < 1e-6


REFUSED = {
    "encode": "has no encoder, and `genzoo encode` needs one: use `genzoo sample`, or give another model",
    "reconstruct": "has no encoder, and `genzoo reconstruct` needs one: use `genzoo sample`, or give another model",
    "interpolate": "has no encoder, and `genzoo interpolate` needs one: use `genzoo sample`, or give another model",
    "translate": "has no encoder, and `genzoo translate` needs one: use `genzoo sample`, or give another model",
    "ood --out-data noise": "which has no encoder: give another model",
    "eval --metrics rec10_test": "needs an encoder of images, and wgangp has none: take",
    "eval --metrics elbo10_test": "needs an encoder of images, and wgangp has none: take",
    "eval --metrics msssim4_test_gmm": "has no fitted prior, as it has no encoder: take msssim4_test",
    "sample --prior gmm": "has no fitted prior",
}


@pytest.mark.parametrize("command", REFUSED)
def test_what_needs_an_encoder_is_refused_in_one_line(command: str, run, capsys):
    verb, *options = command.split()
    assert main([verb, str(run), *options]) == 2
    error = capsys.readouterr().err
    assert REFUSED[command] in error and len(error.splitlines()) == 1


def test_copies_are_looked_for_in_pixels_only(run, capsys):
    assert main(["copies", str(run), "--n", "20"]) == 0
    shares = capsys.readouterr().out
    assert "in pixels" in shares and "in the encoder's features" not in shares


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("wgangp.toyfaces32 --set objective.n_critic=0", "objective.n_critic"),
        ("wgangp.toyfaces32 --set arch.critic_norm=batch", "BatchNorm mixes items: set arch.critic_norm=none or group"),
        ("wgangp.toyfaces32 --set arch.prior=mog:2", "WGANGP does not learn a prior: leave out arch.prior=mog:2"),
        ("wgangp.toyfaces32 --set arch.conditional=concat --set data.labels=glasses", "WGANGP has no labeled networks"),
        ("wgangp.toyfaces32 --set data.labels=glasses", "WGANGP takes no labels, and it has no encoder: leave out"),
        ("wgangp.8gaussians --set arch.encoder=conv", "Convolutions need images"),
        ("wgangp.8gaussians --set objective.dequantize=true", "is for images of 8 bits"),
    ],
)
def test_bad_input_gets_one_line(options: str, error: str, capsys):
    assert main(["train", *options.split(), "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert error in said and len(said.splitlines()) == 1


def test_a_cell_that_measures_reconstructions_is_refused_before_it_is_trained():
    cell = replace(get_suite("quick")[1].cells("quick")[0], model="wgangp.toyfaces32", metrics=("rec50_test",))
    assert "rec50_test needs an encoder, and wgangp.toyfaces32 has none: leave one of them out" in obstacle(cell, None)


def test_no_prior_is_fitted_to_what_does_not_encode(tmp_path):
    with pytest.raises(UsageError, match="no prior can be fitted to WGANGP, as it has no encoder: leave it, or write"):
        Trainer(tiny_run(NAME, "train.prior=gmm"), out=tmp_path / "run", progress=False)
