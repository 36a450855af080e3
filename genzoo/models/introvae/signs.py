"""The monitor's rules about the margin: each a pure function of a run's recent curves, with its threshold and the fix.

Figures in brackets are those of 21 healthy runs of 10,000 steps on 2-D sets, CIFAR-10 and digits (benchmarks/doctor).
"""

from genzoo.signs import LEARNING_RATE, POSTERIOR, RUNS_AWAY, SAMPLES_ALIKE, Rule, View, order

NO_HINGE = 0.1  # share of generated images that the hinge pushes [0.14 and more where KL(fake) settles just above m]
OUT_OF_REACH = 15.0  # m / KL(sample) [3 to 8]: a margin ten times too large for a run that is healthy at 3


def margin_too_small(view: View) -> str | None:
    m, kl = view.guides.get("kl"), view.generated()
    if m is None or kl is None or kl <= m or view.means.get("hinge/active", 0) > NO_HINGE:
        return None
    return f"KL(fake) {kl:.3g} > m = {m:g}, the hinge is not active and the encoder gets no adversarial signal"


def margin_too_large(view: View) -> str | None:
    m, kl = view.guides.get("kl"), view.generated(max)
    if m is None or kl is None or kl * OUT_OF_REACH >= m:
        return None
    return f"KL(fake) {kl:.3g} never comes near m = {m:g}, the hinge is always active and limits nothing"


RULES = (
    Rule(
        "margin too small",
        margin_too_small,
        "raise objective.margin above KL(real)",
        (POSTERIOR, RUNS_AWAY, LEARNING_RATE),
    ),
    Rule(
        "margin too large",
        margin_too_large,
        "lower objective.margin, to a few times KL(real)",
        (POSTERIOR, SAMPLES_ALIKE, LEARNING_RATE),
    ),
    Rule(
        "order reversed",
        order,
        "raise objective.margin or objective.alpha: generated images should cost more than real ones",
        ("margin too small", POSTERIOR, SAMPLES_ALIKE, LEARNING_RATE),
    ),
)
