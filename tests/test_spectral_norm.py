"""`arch.spectral_norm`: the weights of the encoder against their singular values; saved, loaded and resumed
exactly.
"""

import shutil
from functools import partial

import pytest
import torch
from helpers import ONCE, same, tiny_run, weights
from steps import (
    FORMS,
    PLACE,
    SHAPES,
    TOLERANCE,
    TWO_PLAYERS,
    Z,
    adams,
    at,
    data,
    distance,
    micro_batches,
    move,
    objective_of,
)
from torch import nn
from torch.nn.utils import parametrize

import genzoo
from genzoo import Trainer
from genzoo.errors import UsageError
from genzoo.nn import build_decoder, build_encoder
from genzoo.objective import phases
from genzoo.spec import ArchConfig
from genzoo.training.graph import CompiledPhases
from genzoo.training.plan import plan

pytestmark = pytest.mark.usefixtures("one_thread")
FORM = TWO_PLAYERS[0]


def networks(norm: str = "batch") -> nn.ModuleDict:
    arch = ArchConfig(z_dim=Z, channels=(4, 8), norm=norm, norm_place=PLACE[FORMS[FORM][0]], spectral_norm=True)
    torch.manual_seed(0)
    return nn.ModuleDict(
        {"encoder": build_encoder(SHAPES["conv"], arch), "decoder": build_decoder(SHAPES["conv"], arch)}
    ).double()


@pytest.mark.parametrize("encoder", ["conv", "shuffle"])
def test_every_weight_has_a_largest_singular_value_of_one(encoder: str):
    """After some passes in training; and eval mode moves nothing."""
    arch = ArchConfig(encoder=encoder, z_dim=Z, channels=(4, 8), spectral_norm=True)
    net, x = build_encoder((3, 16, 16), arch), torch.rand(4, 3, 16, 16)
    for _ in range(100):
        net(x)
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) >= 4
    for layer in layers:
        assert parametrize.is_parametrized(layer, "weight")
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)
    state = {name: value.clone() for name, value in net.eval().state_dict().items()}
    net(x)
    assert same(state, net.state_dict())


def test_the_decoder_is_left_alone():
    assert not any(parametrize.is_parametrized(layer) for layer in networks()["decoder"].modules())


@pytest.mark.parametrize("encoder", ["mlp", "timm:resnet18"])
def test_other_encoders_are_refused(encoder: str):
    with pytest.raises(UsageError, match=r"arch.spectral_norm=true is for genzoo's convolutional encoders, and"):
        genzoo.create_model("vae", shape=(3, 32, 32), encoder=encoder, spectral_norm=True)


def test_checkpointing_is_refused(monkeypatch):
    """And not recommended, either, where memory is short."""
    with pytest.raises(UsageError, match=r"train.checkpointing=true cannot recompute arch.spectral_norm=true: set one"):
        Trainer(tiny_run("introvae", "arch.spectral_norm=true", "train.checkpointing=true"))
    monkeypatch.setattr("genzoo.training.plan.machine_memory", lambda device: 1)
    assert "objective.recompute=true" in (text := plan(tiny_run("introvae", "arch.spectral_norm=true")))
    assert "train.checkpointing=true" not in text


def test_a_traced_step_moves_the_singular_vectors():
    objective, slow, fast = objective_of(FORM), networks(), networks()
    compiled = CompiledPhases(fast, partial(phases, objective, fast), objective.controllers, compiler=None)
    for run, optimizers in ((partial(phases, objective, slow), adams(slow)), (compiled, adams(fast))):
        for step in range(3):
            for phase in run(micro_batches(objective, step, data(step)), at(step)):
                move(phase, optimizers)
    assert distance(fast, slow) < TOLERANCE


@pytest.mark.parametrize("model", ["vae", "introvae"])
def test_a_saved_model_is_the_trained_one(tmp_path, model: str):
    """Weights and singular vectors bit for bit, and so what it encodes."""
    settings = ("arch.spectral_norm=true", "train.ema=0", "train.duration=32", *ONCE)
    trainer = Trainer(tiny_run(model, *settings), out=tmp_path, progress=False)
    trainer.fit()
    loaded, x = genzoo.load(tmp_path), torch.rand(4, 3, 16, 16)
    assert any(name.endswith("_u") for name in loaded.state_dict())
    assert same(dict(loaded.state_dict()), dict(trainer.model.state_dict()))
    again = genzoo.load(loaded.save_pretrained(tmp_path / "again") or tmp_path / "again")
    assert same(dict(loaded.state_dict()), dict(again.state_dict()))
    assert torch.equal(loaded.encode(x).latent_dist.mean, again.encode(x).latent_dist.mean)
    assert torch.equal(loaded.encode(x).latent_dist.mean, loaded.encode(x).latent_dist.mean)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    """Its last four steps once more, from the checkpoint before them."""
    settings = ("arch.spectral_norm=true", "train.snapshot_every=4it", "train.duration=64", "train.prior=normal")
    run, out = tiny_run("introvae", *settings), tmp_path / "run"
    whole = weights(Trainer(run, out=out, progress=False).fit())
    shutil.rmtree(out / "checkpoints" / f"{8:09d}")
    assert same(weights(Trainer(run, out=out, progress=False).fit()), whole)
