"""What the monitor's rules are made of: a view of a run's recent curves, and rules that read it.

A rule reads curves by their names (docs/architecture.md has the table); a rule whose curves a run does not log stays
silent. The rules of `SHARED` hold for every model that logs the KL of its latents; rules about training itself are in
`genzoo.training.rules`, and a model brings its own through `Objective.signs`. Figures in brackets are those of 21
healthy runs of 10,000 steps on 2-D sets, CIFAR-10 and digits (benchmarks/doctor).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class View:
    """What a rule looks at."""

    means: Mapping[str, float]  # of each curve, over the monitor's window
    guides: Mapping[str, float]  # lines of the objective; `kl` is the KL that generated items are pushed to
    vitals: Sequence[Mapping[str, float]] = field(default=())  # of the last two snapshots, newest last
    scores: Sequence[tuple[int, float]] = field(default=())  # (images seen, score) of all snapshots, newest last

    def highest(self, name: str) -> float | None:
        """The highest of the last two snapshots' values, to compare with a lower bound; None before there are two."""
        values = [line[name] for line in self.vitals if name in line]
        return max(values) if len(values) == 2 else None

    def lowest(self, name: str) -> float | None:
        """The lowest of the last two snapshots' values, to compare with an upper bound; None before there are two."""
        values = [line[name] for line in self.vitals if name in line]
        return min(values) if len(values) == 2 else None

    def generated(self, choose: Callable[..., float] = min) -> float | None:
        """The KL of generated items: the smaller (or `choose`) of samples' and reconstructions'."""
        values = [self.means[name] for name in ("kl/sample", "kl/reconstruction") if name in self.means]
        return choose(values) if values else None


@dataclass(frozen=True)
class Rule:
    """One problem that a run may have."""

    problem: str  # its name
    symptom: Callable[[View], str | None]  # the figures, in words, while the symptom is present; else None
    fix: str  # what helps; `{word}` stands for the model's own option, see `Objective.options`
    instead_of: tuple[str, ...] = ()  # problems that bring this symptom with them: the rule is silent while they last


NO_LATENTS = 0.05  # nats of KL(real) [0.3 and more once settled]; share of units in use, where KL(real) is below 1 nat
RUNAWAY = 10.0  # KL(sample) / KL(real) [at most 3.0]
ONE_IMAGE = 0.1  # spread of samples over that of the data [0.55 and more]
REVERSED = 1.5  # KL(real) / KL(sample) [at most 1.1], where KL(real) is 1 nat and more


LEARNING_RATE, POSTERIOR, RUNS_AWAY = "learning rate too high", "posterior collapse", "encoder runs away"
SAMPLES_ALIKE = "decoder collapse"


def order(view: View) -> str | None:
    """KL(real) far above KL(fake), in words; where both are next to nothing, their order says nothing."""
    real, fake = view.means.get("kl/real"), view.means.get("kl/sample")
    if real is None or fake is None or real < 1 or real < REVERSED * fake:
        return None
    return f"KL(real) {real:.3g} > KL(fake) {fake:.3g}"


def posterior_collapse(view: View) -> str | None:
    kl, active = view.means.get("kl/real"), view.highest("vitals/active")
    if kl is None or kl > 1 or (kl > NO_LATENTS and (active is None or active > NO_LATENTS)):
        return None  # in eval mode units can seem unused where BatchNorm's averages are wrong, but the KL shows them
    used = f", {active:.0%} of the latent units are in use" if active is not None else ""
    return f"KL(real) {kl:.2g} nats{used}: the latents carry nothing about the data"


def one_image(view: View) -> str | None:
    spread = view.highest("vitals/spread")
    if spread is None or spread >= ONE_IMAGE:
        return None
    return f"samples differ by {spread:.2g} of what the data differ by"


def encoder_runs_away(view: View) -> str | None:
    real, fake = view.means.get("kl/real"), view.means.get("kl/sample")
    if not real or fake is None or fake <= RUNAWAY * real:
        return None
    return f"KL(fake) {fake:.3g} is {fake / real:.0f} x KL(real)"


SHARED = (
    Rule(
        POSTERIOR,
        posterior_collapse,
        "raise the weight of the reconstruction ({reconstruction}), or lower that of the KL",
        (LEARNING_RATE,),
    ),
    Rule(
        RUNS_AWAY,
        encoder_runs_away,
        "raise the weight of the reconstruction ({reconstruction}), or lower {adversary}",
        (POSTERIOR, LEARNING_RATE),
    ),
    Rule(
        SAMPLES_ALIKE,
        one_image,
        "raise the weight of the reconstruction ({reconstruction})",
        (POSTERIOR, RUNS_AWAY, LEARNING_RATE),
    ),
)
