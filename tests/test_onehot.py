"""Labels as inputs of the networks, `arch.conditional=concat`: the step against a transcription, models and runs."""

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import as_options, same, tiny_run, weights
from PIL import Image
from reference import Players, players
from reference_options import Options
from steps import LR, SHAPES, STEPS, TOLERANCE, N, Z, adams, at, data, distance, move, objective_of
from test_objective_options import transcribe_batch
from torch import Tensor, nn

import genzoo
from genzoo import Trainer
from genzoo.cli import main
from genzoo.errors import UsageError
from genzoo.items import Items
from genzoo.models.softintrovae import SoftIntroVAE
from genzoo.models.vae import VAE
from genzoo.nn.labeled import LabeledEncoder, build_labeled
from genzoo.noise import Noise, generator
from genzoo.objective import Objective, phases
from genzoo.pictures import save_grid
from genzoo.spec import ArchConfig

pytestmark = pytest.mark.usefixtures("one_thread")
K = 3
LABELS = torch.tensor([0, 2, 1, 1, 0, 2])


def labeled(kind: str = "conv") -> nn.ModuleDict:
    """A tiny encoder and decoder with labels, whose last layers are enlarged as in `steps.networks`."""
    arch = ArchConfig(encoder=kind, decoder=kind, z_dim=Z, channels=(4, 8), hidden=(16, 16))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        nets = nn.ModuleDict(build_labeled(SHAPES[kind], arch, 2, K))
        nets.encoder.columns.copy_(torch.randn(K * 2 * Z))
        for net in nets.values():
            list(net.network.parameters())[-2].mul_(4)
    return nets.double()


def last_layer(encoder: LabeledEncoder, kind: str) -> nn.Linear:
    return encoder.network.head if kind == "conv" else encoder.network.main[-1]


class WithLabels(nn.Module):
    """The published networks: one-hot labels are appended to the features before the last layer, or to z."""

    def __init__(self, ours: nn.Module, kind: str, is_encoder: bool):
        super().__init__()
        self.labels, network = LABELS, copy.deepcopy(ours.network)
        if is_encoder:
            layer = last_layer(copy.deepcopy(ours), kind)
            self.last = nn.Linear(layer.in_features + K, 2 * Z).double()
            with torch.no_grad():
                columns = ours.columns.reshape(K, 2 * Z).T
                self.last.weight.copy_(torch.cat([layer.weight, columns], dim=1))
                self.last.bias.copy_(layer.bias)
            self.features = network.main if kind == "conv" else network.main[:-1]
        else:
            self.features, self.last = network, None

    def forward(self, x: Tensor) -> Any:
        onehot = torch.stack([torch.arange(K) == label for label in self.labels]).double()
        if self.last is None:
            return self.features(torch.cat([x, onehot], dim=1))
        out = self.last(torch.cat([self.features(x).flatten(1), onehot], dim=1))
        return out[:, :Z], out[:, Z:]


def batch(objective: Objective, step: int, kind: str, start: int = 0, stop: int = N) -> Any:
    x = data(step, kind)
    noise = Noise(7, step, N, start, stop, like=x)
    return objective.draw(Items(x[start:stop], LABELS[start:stop]), noise)


def train(objective: Objective, nets: nn.ModuleDict, kind: str, micro: int = 1) -> None:
    optimizers, size = adams(nets), N // micro
    for step in range(STEPS):
        batches = [[batch(objective, step, kind, i, i + size)] for i in range(0, N, size)]
        for phase in phases(objective, nets, batches, at(step)):
            move(phase, optimizers)


def compare(nets: nn.ModuleDict, p: Players, kind: str) -> float:
    """Largest difference of any weight or buffer from the published networks'."""
    features = nets.encoder.network.main if kind == "conv" else nets.encoder.network.main[:-1]
    layer = last_layer(nets.encoder, kind)
    matrix = torch.cat([layer.weight, nets.encoder.columns.view(K, 2 * Z).T], dim=1)
    found = [distance(features, p.enc.features), distance(nets.decoder.network, p.dec.features)]
    pairs = [(matrix, p.enc.last.weight), (layer.bias, p.enc.last.bias)]
    return max([*found, *((a - b).abs().max().item() for a, b in pairs)])


@pytest.mark.parametrize(
    ("form", "kind", "more"),
    [
        ("introvae-paper", "conv", {}),
        ("introvae-official", "conv", {"recompute": True}),
        ("softintrovae-official", "conv", {}),
        ("softintrovae-official", "mlp", {}),
        ("softintrovae-paper", "conv", {"r1": 0.3, "r2": 0.2, "penalty_every": 2}),
    ],
)
def test_the_step_is_that_of_the_published_networks(form: str, kind: str, more: dict[str, Any]):
    """Weights and BatchNorm's buffers after some Adam steps: every network sees the labels of the step's real items."""
    objective, nets = objective_of(form, kind, **more), labeled(kind)
    p = players(WithLabels(nets.encoder, kind, True), WithLabels(nets.decoder, kind, False), lr=LR)
    train(objective, nets, kind)
    for step in range(STEPS):
        transcribe_batch(objective, form, kind, p, Options(), step, batch(objective, step, kind))
    assert compare(nets, p, kind) < TOLERANCE


def test_the_vae_step_is_that_of_the_published_networks():
    """Also the warm-up of the others."""
    from reference import vae

    objective, nets = objective_of("vae"), labeled()
    p = players(WithLabels(nets.encoder, "conv", True), WithLabels(nets.decoder, "conv", False), lr=LR)
    train(objective, nets, "conv")
    for step in range(STEPS):
        b = batch(objective, step, "conv")
        vae(p, b.x, b.eps, kl_weight=objective.config.beta, rec_weight=objective.config.beta_rec)
    assert compare(nets, p, "conv") < TOLERANCE


def test_micro_batches_are_parts_of_the_batch():
    whole, parts = labeled("mlp"), labeled("mlp")
    train(objective_of("softintrovae-official", "mlp"), whole, "mlp")
    train(objective_of("softintrovae-official", "mlp"), parts, "mlp", micro=3)
    assert max(distance(whole[name], parts[name]) for name in whole) < 1e-9


# ---- models and runs

TINY = ("data.name=digits", "data.size=8x8", "data.channels=1", "arch.channels=8", "arch.z_dim=4", "train.batch=16")
CONCAT = (*TINY, "arch.conditional=concat", "train.duration=96", "train.snapshot_every=50%")


@pytest.fixture(scope="module")
def run(tmp_path_factory, own_cache) -> Path:
    out = tmp_path_factory.mktemp("runs") / "concat"
    config = genzoo.resolve("softintrovae", settings=(*CONCAT, "objective.warmup=2it", "objective.bootstrap=true"))
    assert config.data.labels == "label"
    assert "arch.conditional=concat takes data.labels=label" in " ".join(config.notes)
    return Trainer(config, out=out, progress=False).fit()


def test_a_run_resumes_to_the_same_bits(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / f"{6:09d}")
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    assert same(weights(run), weights(tmp_path / "run"))
    assert weights(run)["encoder.columns"].abs().min() > 0


def test_a_saved_model_takes_labels(run):
    model = SoftIntroVAE.from_pretrained(run)
    assert model.conditional and model.takes_labels and model.classes == tuple("0123456789")
    z, x = torch.randn(2, 4), torch.rand(2, 1, 8, 8)
    three, five = (torch.tensor([k, k]) for k in (3, 5))
    onehot = torch.eye(10)[three]
    torch.testing.assert_close(model.decode(z, three).sample, model.decoder.network(torch.cat([z, onehot], dim=1)))
    assert not torch.equal(model.decode(z, three).sample, model.decode(z, five).sample)
    mu, logvar = model.encoder.network(x)
    columns = model.encoder.columns.view(10, 2, 4)
    found = model.encode(x, three).latent_dist
    torch.testing.assert_close(found.mean, mu + columns[3, 0])
    torch.testing.assert_close(found.logvar, logvar + columns[3, 1])
    with pytest.raises(UsageError, match="is conditional: give labels"):
        model.encode(x)


def test_the_verbs_take_labels(run, capsys):
    assert main(["sample", str(run), "--label", "7", "--n", "4", "--out", "seven.png"]) == 0
    assert "4 images, of 7, prior normal" in capsys.readouterr().out
    assert main(["sample", str(run), "--n", "4", "--out", "any.png"]) == 0
    assert "of 10 classes in turn" in capsys.readouterr().out
    assert main(["encode", str(run), "--out", "z.npz", "--n", "20"]) == 0
    assert np.load("z.npz")["mean"].shape == (20, 4)
    assert main(["reconstruct", str(run), "--out", "pairs.png", "--n", "8"]) == 0
    assert main(["eval", str(run), "--metrics", "msssim100_train"]) == 0


def test_a_code_is_decoded_with_mixtures_of_two_labels():
    """2 -> 0 -> 1 in steps of a half: the ends are labels, and between them are halves of two."""
    decoder, z = labeled().decoder, torch.randn(5, Z, dtype=torch.float64)
    mixtures = torch.tensor([[0, 0, 1], [0.5, 0, 0.5], [1, 0, 0], [0.5, 0.5, 0], [0, 1, 0]], dtype=torch.float64)
    found = decoder.eval().walk(z, [2, 0, 1])
    torch.testing.assert_close(found, decoder.network(torch.cat([z, mixtures], dim=1)))
    torch.testing.assert_close(found[0::2], decoder(z[0::2], torch.tensor([2, 0, 1])))


def test_codes_walk_from_class_to_class(run):
    """The picture has a row per code, each drawn once and decoded with every mixture."""
    walk = ["interpolate", str(run), "--label", "3", "--label", "8", "--n", "2", "--steps", "5"]
    assert main([*walk, "--out", "walk.png"]) == 0
    model = genzoo.load(run)
    codes = model.draw_latents(2, generator(0, "interpolate"), None)
    with torch.no_grad():
        save_grid([model.decoder.walk(code.expand(5, -1), [3, 8]) for code in codes], Path("expected.png"))
    found, expected = (np.asarray(Image.open(name), np.int64) for name in ("walk.png", "expected.png"))
    assert np.abs(found - expected).max() <= 1 and np.ptp(expected) > 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["sample", "RUN", "--prior", "gmm"], "has no fitted prior, as it encodes with labels"),
        (["eval", "RUN", "--metrics", "rec100_test"], "encodes with labels"),
        (["eval", "RUN", "--metrics", "msssim100_train_gmm"], "has no fitted prior"),
        (["ood", "RUN", "--out-data", "noise"], "encodes with labels"),
        (["interpolate", "RUN", "--n", "4"], "is trained on labels: walk between classes with --label, given twice"),
        (["interpolate", "RUN", "--label", "3"], "give it twice or more, without data"),
        (["interpolate", "RUN", "--label", "3", "--label", "8", "--data", "digits"], "without data"),
        (["interpolate", "RUN", "--label", "3", "--label", "17"], "--label 17: there is no such class"),
        (["train", "vae", *as_options(*CONCAT, "arch.latent=grid")], "set arch.latent=flat"),
        (["train", "vae", *as_options(*CONCAT, "data.labels=hue")], "has no labels called 'hue'"),
        (["train", "vae", "--data", "8gaussians", *as_options("arch.conditional=concat")], "has no labels"),
        (["train", "softintrovae-translation", *as_options(*CONCAT)], "has no labeled networks"),
        (["train", "softintrovae-translation", *as_options(*TINY, "arch.prior=classes")], "does not learn a prior"),
        (["train", "vae", *as_options(*CONCAT, "train.prior=gmm")], "no prior can be fitted"),
    ],
)
def test_what_cannot_work_is_one_line(run, args, said, capsys):
    assert main([str(run) if text == "RUN" else text for text in args]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1


def test_classes_in_the_prior_and_in_the_networks_go_together():
    settings = (*CONCAT, "arch.prior=classes", "train.duration=32", "train.compile=false")
    run = Trainer(genzoo.resolve("introvae", settings=(*settings, "objective.warmup=1it")), out="run", progress=False)
    found = weights(run.fit())
    assert found["components.means"].isfinite().all() and found["decoder.network.head.0.weight"].shape[1] == 14
    assert main(["interpolate", "run", "--label", "3", "--label", "8", "--n", "2"]) == 0


def test_off_by_default():
    model = VAE(shape=(1, 8, 8), arch={"channels": (8,), "z_dim": 4})
    assert not model.conditional and not isinstance(model.encoder, LabeledEncoder)
    assert tiny_run("vae").arch.conditional == "none"
