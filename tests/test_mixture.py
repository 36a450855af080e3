"""The fitted prior: the mixture against scikit-learn, its choices, its file, and every model that can have one."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import read_log, same, tiny_run, weights
from huggingface_hub.errors import RemoteEntryNotFoundError
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.mixture import GaussianMixture

import genzoo
from genzoo import Trainer, hub
from genzoo.errors import UsageError
from genzoo.fitted import FILE, fit, knows, load_fitted, select
from genzoo.fitted.em import em, kmeans
from genzoo.fitted.mixture import Mixture, Record
from genzoo.fitted.mixture_fit import fit_mixture
from genzoo.fitted.of_classes import shared_out
from genzoo.models.autoencoder import Autoencoder
from genzoo.models.translating import Translating
from genzoo.noise import generator
from genzoo.registry import get_spec

K, DIM = 3, 5


@pytest.fixture
def theirs() -> GaussianMixture:
    """scikit-learn's mixture, fitted to 600 points of three separate Gaussians."""
    return GaussianMixture(K, random_state=0, reg_covar=1e-6).fit(points().double().numpy())


def points(n: int = 600, dim: int = DIM, k: int = K) -> torch.Tensor:
    """Draws of k Gaussians, far apart, with covariances of their own."""
    rng = torch.Generator().manual_seed(0)
    centers = 8 * torch.randn(k, dim, generator=rng)
    factors = torch.eye(dim) + 0.5 * torch.randn(k, dim, dim, generator=rng)
    which = torch.randint(k, (n,), generator=rng)
    return centers[which] + (factors[which] @ torch.randn(n, dim, 1, generator=rng)).squeeze(-1)


def as_ours(theirs: GaussianMixture) -> Mixture:
    covariances = torch.from_numpy(theirs.covariances_)
    return Mixture(
        weights=torch.from_numpy(theirs.weights_).float(),
        means=torch.from_numpy(theirs.means_).float(),
        factors=torch.linalg.cholesky(covariances).float(),
        center=torch.zeros(DIM),
        basis=torch.eye(DIM),
        shared=torch.ones(1),
        record=Record(0, 0.0, {}),
    )


def test_densities_and_samples_are_those_of_scikit_learn(theirs):
    ours, x = as_ours(theirs), points(50)
    expected = theirs.score_samples(x.double().numpy())
    np.testing.assert_allclose(ours.log_prob(x).numpy(), expected, rtol=1e-4)
    drawn, (others, _) = ours.sample(40_000, (DIM,), torch.Generator().manual_seed(0)), theirs.sample(40_000)
    spread = others.std(0)
    np.testing.assert_allclose(drawn.mean(0).numpy() / spread, others.mean(0) / spread, atol=0.03)
    np.testing.assert_allclose(np.cov(drawn.numpy().T), np.cov(others.T), atol=0.03 * np.cov(others.T).max())


def test_expectation_maximization_is_that_of_scikit_learn():
    """From the same start, the same number of rounds later, without shrinkage."""
    x, rounds = points(), 4
    shares = kmeans(x[:, :2], K, generator(0, "clusters"))  # a start that is not the optimum
    first = em(x, shares, shrinkage=0, floor=1e-3, rounds=1)
    theirs = GaussianMixture(
        K,
        reg_covar=1e-3,
        max_iter=rounds - 1,
        tol=0,
        weights_init=first[0].numpy(),
        means_init=first[1].numpy(),
        precisions_init=torch.cholesky_inverse(first[2].double()).numpy(),
    )
    with pytest.warns(UserWarning, match="did not converge"):
        theirs.fit(x.double().numpy())
    ours = em(x, shares, shrinkage=0, floor=1e-3, rounds=rounds, enough=-math.inf)
    np.testing.assert_allclose(ours[0].numpy(), theirs.weights_, rtol=1e-3)
    np.testing.assert_allclose(ours[1].numpy(), theirs.means_, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose((ours[2] @ ours[2].mT).numpy(), theirs.covariances_, rtol=1e-3, atol=1e-2)


def test_the_fit_makes_its_tensors_on_the_device_of_the_encodings():
    """With another device as PyTorch's default, a tensor made without saying where would not be on the encodings'."""
    x, expected = points(), fit_mixture(points())
    with torch.device("meta"):
        shares = kmeans(x, K, generator(0, "mixture", K))
        found = em(x, shares, shrinkage=DIM, floor=1e-3)
    assert all(tensor.device.type == "cpu" for tensor in (shares, *found))
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        again = fit_mixture(points(), device="cpu")
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    assert all(torch.equal(a, b) for a, b in zip(expected.tensors.values(), again.tensors.values(), strict=True))


def test_held_out_encodings_choose_the_number_of_components():
    rng = torch.Generator().manual_seed(1)
    centers = torch.cartesian_prod(*[torch.tensor([-6.0, 6.0])] * 4)[:10]  # ten far corners of a cube
    x = centers[torch.randint(10, (3000,), generator=rng)] + torch.randn(3000, 4, generator=rng)
    assert fit_mixture(x).name == "gmm:10"
    assert fit_mixture(torch.randn(3000, 4, generator=rng)).name == "gmm:1"
    chosen = fit_mixture(x)
    assert chosen.record.encodings == 3000
    assert chosen.record.heldout == pytest.approx(max(chosen.record.tried.values()), abs=1e-3)
    # log of ten equal shares, and the entropy of N(0, I) in four dimensions
    assert chosen.record.heldout == pytest.approx(-math.log(10) - 2 * math.log(2 * math.pi * math.e), abs=0.1)


def test_latents_of_many_dimensions_are_fitted_in_a_subspace():
    """Clusters in 5 of 200 dimensions, noise in all: found, and better than one Gaussian."""
    rng = torch.Generator().manual_seed(2)
    rotation = torch.linalg.qr(torch.randn(200, 200, generator=rng)).Q
    x = 0.5 * torch.randn(3000, 200, generator=rng)
    x[:, :DIM] += points(3000)
    x = x @ rotation
    chosen = fit_mixture(x)
    assert chosen.means.shape[1] < 200 and len(chosen.weights) > 1
    fresh = chosen.sample(20_000, (200,), torch.Generator().manual_seed(3))
    assert (fresh.mean(0) - x.mean(0)).abs().max() < 0.3
    assert (torch.cov(fresh.T) - torch.cov(x.T)).abs().max() < 0.1 * torch.cov(x.T).max()
    assert (fresh @ rotation.T)[:, DIM:].std().item() == pytest.approx(0.5, rel=0.05)
    assert chosen.record.heldout > fit_mixture(x, components=1).record.heldout + 1


def test_a_grid_of_more_dimensions_than_are_decomposed_exactly():
    rng = torch.Generator().manual_seed(4)
    x = (torch.randn(300, 3, generator=rng) * torch.tensor([9.0, 6.0, 3.0])) @ torch.randn(3, 1200, generator=rng)
    x = (x + 0.1 * torch.randn(300, 1200, generator=rng)).view(300, 3, 20, 20)
    chosen = fit_mixture(x)
    drawn = chosen.sample(2000, (3, 20, 20), torch.Generator().manual_seed(0))
    assert drawn.shape == (2000, 3, 20, 20)
    assert drawn.var(0).sum().item() == pytest.approx(x.var(0).sum().item(), rel=0.15)
    assert chosen.log_prob(x).mean() > chosen.log_prob(x + 0.3 * torch.randn(x.shape, generator=rng)).mean() + 100


def test_the_density_integrates_to_one():
    """Over a plane, of a mixture on a line of it, with the shared Gaussian across."""
    rng = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(2, 2, generator=rng)).Q[:, :1]
    one = Mixture(
        torch.tensor([0.3, 0.7]), torch.tensor([[-1.0], [1.5]]), torch.tensor([[[0.5]], [[0.8]]]),
        torch.tensor([0.2, -0.1]), basis, torch.tensor([0.7]), Record(0, 0.0, {}),
    )  # fmt: skip
    line = torch.linspace(-8, 8, 401)
    density = one.log_prob(torch.cartesian_prod(line, line)).exp()
    assert (density.sum() * (line[1] - line[0]) ** 2).item() == pytest.approx(1, abs=1e-3)


def test_temperature_scales_the_deviation_from_the_components():
    chosen = fit_mixture(points())
    cold, warm = (chosen.sample(2000, (DIM,), torch.Generator().manual_seed(0), t) for t in (0.0, 1.0))
    assert len(cold.mul(100).round().unique(dim=0)) == len(chosen.weights)
    half = chosen.sample(2000, (DIM,), torch.Generator().manual_seed(0), 0.5)
    assert torch.allclose(half - cold, 0.5 * (warm - cold), atol=1e-4)


def test_fits_are_functions_of_encodings_and_seed():
    first, again, other = (fit_mixture(points(), seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(value, again.tensors[name]) for name, value in first.tensors.items())
    assert first.record == again.record != other.record


def labeled(n: int = 600) -> tuple[torch.Tensor, torch.Tensor]:
    """Items of two classes: one of them is two Gaussians, the other lies in between."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    sides = 6.0 * (torch.randint(2, (n,), generator=rng) * 2 - 1) * (labels == 0)
    x = 0.5 * torch.randn(n, DIM, generator=rng)
    x[:, 0] += sides
    return x, labels


@pytest.mark.parametrize("name", ["gmm:7", "gmm", "flow:20"])
def test_with_labels_a_mixture_is_sampled_by_class(name, tmp_path):
    x, labels = labeled()
    fitted = fit(x, name, labels=labels)
    assert not knows(fit(x, "gmm:7"), 2) and knows(fitted, 2) and not knows(fitted, 3)
    fitted.save(tmp_path / FILE)
    loaded = load_fitted(tmp_path / FILE, DIM)
    wanted = torch.arange(400) % 2
    z = loaded.sample(400, (DIM,), torch.Generator().manual_seed(0), labels=wanted)
    assert torch.equal((z[:, 0].abs() < 3).long(), wanted)
    assert 0.4 < (z[wanted == 0, 0] > 0).double().mean() < 0.6  # both Gaussians of the class
    assert torch.equal(z, fitted.sample(400, (DIM,), torch.Generator().manual_seed(0), labels=wanted))
    assert (loaded.sample(400, (DIM,))[:, 0].abs() < 3).double().mean() == pytest.approx(0.5, abs=0.1)  # of any class
    mixture = select(loaded, "gmm")
    assert isinstance(mixture, Mixture) and mixture.classes is not None
    assert name != "gmm:7" or torch.equal(mixture.classes, torch.tensor([0, 0, 0, 0, 1, 1, 1]))


@pytest.mark.parametrize(("n", "components"), [(40, None), (600, 1)])
def test_too_few_items_or_components_for_the_classes_leave_labels_out(n, components):
    x, labels = labeled(n)
    with_labels, without = (fit_mixture(x, components, labels=given) for given in (labels, None))
    assert with_labels.classes is None and torch.equal(with_labels.means, without.means)


@pytest.mark.parametrize(
    ("k", "counts", "expected"), [(7, [300, 300], [4, 3]), (3, [98, 1, 1], [1, 1, 1]), (10, [50, 30, 20], [5, 3, 2])]
)
def test_components_are_shared_out_in_proportion(k, counts, expected):
    assert shared_out(k, torch.tensor(counts)).tolist() == expected


@pytest.mark.parametrize(
    ("encodings", "components", "fix"),
    [
        (torch.randn(4, 2), 5, "take gmm:4 or fewer"),
        (torch.randn(1, 2), None, "two encodings or more"),
        (torch.ones(50, 2), None, "All encodings are the same"),
        (torch.full((50, 2), math.nan), None, "NaN or infinite"),
    ],
)
def test_what_cannot_be_fitted_is_refused(encodings, components, fix):
    with pytest.raises(UsageError, match=fix):
        fit_mixture(encodings, components)


@pytest.mark.parametrize("encodings", [torch.eye(3), torch.zeros(40, 3).index_fill(0, torch.tensor([0]), 1.0)])
def test_few_or_equal_encodings_give_a_finite_mixture(encodings):
    for components in (None, len(encodings)):
        chosen = fit_mixture(encodings, components)
        assert chosen.sample(100, (3,)).isfinite().all() and chosen.log_prob(encodings).isfinite().all()


@pytest.mark.parametrize("seed", range(15))
def test_encodings_of_which_few_differ_give_a_finite_mixture(seed):
    """Also where those that differ would be held out."""
    one = torch.zeros(10, 3)
    one[seed % 10] = 1
    for encodings in (one, torch.randn(2, 4, generator=torch.Generator().manual_seed(seed))):
        chosen = fit_mixture(encodings, seed=seed)
        assert chosen.sample(20, encodings.shape[1:]).isfinite().all()


def test_the_file_holds_tensors_and_text(tmp_path):
    chosen = fit_mixture(points())
    chosen.save(tmp_path / FILE)
    with safe_open(tmp_path / FILE, framework="pt") as file:
        about = json.loads(file.metadata()["about"])
        assert about["prior"] == chosen.name and json.loads(about["record"])["encodings"] == 600
    again = load_fitted(tmp_path / FILE, DIM)
    torch.testing.assert_close(again.log_prob(points()), chosen.log_prob(points()))
    assert again.record == chosen.record
    with pytest.raises(UsageError, match="5 latent dimensions, and the model has 7"):
        load_fitted(tmp_path / FILE, 7)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:200])
    with pytest.raises(UsageError, match="cannot be read as a fitted prior") as caught:
        load_fitted(tmp_path / FILE, DIM)
    assert "\n" not in str(caught.value)


TINY_ARCH = {"shape": (3, 16, 16), "channels": (4, 8), "z_dim": 5}


@pytest.mark.parametrize("latent", ["flat", "grid"])
@pytest.mark.parametrize("name", genzoo.list_models())
def test_every_model_that_encodes_is_fitted_saved_and_loaded(name, latent):
    if not issubclass(get_spec(name).model(), Autoencoder):
        pytest.skip("it does not encode")
    if latent == "grid" and issubclass(get_spec(name).model(), Translating):
        pytest.skip("a vector modulates the decoder")
    model = genzoo.create_model(name, latent=latent, **TINY_ARCH)
    images = torch.rand(60, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    own = model.sample(3, torch.Generator().manual_seed(0))
    assert model.training and model.prior_name() == model.prior.kind
    fitted = model.fit_prior(images.split(20), "gmm:2")
    assert model.training and model.prior_name() == "gmm:2" and fitted.dim == math.prod(model.latent_shape)
    model.eval()
    rng = torch.Generator()
    drawn = model.sample(3, rng.manual_seed(0))
    expected = model.decode(fitted.sample(3, model.latent_shape, rng.manual_seed(0))).sample.clamp(0, 1)
    assert torch.equal(drawn, expected)
    assert not torch.equal(drawn, model.sample(3, rng.manual_seed(0), prior=model.prior.kind))
    model.save_pretrained("saved")
    again = genzoo.load("saved")
    torch.testing.assert_close(again.sample(3, rng.manual_seed(0)), drawn)
    assert "`gmm:2`" in Path("saved/README.md").read_text()
    model.fitted_prior = None
    model.save_pretrained("saved")
    assert genzoo.load("saved").prior_name() == model.prior.kind and own.shape == drawn.shape


def test_a_damaged_or_foreign_prior_is_refused_when_a_model_is_loaded():
    model = genzoo.create_model("vae", **TINY_ARCH)
    model.fit_prior([torch.rand(60, 3, 16, 16)])
    model.save_pretrained("saved")
    fit_mixture(torch.randn(50, 9)).save(Path("saved") / FILE)
    with pytest.raises(UsageError, match="9 latent dimensions, and the model has 5"):
        genzoo.load("saved")
    (Path("saved") / FILE).write_bytes(b"nothing")
    with pytest.raises(UsageError, match="cannot be read as a fitted prior"):
        genzoo.load("saved")


@pytest.mark.parametrize("fitted", [True, False])
def test_a_prior_is_read_from_the_hub_if_there_is_one(monkeypatch, fitted):
    model = genzoo.create_model("vae", **TINY_ARCH)
    if fitted:
        model.fit_prior([torch.rand(60, 3, 16, 16)], "gmm:2")
    model.save_pretrained("saved")

    def download(repo_id, filename, **_):
        if not (path := Path("saved") / filename).exists():
            raise UsageError("refused") from RemoteEntryNotFoundError.__new__(RemoteEntryNotFoundError)
        return str(path)

    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    monkeypatch.setattr(hub, "download", download)
    assert genzoo.load("owner/name").prior_name() == ("gmm:2" if fitted else "normal")


@pytest.mark.parametrize(
    ("prior", "fix"),
    [
        ("gmm", r"call fit_prior\(batches of training data\), or take normal"),
        ("gauss", "no prior 'gauss': take normal, .* gmm, gmm:K, flow or flow:N"),
        ("gmm:0", "no prior 'gmm:0'"),
    ],
)
def test_a_prior_that_is_not_there_is_refused(prior, fix):
    with pytest.raises(UsageError, match=fix):
        genzoo.create_model("vae", **TINY_ARCH).sample(1, prior=prior)


def test_another_number_of_components_and_an_odd_temperature_are_refused():
    model = genzoo.create_model("vae", **TINY_ARCH)
    model.fit_prior([torch.rand(60, 3, 16, 16)], "gmm:2")
    with pytest.raises(UsageError, match=r"The fitted prior is gmm:2: call fit_prior\(batches, \"gmm:3\"\)"):
        model.sample(1, prior="gmm:3")
    assert model.sample(1, prior="gmm:2").shape == model.sample(1, temperature=0.5).shape
    for temperature in (-1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="temperature"):
            model.sample(1, temperature=temperature)


def test_a_run_fits_its_prior_and_says_so():
    run = Trainer(tiny_run("vae"), out="run").fit()
    names = [line["prior"] for line in read_log(run) if "prior" in line]
    assert names and all(re.fullmatch(r"gmm:\d+", name) for name in names)
    model, card = genzoo.load(run), (run / "model" / "README.md").read_text()
    assert model.prior_name() == names[-1] and genzoo.load(run / "best").fitted_prior is not None
    assert f"sampled from {names[-1]} (twice)" in card and f"| samples from | `{names[-1]}`" in card


def test_a_resumed_run_ends_with_the_same_prior(finished):
    Trainer(tiny_run("introvae", "train.snapshot_every=6it", "train.duration=48"), out="run").fit()
    run = Trainer(tiny_run("introvae", "train.snapshot_every=6it"), out="run").fit()
    straight = finished()  # which takes snapshots at the same steps
    assert same(weights(run), weights(straight))
    for folder in ("model", "best"):
        priors = [load_file(path / folder / FILE) for path in (run, straight)]
        assert same(*priors)
    scores = [
        [line["score/pyramid_frechet"] for line in read_log(path) if "score/pyramid_frechet" in line]
        for path in (run, straight)
    ]
    assert scores[0][-1] == scores[1][-1]


def test_the_prior_of_a_run_is_a_setting():
    short = ("train.duration=8", "train.snapshot_every=100%")
    for given, found in (("normal", "normal"), ("gmm:3", "gmm:3"), ("mog", "mog")):
        learned = ("arch.prior=mog:2",) if given == "mog" else ()
        run = Trainer(tiny_run("vae", *short, *learned, f"train.prior={given}"), out=given).fit()
        assert genzoo.load(run).prior_name() == found
    points_run = genzoo.resolve("vae", data="rings", settings=["train.duration=2it", "train.batch=16", "arch.hidden=8"])
    assert genzoo.load(Trainer(points_run, out="c").fit()).prior_name() == "normal"
    for prior, fix in (("gmm:65", "more components than the 64 encodings"), ("sphere", "take normal, gmm or flow")):
        with pytest.raises(UsageError, match=fix):
            Trainer(tiny_run("vae", f"train.prior={prior}"), out="d")
    with pytest.raises(UsageError, match=r"train\.prior=gmm:0"):
        tiny_run("vae", "train.prior=gmm:0")
