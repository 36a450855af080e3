"""AGE: exactness, known mistakes, codes on the sphere, runs."""

import math
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import TINY, as_options, same, weights
from reference_age import MISTAKES, age
from relatives import LR, STEPS, TOLERANCE, apart, copied, drawn, model_of, objective_of, train
from torch import Tensor

import genzoo
from genzoo import Trainer, resolve
from genzoo.cli import main
from genzoo.errors import UsageError
from genzoo.metrics.vitals import vitals
from genzoo.models.age import AGE
from genzoo.models.age.objective import batch_kl, moments, official_kl
from genzoo.priors import Prior

pytestmark = pytest.mark.usefixtures("one_thread")
FORMS = {"paper": {"weight_x": 0.7, "weight_z": 3.0}, "official": {"weight_x": 10.0, "weight_z": 9.0}}
SETTINGS = [*TINY, "train.log_every=4", "train.snapshot_every=4it", "train.prior=sphere", "data.limit=32"]


def transcribed(model: Any, kind: str, form: str, mistake: str | None = None) -> list[dict[str, float]]:
    """Trains a model by the transcription, with the latents that the objective draws."""
    weight, objective = FORMS[form], objective_of("age", model, form=form)
    net, dec = model.encoder.network, model.decoder
    optimizers = torch.optim.Adam(net.parameters(), lr=LR), torch.optim.Adam(dec.parameters(), lr=LR)
    curves = []
    for step in range(STEPS):
        (batch,) = drawn(objective, step, kind)
        mu, lam = weight["weight_x"], weight["weight_z"]
        curves.append(
            age(net, dec, optimizers, batch.x, batch.z_p, batch.z_ps, form=form, mu=mu, lam=lam, mistake=mistake)
        )
    return curves


@pytest.mark.parametrize(("form", "kind"), [*product(FORMS, ("conv", "mlp", "dcgan"))])
def test_weights_and_curves_are_the_transcriptions(form: str, kind: str):
    ours = model_of("age", kind)
    theirs = copied(ours)
    found = train(objective_of("age", ours, form=form, **FORMS[form]), ours, kind)
    expected = transcribed(theirs, kind, form)
    assert apart(ours, theirs) < TOLERANCE
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, rel=1e-9)


@pytest.mark.parametrize(("form", "kind"), [*product(FORMS, ("conv", "mlp"))])
def test_micro_batches_share_one_kl(form: str, kind: str):
    ours = model_of("age", kind, norm="none")
    theirs = copied(ours)
    train(objective_of("age", ours, form=form, **FORMS[form]), ours, kind, micro=2)
    transcribed(theirs, kind, form)
    assert apart(ours, theirs) < TOLERANCE


@pytest.mark.parametrize("mistake", MISTAKES)
def test_known_mistakes_are_far_away(mistake: str):
    right = model_of("age", "mlp")
    wrong = copied(right)
    transcribed(right, "mlp", "official")
    transcribed(wrong, "mlp", "official", mistake)
    assert apart(right, wrong) > 1e-3


def test_the_kl_of_a_batch_has_a_floor_above_zero_on_the_sphere():
    """Coordinates of the prior have the variance 1 / Z; the floors in the comments of the fact sheet."""
    for z_dim, paper, official in ((64, 1.587, 3.659), (128, 1.930, 4.352)):
        of_prior = torch.stack([torch.zeros(z_dim), torch.full((z_dim,), 1 / z_dim)])
        assert batch_kl(of_prior).item() / z_dim == pytest.approx(paper, abs=1e-3)
        assert official_kl(of_prior).item() == pytest.approx(official, abs=1e-3)
    assert batch_kl(torch.stack([torch.zeros(5), torch.ones(5)])).item() == 0


def test_the_variance_keeps_its_digits():
    """Codes of a young encoder lie close together: a difference of squares would lose them in float32."""
    z = 1 + 1e-3 * torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    request = moments(z)
    m = next(request).value
    with pytest.raises(StopIteration) as end:
        request.send(m)
    expected = z.double().var(dim=0, correction=0)
    assert torch.allclose(end.value.value[1].double(), expected, rtol=1e-5)
    assert not torch.allclose((z.square().mean(0) - m.square()).double(), expected, rtol=1e-3)


@pytest.mark.parametrize("prior", [Prior("sphere"), Prior("uniform"), Prior("normal", scale=3.0)])
def test_units_are_active_in_units_of_the_priors_variance(prior: Prior):
    """A latent of the sphere has 128 coordinates of the variance 1 / 128, which is below the threshold for N(0, I)."""
    z = prior.sample(2000, (8, 4, 4), torch.Generator().manual_seed(0))
    assert z.var().item() == pytest.approx(prior.variance((8, 4, 4)), rel=0.01)


def test_a_wide_code_on_the_sphere_is_in_use():
    model = genzoo.create_model("age", shape=(2,), encoder="mlp", decoder="mlp", hidden=(8,), z_dim=256)
    x, z = 10 * torch.randn(64, 2), model.latents(64)
    active = vitals(model.eval(), x, model.decode(z).sample, z)["active"]
    assert active == pytest.approx((model.encode(x).latent_dist.mode().var(0) > 0.01 / 256).float().mean().item())
    assert active > 0.5


def tiny() -> AGE:
    model = genzoo.create_model("age", shape=(3, 16, 16), channels=(4, 8), z_dim=4)
    assert isinstance(model, AGE)
    return model.eval()


def length(z: Tensor) -> Tensor:
    return z.flatten(1).norm(dim=1)


def test_codes_samples_and_what_is_decoded_lie_on_the_sphere():
    model, x = tiny(), torch.rand(3, 3, 16, 16)
    ones = torch.ones(3)
    assert torch.allclose(length(model.encode(x).latent_dist.mode()), ones)
    assert torch.allclose(length(model.latents(3)), ones)
    z = torch.randn(3, 4)
    assert torch.allclose(model.decode(z).sample, model.decode(3 * z).sample, atol=1e-6)
    assert torch.allclose(model.decode(z).sample, model.decoder(z / length(z)[:, None]), atol=1e-6)
    assert set(model.score(x)) == {"sse"}
    walk = model.interpolate(x[:1], x[1:2], 5)
    torch.testing.assert_close(walk[:, 0], model.reconstruct(x[:1]))
    with pytest.raises(UsageError, match="here the prior is sphere: leave it at 1"):
        model.sample(2, temperature=0.5)


@pytest.fixture(scope="module")
def run(tmp_path_factory, own_cache) -> Path:
    """A run of 12 steps, with checkpoints at 8 and 12."""
    out = tmp_path_factory.mktemp("runs") / "age"
    return Trainer(resolve("age", settings=SETTINGS), out=out, progress=False).fit()


def test_a_run_resumes_to_the_same_bits(run):
    shutil.copytree(run, "run")
    shutil.rmtree(Path("run", "checkpoints", f"{12:09d}"))
    Trainer(resolve("age", settings=SETTINGS), out="run", progress=False).fit()
    assert same(weights(run), weights(Path("run")))


def test_the_verbs_take_its_point_codes(run, capsys):
    for verb in (["sample", "--n", "2"], ["reconstruct", "--n", "2"], ["encode", "--n", "2"], ["interpolate"]):
        assert main([verb[0], str(run), *verb[1:]]) == 0, capsys.readouterr().err
    assert main(["train", "age", "--dry-run", *as_options(*SETTINGS)]) == 0
    assert "decoder" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["age", "--set", "train.batch=1"], "train.batch is 1: set 16 or more"),
        (["age", "--set", "objective.decoder_steps=0"], "objective.decoder_steps"),
        (["age", "--set", "objective.form=code"], "objective.form"),
        (["age", "--set", "arch.prior=mog:3"], "AGE does not learn a prior: leave out arch.prior=mog:3"),
        (["age.8gaussians", "--data", "toyfaces", "--set", "arch.encoder=dcgan:3"], "dcgan has kernels of 4"),
    ],
)
def test_bad_settings_are_refused_in_one_line(command: list[str], message: str, capsys):
    assert main(["train", *command, *as_options("train.duration=96", "data.limit=64"), "--out", "run"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_the_settings_of_the_authors_commands():
    run = resolve("age.celeba64")
    assert (run.train.batch, run.train.lr, run.train.betas, run.train.lr_factor) == (64, 2e-4, (0.5, 0.999), 0.5)
    assert (run.objective.weight_x, run.objective.weight_z, run.objective.decoder_steps) == (20, 1000, 3)
    assert (run.arch.z_dim, run.arch.channels, run.arch.output) == (64, (64, 128, 256, 512), "tanh")
    run = resolve("age.cifar10")
    assert (run.arch.z_dim, run.objective.decoder_steps, run.train.duration) == (128, 2, "150ep")
    assert math.isclose(run.objective.weight_x, 20)
