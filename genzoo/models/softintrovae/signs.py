"""The monitor's rules about beta_neg: each a pure function of a run's recent curves, with its threshold and the fix.

Figures in brackets are those of 21 healthy runs of 10,000 steps on 2-D sets, CIFAR-10 and digits (benchmarks/doctor).
"""

from genzoo.signs import LEARNING_RATE, POSTERIOR, SAMPLES_ALIKE, Rule, View, order

# exp-ELBO [6e-4 and more]: its gradient is beta_neg / (2 beta_kl) times this, nothing at published weights.
NO_PUSH = 1e-5
# exp-ELBO [at most 0.43]: the exponent is -0.16, so the exponential is a constant 1 and regulates nothing.
ALL_PUSH = 0.85


def no_push(view: View) -> str | None:
    exp_elbo = view.means.get("expelbo/sample")
    if exp_elbo is None or exp_elbo >= NO_PUSH:
        return None
    return f"exp-ELBO of samples {exp_elbo:.2g}, the encoder gets no adversarial signal"


def all_push(view: View) -> str | None:
    exp_elbo, reversed_order = view.means.get("expelbo/sample"), order(view)
    if exp_elbo is None:
        return None
    if reversed_order:
        return f"{reversed_order}, with an exp-ELBO of samples of {exp_elbo:.2g}"
    if exp_elbo <= ALL_PUSH:
        return None
    return f"exp-ELBO of samples {exp_elbo:.2g}, the exponential is flat and samples cost nothing"


RULES = (
    Rule("beta_neg too large", no_push, "lower objective.beta_neg, about to arch.z_dim"),
    Rule(
        "beta_neg too small",
        all_push,
        "raise objective.beta_neg, about to arch.z_dim",
        ("beta_neg too large", POSTERIOR, SAMPLES_ALIKE, LEARNING_RATE),
    ),
)
