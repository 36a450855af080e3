"""The signs of disease: pure functions of a run's recent curves and vitals, each with its threshold, the reason for it, and the cure.

Curves are the vocabulary that objectives share (see `genzoo.objective`); a sign whose curves a run does not log stays silent.
The figures in brackets are what healthy runs showed: 21 runs of 10,000 steps on 2-D sets, CIFAR-10, digits (benchmarks/doctor).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class View:
    """What a sign looks at."""

    means: Mapping[str, float]  # of each curve, over the last `patience` steps
    guides: Mapping[str, float]  # lines of the objective; `kl` is the KL that generated images are pushed to
    vitals: Sequence[Mapping[str, float]] = field(default=())  # of the last two snapshots, newest last

    def low(self, name: str) -> float | None:
        """The higher of the last two snapshots' values, to compare with a lower bound; None before there are two."""
        values = [line[name] for line in self.vitals if name in line]
        return max(values) if len(values) == 2 else None

    def high(self, name: str) -> float | None:
        """The lower of the last two snapshots' values, to compare with an upper bound; None before there are two."""
        values = [line[name] for line in self.vitals if name in line]
        return min(values) if len(values) == 2 else None


class Rule(NamedTuple):
    disease: str
    sign: Callable[[View], str | None]  # the figures, in words, while the sign is there
    cure: str
    instead_of: tuple[str, ...] = ()  # diseases that bring this sign with them: it is silent while they last


GROWTH = 0.045  # of the weights' norm, per root of steps, as in a random walk [0.034 and less; 30-fold rates: 0.06 and more]
NO_LATENTS = 0.05  # nats of KL(real) [0.3 and more once settled]; share of units in use, where KL(real) is below 1 nat
REVERSED = 1.5  # KL(real) / KL(sample) [at most 1.1], where KL(real) is 1 nat and more
RUNAWAY = 10.0  # KL(sample) / KL(real) [at most 3.0]
NO_HINGE = 0.1  # share of generated images that the hinge pushes [0.14 and more where KL(fake) settles just above m]
OUT_OF_REACH = 15.0  # m / KL(sample) [3 to 8]: a margin that is ten times too large for a run that is healthy at 3
NO_PUSH = 1e-5  # exp-ELBO [6e-4 and more]: its gradient is beta_neg / (2 beta_kl) times this, nothing for any published beta_neg
ALL_PUSH = 0.85  # exp-ELBO [at most 0.43]: the exponent is -0.16, so that the exponential is a constant 1 and regulates nothing
ONE_IMAGE = 0.1  # spread of samples over that of the data [0.55 and more]
MISMATCH = 1.0  # disagreement of BatchNorm over the samples' spread [at most 0.6 once settled; averages that stand still: 3.4 and more]
HEALING = (
    0.9  # of the snapshot before: a disagreement that falls faster is a young run's [4.1 and 2.2 at first snapshots, a quarter at the next]
)
OVERFIT = 2.0  # held-out over training error [at most 1.14]
WORSE_AVERAGE = 1.5  # score of the averaged weights over that of the raw ones [at most 1.08]


def learning_rate_too_high(view: View) -> str | None:
    growths = [(line["step"], line["vitals/growth"]) for line in view.vitals if "vitals/growth" in line]
    if len(growths) < 2 or any(growth < 1 + GROWTH * step**0.5 for step, growth in growths):
        return None
    return f"the weights have grown {growths[-1][1]:.2g}-fold by step {growths[-1][0]:,}"


def posterior_collapse(view: View) -> str | None:
    kl, active = view.means.get("kl/real"), view.low("vitals/active")
    if kl is None or kl > 1 or (kl > NO_LATENTS and (active is None or active > NO_LATENTS)):
        return None  # in eval mode units can seem unused where BatchNorm's averages are wrong, but not while the KL says otherwise
    used = f", {active:.0%} of the latent units are in use" if active is not None else ""
    return f"KL(real) {kl:.2g} nats{used}: the latents tell nothing of the data"


def one_image(view: View) -> str | None:
    spread = view.low("vitals/spread")
    return f"samples differ by {spread:.2g} of what the data differ by" if spread is not None and spread < ONE_IMAGE else None


def margin_too_small(view: View) -> str | None:
    m, kl = view.guides.get("kl"), _generated(view)
    if m is None or kl is None or kl <= m or view.means.get("hinge/active", 0) > NO_HINGE:
        return None
    return f"KL(fake) {kl:.3g} > m = {m:g}, the hinge is not active and the encoder gets no adversarial signal"


def margin_too_large(view: View) -> str | None:
    m, kl = view.guides.get("kl"), _generated(view, max)
    if m is None or kl is None or kl * OUT_OF_REACH >= m:
        return None
    return f"KL(fake) {kl:.3g} never comes near m = {m:g}, the hinge is always active and limits nothing"


def no_push(view: View) -> str | None:
    exp_elbo = view.means.get("expelbo/sample")
    return (
        f"exp-ELBO of samples {exp_elbo:.2g}, the encoder gets no adversarial signal"
        if exp_elbo is not None and exp_elbo < NO_PUSH
        else None
    )


def all_push(view: View) -> str | None:
    exp_elbo, order = view.means.get("expelbo/sample"), _order(view)
    if exp_elbo is None:
        return None
    if order:
        return f"{order}, with an exp-ELBO of samples of {exp_elbo:.2g}"
    return f"exp-ELBO of samples {exp_elbo:.2g}, the exponential is flat and samples cost nothing" if exp_elbo > ALL_PUSH else None


def order_reversed(view: View) -> str | None:
    return None if "expelbo/sample" in view.means else _order(view)


def encoder_runs_away(view: View) -> str | None:
    real, fake = view.means.get("kl/real"), view.means.get("kl/sample")
    return f"KL(fake) {fake:.3g} is {fake / real:.0f} x KL(real)" if real and fake is not None and fake > RUNAWAY * real else None


def batchnorm_mismatch(view: View) -> str | None:
    size = view.high("vitals/batchnorm")
    if size is None or size <= MISMATCH:
        return None
    before, now = (line["vitals/batchnorm"] for line in view.vitals)
    return (
        f"running averages and those of what training decodes give samples that differ by {now:.2g} of their spread"
        if now > HEALING * before
        else None
    )


def overfit(view: View) -> str | None:
    ratio = view.high("vitals/heldout")
    return f"held-out error {ratio:.2f} x that of training data" if ratio is not None and ratio > OVERFIT else None


def average_lags(view: View) -> str | None:
    ratio = view.high("vitals/average")
    return f"the averaged weights score {ratio:.2f} x the distance of the raw ones" if ratio is not None and ratio > WORSE_AVERAGE else None


RULES = (
    Rule("learning rate too high", learning_rate_too_high, "lower train.lr by 10"),
    Rule(
        "posterior collapse",
        posterior_collapse,
        "raise the weight of the reconstruction (objective.beta in IntroVAE, objective.beta_rec elsewhere), or lower that of the KL",
        ("learning rate too high",),
    ),
    Rule(
        "encoder runs away",
        encoder_runs_away,
        "raise the weight of the reconstruction, or lower objective.margin, objective.alpha or objective.beta_neg",
        ("posterior collapse", "learning rate too high"),
    ),
    Rule(
        "margin too small",
        margin_too_small,
        "raise objective.margin above KL(real)",
        ("posterior collapse", "encoder runs away", "learning rate too high"),
    ),
    Rule("beta_neg too large", no_push, "lower objective.beta_neg, about to arch.z_dim"),
    Rule(
        "beta_neg too small",
        all_push,
        "raise objective.beta_neg, about to arch.z_dim",
        ("beta_neg too large", "posterior collapse", "decoder collapse", "learning rate too high"),
    ),
    Rule(
        "decoder collapse",
        one_image,
        "raise the weight of the reconstruction: objective.beta of introvae, objective.beta_rec of the others",
        ("posterior collapse", "encoder runs away", "learning rate too high"),
    ),
    Rule(
        "margin too large",
        margin_too_large,
        "lower objective.margin, to a few times KL(real)",
        ("posterior collapse", "decoder collapse", "learning rate too high"),
    ),
    Rule(
        "order reversed",
        order_reversed,
        "raise objective.margin or objective.alpha: generated images should cost more than real ones",
        (
            "margin too small",
            "beta_neg too large",
            "beta_neg too small",
            "posterior collapse",
            "decoder collapse",
            "learning rate too high",
        ),
    ),
    Rule(
        "BatchNorm mismatch",
        batchnorm_mismatch,
        "raise train.batch, or set arch.norm=group",
        ("encoder runs away", "posterior collapse", "decoder collapse", "learning rate too high"),
    ),
    Rule(
        "overfit",
        overfit,
        "bring more data, set data.mirror=true, or stop earlier: best/ holds the best weights",
        ("learning rate too high",),
    ),
    Rule("average lags", average_lags, "lower train.ema, or train longer", ("learning rate too high",)),
)


def _order(view: View) -> str | None:
    """KL(real) far above KL(fake), in words; where both are next to nothing, their order says nothing."""
    real, fake = view.means.get("kl/real"), view.means.get("kl/sample")
    if real is None or fake is None or real < 1 or real < REVERSED * fake:
        return None
    return f"KL(real) {real:.3g} > KL(fake) {fake:.3g}"


def _generated(view: View, choose: Callable[..., float] = min) -> float | None:
    """The KL of generated images: the smaller of samples' and reconstructions', unless told otherwise."""
    values = [view.means[name] for name in ("kl/sample", "kl/reconstruction") if name in view.means]
    return choose(values) if values else None


VECTOR_SIZE = 10.0  # root mean square of points and vectors above which they were not brought to unit scale [2-D sets: at most 3]
FLAT_SHARE = 0.1  # of the images of a batch


def data_findings(batch: Tensor) -> list[tuple[str, str, str]]:
    """Looks at a batch as the data set gives it, uint8 or float [n, ...]: (disease, figures, cure) of what is wrong with it."""
    found = []
    x, is_image = batch.float(), batch.ndim == 4
    low, high, size = x.min().item(), x.max().item(), x.square().mean().sqrt().item()
    if is_image and batch.is_floating_point() and (low < -0.01 or high > 1.01):
        found.append(
            ("wrong value range", f"images hold values from {low:.3g} to {high:.3g}", "bring them to [0, 1]: x / 255, or (x + 1) / 2")
        )
    if not is_image and size > VECTOR_SIZE:
        found.append(
            ("wrong value range", f"vectors hold values from {low:.3g} to {high:.3g}", "bring them to about unit scale, e.g. x / 255")
        )
    items = x.flatten(1)
    flat = int((items.amax(dim=1) == items.amin(dim=1)).sum()) if is_image else 0
    if len(batch) > 1 and bool((batch == batch[:1]).all()):
        found.append(("constant data", f"all {len(batch)} items of the first batch are the same", "look at the files of data.name"))
    elif flat > FLAT_SHARE * len(batch):
        found.append(("constant data", f"{flat} of {len(batch)} images of the first batch have one colour", "remove them from data.name"))
    return found
