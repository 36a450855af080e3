"""Runs of the models whose encoder, decoder and critic move at once: VAE/GAN, ALI, BiGAN and VEEGAN."""

import shutil
from pathlib import Path

import pytest
import torch
from helpers import TINY, as_options, read_log, same, weights

import genzoo
from genzoo import Trainer, resolve
from genzoo.cli import main
from genzoo.priors import Prior
from genzoo.training.plan import plan

pytestmark = pytest.mark.usefixtures("one_thread")

RUNS = {
    "vaegan": ("vaegan", ("objective.form=official", "objective.margin=0", "train.log_every=1", "train.lr=1e-2")),
    "bigan": ("ali", ("arch.form=bigan", "arch.latent=grid")),
    "veegan": ("veegan", ("arch.latent=grid",)),
}
POINTS = ("arch.hidden=8,8", "train.batch=32", "train.duration=3it", "train.snapshot_every=100%", "data.limit=64")


def fitted(name: str) -> Path:
    model, own = RUNS[name]
    prior = "uniform" if name == "bigan" else "normal"
    return Trainer(resolve(model, settings=[*TINY, *own, f"train.prior={prior}"]), out=name, progress=False).fit()


@pytest.mark.parametrize("name", RUNS)
def test_a_resumed_run_is_the_uninterrupted_one(name, capsys):
    run = fitted(name)
    whole = weights(run)
    shutil.rmtree(run / "checkpoints" / f"{12:09d}")
    assert same(weights(fitted(name)), whole)
    model = genzoo.load(run)
    assert [child for child, _ in model.named_children()] == ["encoder", "decoder", "critic"]
    assert model.prior == (Prior("uniform") if name == "bigan" else Prior())
    assert model.reconstruct(torch.rand(2, 3, 16, 16)).shape == model.sample(2).shape == (2, 3, 16, 16)
    if name == "vaegan":
        gates_by_the_log(run)
    if name == "bigan":  # a point code and a uniform prior
        for verb in ("sample", "encode", "interpolate"):
            given = ["--n", "2"] if verb == "sample" else ["--data", "toyfaces", "--n", "2"]
            assert main([verb, str(run), *given]) == 0, capsys.readouterr().err


def gates_by_the_log(run: Path) -> None:
    """With a margin of 0, one network rests unless both costs are on its side; and at times the critic does."""
    lines = [line for line in read_log(run) if "moves/critic" in line][:12]
    for line in lines:
        assert line["moves/decoder"] + line["moves/critic"] >= 1
        assert ("gradient/critic" in line) == (line["moves/critic"] == 1)
    assert 0 < sum(line["moves/critic"] + line["moves/decoder"] for line in lines) < 24


@pytest.mark.parametrize(
    ("name", "updates"),
    [
        ("vaegan", ["1. encoder, by", "2. decoder (gated), by", "3. critic (gated), by"]),
        ("veegan", ["1. encoder + decoder, by", "2. critic, by"]),
    ],
)
def test_the_plan_lists_the_updates(name, updates):
    model, own = RUNS[name]
    text = plan(resolve(model, settings=[*TINY, *own]))
    for line in updates:
        assert line in text


@pytest.mark.parametrize("name", ["vaegan", "veegan"])
def test_points_train_compiled_as_uncompiled(name, monkeypatch):
    monkeypatch.setattr("genzoo.training.iteration.COMPILER", None)
    found = []
    for compiled in ("false", "true"):
        settings = [*POINTS, f"train.compile={compiled}", *(["objective.gate=true"] if name == "vaegan" else [])]
        trainer = Trainer(resolve(name, data="8gaussians", settings=settings), out=compiled, progress=False)
        trainer.fit()
        found.append(trainer.model.state_dict())
    assert max((found[0][key] - found[1][key]).abs().max().item() for key in found[0]) < 1e-6


def refused(capsys: pytest.CaptureFixture[str], model: str, *settings: str) -> str:
    """The line in which `genzoo train` refuses settings, after the preset's notes."""
    assert main(["train", model, *as_options(*TINY, *settings), "--dry-run"]) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_bad_settings_are_refused_in_one_line(capsys):
    assert "objective.depth=9: the critic's last stage is 1, as each entry" in refused(
        capsys, "vaegan", "objective.depth=9"
    )
    assert "objective.gamma" in refused(capsys, "vaegan", "objective.gamma=-1")
    assert "'ali' or 'bigan'" in refused(capsys, "ali", "arch.form=gan")
    assert "objective.weight" in refused(capsys, "ali", "objective.weight=0")
    assert "does not learn a prior" in refused(capsys, "veegan", "arch.prior=mog:2")


def test_presets_of_images_decode_points_without_bounds():
    for name in ("vaegan.cifar10", "ali.mnist-bigan"):
        run = resolve(name, data="8gaussians")
        assert (run.arch.encoder, run.arch.decoder, run.arch.output) == ("mlp", "mlp", "linear")
        assert any("points" in note for note in run.notes)
    assert resolve("veegan", res=64).arch.channels == (16, 16, 32, 64)


def test_codes_of_bigan_lie_where_its_prior_does():
    model = genzoo.create_model("ali", shape=(3, 16, 16), channels=(4, 8), z_dim=5, form="bigan")
    code = model.encode(100 * torch.rand(4, 3, 16, 16)).latent_dist
    assert isinstance(code.sample(), torch.Tensor) and code.mode().abs().max() <= 1
    assert model.latents(1000).abs().max() <= 1 and model.latents(1000).std().item() == pytest.approx(3**-0.5, rel=0.1)
    assert model.prior_name() == "uniform"
