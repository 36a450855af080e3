"""Out-of-distribution scores: their mathematics in float64, the measures by hand, and `genzoo ood` on a tiny run."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY, as_options, tiny_run
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

import genzoo
from genzoo import Trainer
from genzoo.cli import main
from genzoo.data import open_dataset
from genzoo.errors import UsageError
from genzoo.evaluation.ood import DEFAULT, SCORES, Batch, parse_scores
from genzoo.evaluation.ood_data import made
from genzoo.files import JsonLines
from genzoo.metrics.complexity import png_bits
from genzoo.metrics.detection import detection
from genzoo.metrics.likelihood import elbo_of_draw, likelihood_regret, log_likelihood, log_mean, log_weights
from genzoo.nn.mixture import LearnedPrior, learned_prior
from genzoo.noise import generator

pytestmark = pytest.mark.usefixtures("one_thread")

N, Z, D = 3, 2, 5  # items, latent dimensions, dimensions of an item


def draws(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def mixture(k: int | None) -> LearnedPrior | None:
    """k components over Z dimensions; none for the N(0, I) of a model without them."""
    if k is None:
        return None
    prior = LearnedPrior(k, (Z,)).double().requires_grad_(False)
    prior.means.copy_(draws(k * Z))
    prior.logvars.copy_(0.5 * draws(k * Z))
    return prior


def gaussians(prior: LearnedPrior | None) -> Independent:
    """The components of p(z), of which N(0, I) has one: a batch of K."""
    parameters = torch.zeros(2, 1, Z) if prior is None else torch.stack(prior()).detach()
    means, logvars = parameters.double()
    return Independent(Normal(means, (logvars / 2).exp()), 1)


def mixed(each: Independent | MultivariateNormal) -> MixtureSameFamily:
    """The mixture of a batch of Gaussians with equal weights."""
    return MixtureSameFamily(Categorical(torch.ones(each.batch_shape, dtype=torch.float64)), each)


def divergence(mean: Tensor, std: Tensor, prior: LearnedPrior | None) -> Tensor:
    """The KL of posteriors to N(0, I), or the bound of that to a mixture, from the KLs to its components: [N]."""
    kls = kl_divergence(Independent(Normal(mean[:, None], std[:, None]), 1), gaussians(prior))
    return -(-kls).exp().mean(dim=1).log()


PRIORS = pytest.mark.parametrize("k", [None, 3], ids=["normal", "mixture"])


class Linear:
    """p(x|z) = N(W z + b, variance I) with orthogonal columns of W, so that with one component as p(z) the posterior is
    a diagonal Gaussian.
    """

    def __init__(self, variance: float = 0.3, prior: LearnedPrior | None = None):
        columns, _ = torch.linalg.qr(draws(D, Z))
        self.weight, self.bias, self.variance = (
            columns * torch.tensor([2.0, 0.7], dtype=torch.float64),
            draws(D),
            variance,
        )
        self.prior = gaussians(prior)

    def __call__(self, z: Tensor) -> Tensor:
        return z @ self.weight.T + self.bias

    def log_p(self, x: Tensor) -> Tensor:
        noise = self.variance * torch.eye(D, dtype=torch.float64)
        covariances = self.weight * self.prior.variance[:, None] @ self.weight.T + noise
        return mixed(MultivariateNormal(self(self.prior.mean), covariances)).log_prob(x)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Its mean and log-variance, if the first component is p(z)."""
        mean, variance = self.prior.mean[0], self.prior.variance[0]
        precision = 1 / variance + self.weight.square().sum(dim=0) / self.variance
        shift = (x - self.bias) @ self.weight / self.variance + mean / variance
        return shift / precision, -precision.log().expand(len(x), Z)


# Importance weights


@PRIORS
def test_importance_weights_are_those_of_a_transcription(k):
    def decode(z: Tensor) -> Tensor:
        return torch.tanh(z @ weight).view(-1, 1, 1, D)

    weight, x, mean, logvar, noise = draws(Z, D), draws(N, 1, 1, D), draws(N, Z), draws(N, Z), draws(4, N, Z)
    prior = mixture(k)
    found = log_weights(decode, x, mean, logvar, noise, variance=0.2, prior=prior)
    for k in range(4):
        for i in range(N):
            q = Normal(mean[i], logvar[i].exp().sqrt())
            z = mean[i] + q.stddev * noise[k, i]
            of_x = Normal(torch.tanh(z @ weight), math.sqrt(0.2)).log_prob(x[i].flatten()).sum()
            of_z = mixed(gaussians(prior)).log_prob(z)
            torch.testing.assert_close(found[k, i], of_x + of_z - q.log_prob(z).sum(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_mean(found), found.exp().mean(dim=0).log(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [None, 1], ids=["normal", "one-component"])
def test_with_the_true_posterior_each_weight_is_log_p(k):
    prior, x = mixture(k), draws(N, D)
    model = Linear(prior=prior)
    weights = log_weights(model, x, *model.posterior(x), draws(7, N, Z), model.variance, prior)
    torch.testing.assert_close(weights, model.log_p(x).expand(7, N), rtol=1e-12, atol=1e-12)


@PRIORS
def test_with_another_posterior_the_bound_comes_close_to_log_p_from_below(k):
    prior, x = mixture(k), draws(N, D)
    model = Linear(prior=prior)
    mean, logvar = model.posterior(x)
    repeated = (part.repeat(1000, 1) for part in (x, mean + 0.2, logvar + 0.5))
    weights = log_weights(model, *repeated, draws(50, 1000 * N, Z), model.variance, prior).reshape(50_000, N)
    truth = model.log_p(x)
    torch.testing.assert_close(log_mean(weights), truth, rtol=0, atol=0.02)
    of_five = torch.stack([log_mean(part) for part in weights.split(5)]).mean(dim=0)
    assert (weights.mean(dim=0) < of_five).all() and (of_five < truth).all()


# Likelihood regret


@PRIORS
def test_the_elbo_of_a_draw_is_that_of_a_transcription(k):
    prior = mixture(k)
    model, x, mean, logvar, eps = Linear(prior=prior), draws(N, D), draws(N, Z), draws(N, Z), draws(N, Z)
    std = (logvar / 2).exp()
    of_x = log_likelihood(x, model(mean + std * eps), model.variance)
    found = elbo_of_draw(model, x, mean, logvar, eps, model.variance, prior)
    torch.testing.assert_close(found, of_x - divergence(mean, std, prior), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [None, 1], ids=["normal", "one-component"])
def test_regret_is_what_the_posterior_lacks(k):
    """In a linear model, the KL between the posterior that is optimized and the true one."""
    prior, x = mixture(k), draws(N, D)
    model = Linear(prior=prior)
    mean, logvar = model.posterior(x)
    start = mean + 0.3, logvar + 0.4
    lacks = 0.5 * ((0.4 * torch.ones(N, Z)).exp() + 0.09 / logvar.exp() - 1 - 0.4).sum(dim=1)
    axes = math.sqrt(Z) * torch.eye(Z, dtype=torch.float64)
    judges = [axis.expand(N, Z) for axis in (*axes, *-axes)]  # whose mean of a quadratic function is the expectation
    noise = draws(300, N, Z)
    rest = judges, model.variance, 0.02, prior
    found = [likelihood_regret(model, x, *start, noise[:k], *rest) for k in (0, 5, 10, 20, 300)]
    assert not found[0].any()
    assert all((b > a).all() for a, b in pairwise(found[:-1]))
    torch.testing.assert_close(found[-1], lacks, rtol=0, atol=0.05)


def test_regret_of_a_batch_is_that_of_a_loop_over_images():
    torch.manual_seed(1)
    model = genzoo.create_model("vae", shape=(1, 8, 8), channels=(4, 8), z_dim=3).double().eval()
    x = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        posterior = model.encode(x).latent_dist
    noise, judges = draws(100, 4, 3), draws(2, 4, 3)

    def decode(z: Tensor) -> Tensor:
        return model.decode(z).sample

    together = likelihood_regret(decode, x, posterior.mean, posterior.logvar, noise, list(judges), 0.05)
    for i in range(4):
        one = slice(i, i + 1)
        alone = likelihood_regret(
            decode, x[one], posterior.mean[one], posterior.logvar[one], noise[:, one], list(judges[:, one]), 0.05
        )
        torch.testing.assert_close(together[one], alone, rtol=1e-9, atol=1e-9)
    assert (together > 0).all()
    assert all(parameter.grad is None for parameter in model.parameters())


# AUROC, AUPR, FPR95


def test_measures_by_hand_with_ties():
    """Of 9 pairs 6 are in order and 2 are ties. Thresholds 4, 3, 2 flag 1, 2, 3 from outside and 0, 1, 2 others."""
    found = detection(torch.tensor([1.0, 2, 3]), torch.tensor([2.0, 3, 4])).values
    assert found == pytest.approx({"auroc": 7 / 9, "aupr": (1 + 2 / 3 + 3 / 5) / 3, "fpr95": 2 / 3})
    found = detection(torch.zeros(30), torch.zeros(10)).values
    assert found == pytest.approx({"auroc": 0.5, "aupr": 0.25, "fpr95": 1})
    found = detection(torch.zeros(30), torch.ones(10))
    assert found.values == pytest.approx({"auroc": 1, "aupr": 1, "fpr95": 0})
    assert found.intervals == {"auroc": (1, 1), "aupr": (1, 1), "fpr95": (0, 0)}
    assert detection(torch.ones(30), torch.zeros(10)).values["auroc"] == 0


def by_sklearn(inside: np.ndarray, outside: np.ndarray) -> tuple[float, float, float]:
    labels, scores = [0] * len(inside) + [1] * len(outside), np.concatenate([inside, outside])
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    return roc_auc_score(labels, scores), average_precision_score(labels, scores), false[(true >= 0.95 - 1e-9).argmax()]


@pytest.mark.parametrize("levels", [3, 1000])
def test_measures_and_intervals_are_those_of_scikit_learn_on_resamples(levels):
    inside = (torch.randn(40, dtype=torch.float64) * levels).round()
    outside = ((torch.randn(23, dtype=torch.float64) + 1) * levels).round()
    found = detection(inside, outside, seed=5, resamples=60)
    assert tuple(found.values.values()) == pytest.approx(by_sklearn(inside.numpy(), outside.numpy()))
    rng, rows = generator(5, "bootstrap"), []
    for size in (50, 10):
        chosen = [torch.randint(len(part), (size, len(part)), generator=rng) for part in (inside, outside)]
        rows += [by_sklearn(inside[a].numpy(), outside[b].numpy()) for a, b in zip(*chosen, strict=True)]
    for interval, column in zip(found.intervals.values(), np.array(rows).T, strict=True):
        assert interval == pytest.approx(np.quantile(column, [0.025, 0.975]))
    assert detection(inside, outside, seed=6, resamples=60).intervals != found.intervals


@pytest.mark.parametrize("wrong", [torch.tensor([]), torch.tensor([1.0, math.nan]), torch.tensor([math.inf])])
def test_scores_that_are_no_numbers_are_refused(wrong):
    with pytest.raises(UsageError, match="finite"):
        detection(wrong, torch.ones(3))


# Complexity, and data that is made


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_constant_images_are_less_complex_than_noise(channels):
    shape = (channels, 16, 24)
    noise, constant = (made(name, shape, 4, seed=0).batch(range(4)) for name in ("noise", "constant"))
    assert noise.shape == constant.shape == (4, *shape) and noise.dtype == torch.uint8
    assert (constant == constant[:, :1, :1, :1]).all() and len(constant[:, 0, 0, 0].unique()) > 1
    assert (png_bits(noise) > 8 * noise[0].numel()).all() and (png_bits(constant) < png_bits(noise) / 2).all()
    assert torch.equal(noise, made("noise", shape, 4, seed=0).batch(range(4)))
    assert not torch.equal(noise, made("noise", shape, 4, seed=1).batch(range(4)))


def test_complexity_is_the_size_of_a_file():
    pixels = torch.randint(256, (1, 3, 9, 7), dtype=torch.uint8)
    Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).save("a.png", compress_level=9)
    assert png_bits(pixels).tolist() == [8 * Path("a.png").stat().st_size]


# Scores of a batch


@pytest.mark.parametrize("prior", ["normal", "mog:3"])
def test_scores_are_their_definitions(prior):
    torch.manual_seed(0)
    model = genzoo.create_model("vae", shape=(1, 8, 8), channels=(4, 8), z_dim=Z, prior=prior).eval()
    of_model = learned_prior(model)
    pixels, variance = torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8), 0.07
    x = pixels / 255
    with torch.no_grad():
        batch = Batch(model, pixels, variance, draws=200, seed=3, index=1)
        names = ("complexity", "kl", "sse", "elbo", "iw5", "iw200", "iw5_sintrovae2021", "corrected")
        found = {name: SCORES[name].compute(batch).double() for name in names}
        few = Batch(model, pixels, variance, draws=5, seed=3, index=1)
        assert torch.equal(found["iw5"], SCORES["iw5"].compute(few))
        error, posterior = model.score(x)["sse"], model.encode(x).latent_dist
        mean, std = posterior.mean.double(), posterior.std.double()
        noise = generator(3, "ood importance", 1)

        def log_p(std: Tensor, variance: float, n: int) -> Tensor:
            weights = []
            for _ in range(n):
                z = mean + std * torch.randn(5, Z, generator=noise).double()
                decoded = model.decode(z.float()).sample.double()
                of_x = Normal(decoded, math.sqrt(variance)).log_prob(x.double()).sum(dim=(1, 2, 3))
                weights.append(of_x + mixed(gaussians(of_model)).log_prob(z) - Normal(mean, std).log_prob(z).sum(dim=1))
            return torch.stack(weights).logsumexp(dim=0)

        corrected = log_p(std, variance, 200) - math.log(200)
        noise = generator(3, "ood importance", 1)
        published = log_p(std.sqrt(), 1.0, 5)  # covariance sigma: a standard deviation of sqrt(sigma)
    close = {"rtol": 1e-5, "atol": 1e-4}
    kl = divergence(mean, std, of_model)
    torch.testing.assert_close(found["kl"], kl, **close)
    torch.testing.assert_close(found["sse"], error.double(), **close)
    nll = kl + error / (2 * variance) + 32 * math.log(2 * math.pi * variance)
    torch.testing.assert_close(found["elbo"], nll.double(), **close)
    torch.testing.assert_close(found["iw200"], -corrected, **close)
    torch.testing.assert_close(found["iw5_sintrovae2021"], -published, **close)
    bits = -corrected / math.log(2) + 64 * math.log2(255) - found["complexity"]
    torch.testing.assert_close(found["corrected"], bits, rtol=1e-5, atol=1e-3)


def test_names_of_scores():
    assert parse_scores(None) == DEFAULT and "iw200_sintrovae2021" not in DEFAULT
    assert parse_scores("sse, kl") == ("complexity", "kl", "sse")
    with pytest.raises(UsageError, match="'regrett' is not a score. Did you mean regret"):
        parse_scores("kl,regrett")


# The verb


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A model of gray faces."""
    folder = tmp_path_factory.mktemp("ood") / "run"
    Trainer(tiny_run("vae", "data.channels=1"), out=folder, progress=False).fit()
    return folder


@pytest.mark.rendered
def test_two_sets_are_compared_with_the_faces(run, capsys):
    command = ["ood", str(run), "--out-data", "noise", "digits", "--n", "12", "--out", "a.png"]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "in: toyfaces, split test: 12 of" in text and "out: noise: 12 images" in text
    assert "out: digits, split test: 12 of 297 images; 8x8" in text and "read as 16x16 with 1 channel" in text
    assert "variance of the decoder" in text and "a.jsonl: 18 lines added" in text
    assert all(name in text for name in DEFAULT)
    with Image.open("a.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 20)) > 10
    lines = JsonLines(Path("a.jsonl")).read()
    assert [line["score"] for line in lines] == [*DEFAULT] * 2 and {line["kind"] for line in lines} == {"ood"}
    noise = {line["score"]: line for line in lines if line["out_data"]["name"] == "noise"}
    assert noise["complexity"]["values"] == {"auroc": 1, "aupr": 1, "fpr95": 0}
    kl = noise["kl"]
    assert kl["data"]["name"] == "toyfaces" and kl["data"]["split"] == "test" and kl["data"]["n"] == 12
    low, high = kl["intervals"]["auroc"]
    assert low <= kl["values"]["auroc"] <= high
    assert "variance" not in kl["details"] and noise["regret"]["details"]["steps"] == 100
    assert main([*command[:3], "noise", "--n", "12", "--scores", "iw5,sse,regret", "--out", "b.png"]) == 0
    again = JsonLines(Path("b.jsonl")).read()
    assert len(again) == 4 and all({**line, "seconds": 0} == {**noise[line["score"]], "seconds": 0} for line in again)
    assert str(run.parent) not in json.dumps(lines)


def test_scores_are_of_held_out_images_by_the_seed(run, capsys):
    for seed, out in ((0, "a"), (1, "b")):
        options = ["--scores", "sse", "--n", "20", "--seed", str(seed), "--out", f"{out}.png"]
        assert main(["ood", str(run), "--out-data", "constant", *options]) == 0
    (complexity, sse), (_, other) = (JsonLines(Path(f"{name}.jsonl")).read() for name in "ab")
    assert complexity["score"] == "complexity" and sse["score"] == "sse"
    assert sse["means"]["in"] != other["means"]["in"]
    assert "variance of the decoder" not in capsys.readouterr().out
    model = genzoo.load(run)
    images = open_dataset(genzoo.resolve("vae", settings=[*TINY, "data.channels=1"]).data, split="test")
    chosen = torch.randperm(images.size, generator=generator(0, "ood images"))[:20]
    expected = model.score(images.batch(chosen.numpy()) / 255)["sse"].mean().item()
    assert sse["means"]["in"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--out-data"),
        (["--out-data", "noise", "--scores", "kll"], "Did you mean kl"),
        (["--out-data", "noise", "--scores", ","], "--scores is empty"),
        (["--out-data", "./missing"], "no file or folder"),
        (["--out-data", "toyfaces"], "is what run was trained on"),
        (["--out-data", "8gaussians"], "contains no images"),
        (["--out-data", "noise", "--variance", "0"], "not a number above 0"),
        (["--out-data", "noise", "--metrics", "kl"], "write --scores kl"),
        (["--out-data", "noise", *as_options("data.split=train")], "was trained on 64 of the 64 images of split train"),
        (["--out-data", "noise", "--out", "a.txt"], "end it in .png"),
    ],
)
def test_bad_input_is_one_line(run, options, words, capsys):
    assert main(["ood", str(run), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not list(Path().glob("*.jsonl"))


def test_models_of_points_are_refused(capsys):
    genzoo.create_model("vae", shape=(2,), encoder="mlp", decoder="mlp").save_pretrained("points")
    assert main(["ood", "points", "--out-data", "noise"]) == 2
    assert "is a model of points" in capsys.readouterr().err


def test_data_without_a_held_out_split_is_refused(run, capsys):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 16, 16), dtype=np.uint8)
    Path("few").mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(f"few/{i}.png")
    assert main(["ood", str(run), "--data", "few", "--out-data", "noise", "--scores", "kl"]) == 2
    assert "few has no held-out split" in capsys.readouterr().err
    command = [
        "ood",
        str(run),
        "--data",
        "few",
        "--out-data",
        "./few",
        "--scores",
        "kl",
        *as_options("data.split=train"),
    ]
    assert main([*command, "--out", "a.png"]) == 0
    line = JsonLines(Path("a.jsonl")).read()[0]
    assert line["values"]["auroc"] == 0.5 and line["out_data"]["n"] == 6
