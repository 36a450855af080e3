"""Priors that are trained with the networks: one Gaussian per class, and mixtures."""

import copy
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import read_log, same, tiny_run, weights
from PIL import Image
from reference_options import Mixture, prior_kl, softintrovae_prior
from steps import FORMS, LR, SCALE, SHAPES, STEPS, TOLERANCE, N, Z, adams, at, data, distance, move, networks
from torch import Tensor
from torch.distributions import Categorical as Choice
from torch.distributions import Independent, MixtureSameFamily, Normal, kl_divergence

import genzoo
from genzoo import Trainer
from genzoo.cli import main
from genzoo.errors import UsageError
from genzoo.evaluation.ood_data import made
from genzoo.files import JsonLines
from genzoo.items import Items
from genzoo.metrics.clusters import agreement
from genzoo.models._responsibilities import entropy
from genzoo.models.autoencoder import Posterior
from genzoo.models.introvae import IntroVAE
from genzoo.models.softintrovae import SoftIntroVAE
from genzoo.nn.mixture import LearnedPrior, learned_prior, softly_clipped
from genzoo.noise import Noise
from genzoo.objective import Objective, Spaces, phases
from genzoo.priors import Prior
from genzoo.registry import get_spec

pytestmark = pytest.mark.usefixtures("one_thread")

K = 3
LABELS = torch.tensor([0, 2, 1, 1, 0, 2])
PRIORS = {"normal": Prior(), "classes": Prior("classes", components=K), "mog": Prior("mog", components=K)}


def objective_of(form: str, prior: str, **more: Any) -> Objective:
    model, config = FORMS[form]
    margin = {"margin": 4.0} if model == "introvae" else {}
    spec = get_spec(model)
    return spec.objective(spec.config(**(margin | config | more)), Spaces(SHAPES["conv"], (Z,), PRIORS[prior]))


def components(k: int = K, classes: bool = False, clipped: bool = False) -> LearnedPrior:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        prior = LearnedPrior(k, (Z,), classes, clipped).double()
        with torch.no_grad():
            prior.logvars.add_(0.3 * torch.randn_like(prior.logvars)).mul_(k > 1)
    return prior


def posterior() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return tuple(torch.randn(2, N, Z, generator=rng, dtype=torch.float64))  # pyright: ignore[reportReturnType]


def batches(objective: Objective, step: int, micro: int = 1) -> list[list[Any]]:
    x, size = data(step), N // micro
    return [
        [objective.draw(Items(x[i : i + size], LABELS[i : i + size]), Noise(7, step, N, i, i + size, like=x))]
        for i in range(0, N, size)
    ]


def trained(objective: Objective, nets: torch.nn.ModuleDict, micro: int = 1) -> list[dict[str, float]]:
    optimizers, curves = adams(nets), []
    for step in range(STEPS):
        curves.append({})
        for phase in phases(objective, nets, batches(objective, step, micro), at(step)):
            curves[-1] |= {name: value.item() for name, value in phase.logs.items()}
            move(phase, optimizers)
    return curves


# ---- the divergences


def gaussians(prior: LearnedPrior) -> Independent:
    means, logvars = prior()
    return Independent(Normal(means, torch.exp(0.5 * logvars)), 1)


def test_the_divergence_to_a_class_is_that_of_two_gaussians():
    prior, (mu, logvar) = components(classes=True), posterior()
    means, logvars = prior()
    theirs = Normal(means[LABELS], torch.exp(0.5 * logvars[LABELS]))
    expected = kl_divergence(Normal(mu, torch.exp(0.5 * logvar)), theirs).sum(1)
    torch.testing.assert_close(prior.kl(mu, logvar, LABELS), expected)
    torch.testing.assert_close(prior.kls(mu, logvar)[torch.arange(N), LABELS], expected)


def test_that_to_a_mixture_is_an_upper_bound_and_exact_where_components_agree_or_are_far_apart():
    prior, (mu, logvar) = components(), posterior()
    mixture = MixtureSameFamily(Choice(torch.ones(K, dtype=torch.float64)), gaussians(prior))
    q = Independent(Normal(mu, torch.exp(0.5 * logvar)), 1)
    z = q.sample(torch.Size((100_000,)))
    measured = (q.log_prob(z) - mixture.log_prob(z)).mean(0)
    bound = prior.kl(mu, logvar)
    assert (bound > measured - 0.02).all() and (bound < measured + 1).all()
    with torch.no_grad():
        prior.means.copy_(torch.tensor([0.0, 0, 0, 100, 0, 0, 0, 100, 0]))
        z = q.sample(torch.Size((100_000,)))
        torch.testing.assert_close(
            prior.kl(mu, logvar), (q.log_prob(z) - mixture_of(prior).log_prob(z)).mean(0), atol=0.1, rtol=0
        )
        prior.means.zero_()
        prior.logvars.zero_()
    torch.testing.assert_close(prior.kl(mu, logvar), kl_divergence(q, Independent(Normal(0 * mu, 1 + 0 * mu), 1)))


def mixture_of(prior: LearnedPrior) -> MixtureSameFamily:
    return MixtureSameFamily(Choice(torch.ones(K, dtype=torch.float64)), gaussians(prior))


def test_the_density_of_latents_is_that_of_the_mixture():
    prior, (z, _) = components(classes=True), posterior()
    torch.testing.assert_close(prior.log_prob(z), mixture_of(prior).log_prob(z), rtol=1e-12, atol=1e-12)
    assert prior.float().log_prob(z).dtype == z.dtype  # computed in it


def test_responsibilities_are_bayes_rule():
    prior, (z, _) = components(), posterior()
    expected = torch.softmax(gaussians(prior).log_prob(z[:, None]), dim=1)
    torch.testing.assert_close(prior.responsibilities(z), expected)


def test_latents_are_placed_with_gradients_into_the_prior():
    prior, (normal, _) = components(), posterior()
    means, logvars = prior()
    z = prior.place(normal, LABELS)
    torch.testing.assert_close(z, means[LABELS] + torch.exp(0.5 * logvars[LABELS]) * normal)
    z.sum().backward()
    torch.testing.assert_close(prior.means.grad, torch.full_like(prior.means, 2))  # each class occurs twice


# ---- the steps


@pytest.mark.parametrize("form", FORMS)
def test_one_fixed_component_changes_nothing(form):
    """A mixture of the single component N(0, I), held fixed: networks and curves are those without it."""
    plain, held = networks(form), networks(form)
    held["components"] = components(1)
    curves = trained(objective_of(form, "normal"), plain)
    fixed = objective_of(form, "normal")
    fixed.spaces = Spaces(SHAPES["conv"], (Z,), Prior("mog", components=1))
    optimizers, others = adams(held), []
    for step in range(STEPS):
        others.append({})
        for phase in phases(fixed, held, batches(fixed, step), at(step)):
            others[-1] |= {name: value.item() for name, value in phase.logs.items()}
            held["components"].zero_grad()
            move(phase, {name: optimizer for name, optimizer in optimizers.items() if name != "components"} | NONE)
    for name in plain:
        assert distance(plain[name], held[name]) < TOLERANCE
    for got, want in zip(others, curves, strict=True):
        want = {name: value for name, value in want.items() if name != "loss/decoder"}  # which has the prior's part
        assert {name: got[name] for name in want} == pytest.approx(want, rel=1e-9)


class _Held:
    """An optimizer that moves nothing."""

    def step(self) -> None: ...

    def zero_grad(self) -> None: ...


NONE: dict[str, Any] = {"components": _Held()}


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "samples": {"prior_samples": 4},
    "entropy": {"prior_entropy": 0.5},
    "clip": {"clip": True, "warmup": "2it"},
    "all": {"prior_samples": 3, "prior_entropy": 0.5, "clip": True, "warmup": "1it"},
}


@pytest.mark.parametrize(
    ("prior", "option"), [("classes", "plain"), ("classes", "clip"), *(("mog", o) for o in OPTIONS)]
)
def test_soft_introvae_with_a_learned_prior_is_the_published_step(prior, option):
    """With the paper's options, each alone and all together, a warm-up included."""
    more = dict(OPTIONS[option])
    clipped = more.pop("clip", False)
    objective, nets = objective_of("softintrovae-official", prior, **more), networks("softintrovae-official")
    nets["components"] = components(classes=prior == "classes", clipped=clipped)
    theirs = copy.deepcopy(nets)
    c, optimizers, bounds = objective.config, adams(theirs), None
    trained(objective, nets)
    for step in range(STEPS):
        (b,) = batches(objective, step)[0]
        warming = at(step).before(c.warmup)
        if clipped and bounds is None and not warming:
            logvars = theirs.components.logvars.detach().reshape(K, Z).clone()
            bounds = logvars.amin(0), logvars.amax(0)
        weights = {"b_kl": c.beta_kl, "b_rec": c.beta_rec, "b_neg": c.beta_neg, "gamma_r": c.gamma_r}
        y, o = LABELS if prior == "classes" else None, Mixture(b.samples, bounds, c.prior_entropy)
        softintrovae_prior(theirs, optimizers, b, y, o, warming=warming, s=SCALE["conv"], **weights)
    for name in ("encoder", "decoder", "components"):
        assert distance(nets[name], theirs[name], buffers=False) < TOLERANCE
    assert distance(nets["components"], components(), buffers=False) > LR
    if clipped:
        assert bounds is not None
        torch.testing.assert_close(nets.components.bounds, torch.stack(bounds), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("form", [form for form in FORMS if form.startswith("introvae")])
def test_the_hinge_judges_by_the_learned_prior(form):
    """The encoder's loss is Eq. 11 with the KL to each image's class; the decoder's is Eq. 12, and the prior's part."""
    objective, nets = objective_of(form, "classes", recompute=True), networks(form)
    nets["components"] = learned = components(classes=True)
    c, (b,) = objective.config, batches(objective, 0)[0]
    half = 0.5 if c.form == "paper" else 1.0
    enc, dec = (copy.deepcopy(nets[name]) for name in ("encoder", "decoder"))
    found = [phase.logs for phase in phases(objective, nets, [[b]], at(0))]  # no network moves
    z_p = learned.place(b.z_p, LABELS)
    mu, logvar = enc(b.x)
    z = mu + torch.exp(0.5 * logvar) * b.eps
    x_r, x_p = dec(z), dec(z_p)
    kls = [prior_kl(*enc(image), learned, LABELS, Mixture(), 0) for image in (x_r, x_p)]
    real, error = (
        prior_kl(mu, logvar, learned, LABELS, Mixture(), 0).mean(),
        ((b.x - x_r) ** 2).flatten(1).sum(1).mean(),
    )
    pushed = [(c.margin - (kl if c.form == "paper" else kl.mean())).clamp(min=0).mean() for kl in kls]
    alpha = c.alpha if c.alpha_decoder is None else c.alpha_decoder
    expected = real + c.alpha * sum(pushed) + c.beta * half * error
    assert found[0]["loss/encoder"].item() == pytest.approx(expected.item(), rel=1e-10)
    expected = alpha * (kls[0] + kls[1]).mean() + c.beta * half * error + real
    assert found[1]["loss/decoder"].item() == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("prior", ["classes", "mog"])
@pytest.mark.parametrize("form", FORMS)
def test_micro_batches_are_parts_of_the_batch(form, prior):
    """Without BatchNorm, which sees the parts."""
    check_micro_batches(form, prior)


def test_micro_batches_with_the_options_of_a_mixture():
    """Responsibilities are averaged over all of them."""
    check_micro_batches("softintrovae-official", "mog", clipped=True, prior_samples=3, prior_entropy=0.5, warmup="1it")


def check_micro_batches(form: str, prior: str, clipped: bool = False, **more: Any) -> None:
    whole, parts = networks(form, norm="none"), networks(form, norm="none")
    for nets, micro in ((whole, 1), (parts, 3)):
        nets["components"] = components(classes=prior == "classes", clipped=clipped)
        trained(objective_of(form, prior, **more), nets, micro)
    for name in whole:
        assert distance(whole[name], parts[name]) < 1e-9


def test_the_kl_by_samples_is_unbiased():
    prior, (mu, logvar) = components(), posterior()
    normal = torch.randn(N, 20_000, Z, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    q = Independent(Normal(mu, torch.exp(0.5 * logvar)), 1)
    z = q.sample(torch.Size((100_000,)))
    measured = (q.log_prob(z) - mixture_of(prior).log_prob(z)).mean(0)
    torch.testing.assert_close(prior.kl(mu, logvar, normal=normal), measured, atol=0.05, rtol=0)


def test_log_variances_are_clipped_softly():
    """In the middle of the bounds almost nothing changes; beyond them, nothing is left of what exceeds them."""
    lowest, highest = torch.tensor([-1.0, 2.0]), torch.tensor([3.0, 2.0])
    found = softly_clipped(torch.tensor([[1.0, 1.0], [50.0, 5.0], [-50.0, 0.0]]), lowest, highest)
    assert found[:, 0].tolist() == pytest.approx([1, 3, -1], abs=1e-4)
    assert found[:, 1].tolist() == [2, 2, 2]


def test_bounds_follow_until_they_are_held():
    prior = components(clipped=True)
    unclipped = prior.logvars.detach().view(K, Z).clone()
    prior.hold_range(False)
    assert torch.equal(prior.bounds, torch.stack([unclipped.amin(0), unclipped.amax(0)]))
    assert torch.equal(prior()[1], unclipped)
    with torch.no_grad():
        prior.logvars.add_(1)
    prior.hold_range(True)
    held = prior.bounds.clone()
    with torch.no_grad():
        prior.logvars.mul_(10)
    prior.hold_range(True)
    assert torch.equal(prior.bounds, held) and torch.equal(held[0], unclipped.amin(0) + 1)
    torch.testing.assert_close(prior()[1], prior()[1].clamp(*held))


def test_entropy_is_highest_where_all_components_are_used_alike():
    assert entropy(torch.full((8,), 1 / 8)).item() == pytest.approx(1)
    assert entropy(torch.tensor([1.0, 0, 0])).item() == pytest.approx(0, abs=1e-6)
    assert entropy(torch.full((2,), 1 / 2)).item() == pytest.approx(math.log(2))  # published code: not divided below e


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"prior_samples": 9},
            "prior_samples=9 estimates the KL to a mixture, and that to arch.prior=classes has a closed",
        ),
        (
            {"prior_entropy": 2},
            "prior_entropy=2 keeps the components of a mixture in use, and arch.prior=classes is none",
        ),
    ],
)
def test_options_of_mixtures_are_refused_elsewhere(more, said):
    with pytest.raises(UsageError, match=said):
        objective_of("softintrovae-paper", "classes", **more)


@pytest.mark.parametrize(("model", "prior"), [(IntroVAE, "mog:3"), (SoftIntroVAE, "normal")])
def test_clipping_is_refused_where_nothing_is_clipped(model, prior):
    arch = {"channels": (8,), "z_dim": 4, "prior": prior, "prior_clip": True}
    with pytest.raises(UsageError, match=f"this is {model.__name__} with arch.prior={prior}: train softintrovae with"):
        model(shape=(1, 8, 8), arch=arch)


def test_a_component_of_a_mixture_is_drawn_at_random():
    objective = objective_of("vae", "mog")
    assert (
        objective.spaces.prior.draw_component(Noise(7, 0, 999, 0, 999, like=data(0)), "k", None).bincount().min() > 250
    )


# ---- models and runs

TINY = ("data.name=digits", "data.size=8x8", "data.channels=1", "arch.channels=8", "arch.z_dim=4", "train.batch=16")
SHORT = (*TINY, "train.duration=96", "train.snapshot_every=50%")


def options(*settings: str) -> list[str]:
    return [part for text in settings for part in ("--set", text)]


@pytest.fixture(scope="module")
def run(tmp_path_factory, own_cache) -> Path:
    out = tmp_path_factory.mktemp("runs") / "classes"
    settings = (*SHORT, "arch.prior=classes", "objective.warmup=2it")
    return Trainer(genzoo.resolve("softintrovae", settings=settings), out=out, progress=False).fit()


def test_a_run_with_classes_resumes_to_the_same_bits(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / f"{6:09d}")
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    assert same(weights(run), weights(tmp_path / "run"))
    assert (weights(run)["components.means"].view(10, 4).std(0) > 0.1).all()


def test_a_saved_model_has_its_prior(run, tmp_path):
    model = SoftIntroVAE.from_pretrained(run)
    prior = learned_prior(model)
    assert prior is not None
    labels = torch.tensor([3, 3, 4])
    z = model.latents(3, torch.Generator().manual_seed(0), labels, "classes")
    normal = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(z, prior.place(normal, labels).detach())
    assert model.classes == tuple("0123456789") and model.prior_name("classes") == "classes"
    assert model.sample(3, labels=labels).shape == (3, 1, 8, 8)
    assert model.prior_name().startswith("gmm")  # of all classes
    x = torch.rand(3, 1, 8, 8)
    posterior = model.encode(x).latent_dist
    assert isinstance(posterior, Posterior)
    score = model.score(x, labels)["kl"]
    torch.testing.assert_close(score, prior.kl(posterior.mean, posterior.logvar, labels))
    assert (model.score(x)["kl"] < score + math.log(10) + 1e-4).all()  # of any class


def test_samples_of_a_class_from_the_command_line(run, capsys):
    assert main(["sample", str(run), "--label", "7", "--n", "4", "--prior", "classes", "--out", "seven.png"]) == 0
    assert "4 images, of 7, prior classes" in capsys.readouterr().out
    assert main(["sample", str(run), "--label", "7", "--n", "4", "--out", "seven.png"]) == 0
    assert "4 images, of 7, prior gmm:10" in capsys.readouterr().out
    assert main(["sample", str(run), "--label", "7", "--n", "4", "--prior", "gmm:12", "--out", "seven.png"]) == 0
    assert "4 images, of 7, prior gmm:12" in capsys.readouterr().out
    assert main(["sample", str(run), "--n", "4", "--out", "any.png"]) == 0
    assert "prior gmm" in capsys.readouterr().out


def test_a_code_walks_from_class_to_class(run):
    prior, normal = components(classes=True), torch.randn(Z, dtype=torch.float64)
    walk = prior.walk(normal, [2, 0, 1], 5)
    ends = prior.place(normal.expand(3, Z), torch.tensor([2, 0, 1]))
    torch.testing.assert_close(walk[0::2], ends)
    means, logvars = prior()
    middle = (means[2] + means[0]) / 2 + torch.exp((logvars[2] + logvars[0]) / 4) * normal
    torch.testing.assert_close(walk[1], middle)
    assert main(["interpolate", str(run), "--label", "3", "--label", "8", "--n", "2", "--out", "walk.png"]) == 0
    width, height = Image.open("walk.png").size
    assert width > 4 * height  # two rows of nine


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["interpolate", "RUN", "--label", "3"], "give it twice or more"),
        (["sample", "RUN", "--label", "17"], "--label 17: there is no such class. Did you mean 7 or 1?"),
        (["sample", "RUN", "--label", "1", "--prior", "gmm:9"], "was fitted without classes"),
        (["sample", "RUN", "--label", "1", "--prior", "normal"], "There is no prior 'normal': take classes"),
        (["sample", "RUN", "--prior", "classes", "--temperature", "0.5"], "here the prior is classes: leave it at 1"),
        (["train", "vae", *options(*TINY, "arch.prior=mog:0")], "mog:K, a mixture of K Gaussians"),
        (["train", "vae", *options(*TINY, "arch.prior=classes", "data.labels=hue")], "has no labels called 'hue'"),
        (["train", "vae", "--data", "8gaussians", "--set", "arch.prior=classes"], "label"),
    ],
)
def test_wrong_labels_are_one_line(run, args, said, capsys):
    assert main([str(run) if text == "RUN" else text for text in args]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1


def test_a_model_without_labels_refuses_them(tmp_path):
    model = IntroVAE(shape=(1, 8, 8), arch={"channels": (8,), "z_dim": 4, "prior": "mog:3"})
    with pytest.raises(UsageError, match="leave out labels"):
        model.sample(2, labels=torch.tensor([0, 1]))
    assert model.prior_name() == "mog" and model.sample(2).shape == (2, 1, 8, 8)
    with pytest.raises(UsageError, match="needs labels: set data.labels"):
        IntroVAE(shape=(1, 8, 8), arch={"channels": (8,), "z_dim": 4, "prior": "classes"})


def test_labels_are_taken_where_the_prior_has_classes():
    config = genzoo.resolve("vae", settings=(*TINY, "arch.prior=classes"))
    assert config.data.labels == "label" and "arch.prior=classes takes data.labels=label" in " ".join(config.notes)
    assert tiny_run("vae").data.labels is None


def test_a_mixture_is_trained_and_scored_beside_a_fitted_one():
    run = Trainer(genzoo.resolve("introvae", settings=(*SHORT, "arch.prior=mog:5")), out="run", progress=False).fit()
    means = weights(run)["components.means"]
    assert means.shape == (20,) and torch.isfinite(means).all()
    assert read_log(run)[-1]["nimg"] == 96
    assert main(["eval", str(run), "--metrics", "msssim100_train,msssim100_train_gmm,msssim100_train_fitted"]) == 0
    own, gmm, fitted = JsonLines(run / "eval.jsonl").read()
    assert own["details"]["prior"] == "mog" and gmm["details"]["prior"].startswith("gmm:")
    assert own["values"] != gmm["values"] == fitted["values"]


def test_clusters_are_the_components_that_encodings_are_nearest_to(run, capsys):
    assert main(["encode", str(run), "--n", "200", "--clusters", "--out", "z.npz"]) == 0
    said = capsys.readouterr().out
    saved = np.load("z.npz")
    prior = learned_prior(SoftIntroVAE.from_pretrained(run))
    assert prior is not None
    expected = gaussians(prior).log_prob(torch.from_numpy(saved["mean"])[:, None]).argmax(1)
    assert (saved["cluster"] == expected.numpy()).all()
    accuracy, information = agreement(saved["cluster"], saved["label"])
    assert f"learned prior against label: accuracy {accuracy:.3f}, NMI {information:.3f}" in said
    assert "k-means, k = " in said


def test_agreement_of_clusters_by_hand():
    assert agreement(np.array([2, 2, 0, 0, 1]), np.array([0, 0, 1, 1, 2])) == pytest.approx((1, 1))
    accuracy, information = agreement(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    assert (accuracy, information) == pytest.approx((0.5, 0), abs=1e-12)
    assert agreement(np.array([0, 1, 2, 3]), np.array([0, 0, 1, 1]))[0] == 0.5  # two clusters have no class


def test_clusters_need_a_learned_prior(tmp_path, capsys):
    IntroVAE(shape=(1, 8, 8), arch={"channels": (8,), "z_dim": 4}).save_pretrained("model")
    assert main(["encode", "model", "--data", "digits", "--clusters"]) == 2
    assert "--clusters needs a learned prior" in capsys.readouterr().err


def test_images_without_labels_are_scored_by_the_mixture_of_all_classes(run, capsys):
    scores = "kl,elbo,iw5,iw5_sintrovae2021,regret"
    command = ["ood", str(run), "--out-data", "noise", "--n", "6", "--scores", scores, "--variance", "0.05"]
    assert main([*command, "--out", "a.png"]) == 0
    assert "prior: classes, a mixture of 10 Gaussians whose KL is bounded above" in capsys.readouterr().out
    lines = {line["score"]: line for line in JsonLines(Path("a.jsonl")).read()}
    assert {name for name, line in lines.items() if line["details"].get("prior") == "classes"} == {*scores.split(",")}
    images = made("noise", (1, 8, 8), 6, seed=0).batch(range(6)) / 255
    expected = SoftIntroVAE.from_pretrained(run).eval().score(images)["kl"]
    assert lines["kl"]["means"]["out"] == pytest.approx(expected.mean().item(), rel=1e-5)
