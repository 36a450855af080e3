"""The monitor's rule about a critic that wins: a pure function of a run's recent curves, its threshold, and the fix."""

from genzoo.signs import Rule, View

# Mean probability of samples to be real: the slope of the decoder's minimax loss in the critic's logit is this number.
LOST = 1e-3


def critic_wins(view: View) -> str | None:
    sample = view.means.get("critic/sample")
    if sample is None or sample >= LOST:
        return None
    return f"the critic gives samples a probability of {sample:.2g} to be real, and their gradient vanishes with it"


RULES = (
    Rule(
        "critic wins", critic_wins, "set objective.gate=true, lower train.lr_of.critic, or bound arch.output for images"
    ),
)
