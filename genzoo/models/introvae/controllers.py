"""The law of `objective.margin=auto`."""

import math
from collections.abc import Mapping

from genzoo.controller import Balance, Law
from genzoo.duration import Duration


def hinge_margin(z_dim: int, warmup: Duration) -> Balance:
    """The margin m of a hinge [m - KL]^+ by IntroVAE's rule: above the KL of real images most of the time.

    With mu and sigma, mean and standard deviation over real images of their KL to the prior, a headroom
    d = max(sigma, mu / 4, sqrt(z_dim / 2)), and h, the share of generated images below m:

    - first: m0 = mu + d. Close above mu, as in the paper's Figure 5: a margin far above keeps every generated image on
      the hinge, which then bounds nothing, and was worse in 2-D (benchmarks/auto). The last term of d is the spread
      that the KL of real images has once their latents fill the prior (half a chi-square of z_dim degrees), for a
      posterior that is still collapsed.
    - too low: m < mu + d / 2, or h < 0.1 (the hinge is off: the encoder gets no adversarial signal).
    - too high: m > mu + 2 d and h > 0.9 (the hinge is always active).

    The dead zone is at least a factor of 1.33 wide. Reads `kl/real`, `spread/real` and `hinge/active`.
    """

    def headroom(means: Mapping[str, float]) -> float:
        return max(means["spread/real"], means["kl/real"] / 4, math.sqrt(z_dim / 2))

    def first(means: Mapping[str, float]) -> float:
        return means["kl/real"] + headroom(means)

    def pressure(means: Mapping[str, float], m: float) -> int:
        above, active = m - means["kl/real"], means.get("hinge/active", 0.5)
        if above < headroom(means) / 2 or active < 0.1:
            return 1
        return -1 if above > 2 * headroom(means) and active > 0.9 else 0

    curves = ("kl/real", "spread/real", "kl/reconstruction", "kl/sample", "hinge/active")
    return Balance(Law("margin", z_dim / 2, first, pressure, curves), warmup)
