"""The monitor's rules about the margin, and those of a generator without an encoder."""

from genzoo.signs import LEARNING_RATE, SAMPLES_ALIKE, Rule, View, one_image

NO_HINGE = 0.02  # share of generated items that the hinge pushes
ALL_HINGE = 0.999
OUT_OF_REACH = 5.0  # m over the larger of the two mean energies


def energies(view: View) -> tuple[float, float, float] | None:
    """The margin, and the mean energies of data and of generated items."""
    m, real, fake = view.guides.get("energy"), view.means.get("energy/real"), view.means.get("energy/sample")
    return None if m is None or real is None or fake is None else (m, real, fake)


def margin_too_small(view: View) -> str | None:
    found = energies(view)
    if found is None or view.means.get("hinge/active", 1) > NO_HINGE:
        return None
    m, real, fake = found
    return (
        f"m = {m:g} lies below the energies, {real:.3g} of data and {fake:.3g} of generated items on average: the "
        "hinge is not active, and the critic learns from data only"
    )


def margin_too_large(view: View) -> str | None:
    found = energies(view)
    if found is None or view.means.get("hinge/active", 0) < ALL_HINGE:
        return None
    m, real, fake = found
    if m < OUT_OF_REACH * max(real, fake):
        return None
    return (
        f"m = {m:g} lies far above the energies, {real:.3g} of data and {fake:.3g} of generated items on average: the "
        "hinge is always active and limits nothing"
    )


RULES = (
    Rule("margin too small", margin_too_small, "raise objective.margin above the energy of data", (LEARNING_RATE,)),
    Rule("margin too large", margin_too_large, "lower objective.margin, to a few times the energy of data"),
    Rule(SAMPLES_ALIKE, one_image, "lower train.lr, or raise objective.pull_away", (LEARNING_RATE,)),
)
