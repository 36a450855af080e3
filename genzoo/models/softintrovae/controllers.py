"""The weights that may be `auto`, and the law of `objective.beta_neg=auto`."""

import math
from collections.abc import Mapping

from genzoo.controller import Balance, Calibration, Controller, Fixed, Law, refuse_fixed
from genzoo.duration import Duration
from genzoo.errors import UsageError
from genzoo.models.softintrovae.presets import SoftIntroVAEConfig
from genzoo.objective import Spaces


def weights(config: SoftIntroVAEConfig, spaces: Spaces, scale: float) -> tuple[Controller, Controller]:
    """Returns beta_neg and beta_rec, as the configuration has them.

    Raises:
        UsageError: one is `auto` and `beta_kl`, which it is relative to, is 0; or `calibration` has nothing to scale.
    """
    for name in ("beta_neg", "beta_rec"):
        if getattr(config, name) == "auto" and not config.beta_kl:
            raise UsageError(
                f"objective.{name}=auto weighs against objective.beta_kl, which is 0: raise it, or give a number."
            )
    refuse_fixed("beta_rec", config.beta_rec, config.calibration)
    beta_neg: Controller = (
        negative_weight(spaces.z_dim, scale, config.beta_kl, config.warmup)
        if config.beta_neg == "auto"
        else Fixed(config.beta_neg)
    )
    calibrated = Calibration(math.prod(spaces.shape), config.warmup, config.beta_kl * config.calibration)
    return beta_neg, calibrated if config.beta_rec == "auto" else Fixed(config.beta_rec)


def negative_weight(z_dim: int, scale: float, beta_kl: float, warmup: Duration) -> Balance:
    """The weight beta_neg whose exponential balances at the KL of real images.

    The encoder pulls a real image's KL down with the force s beta_kl, and pushes a generated one's up with the force
    s beta_neg e, where e = exp(-2 s (beta_rec L_r + beta_neg KL)). Without L_r, the two are equal at the soft margin

        m(beta_neg) = ln(beta_neg / beta_kl) / (2 s beta_neg),

    which is highest, 1 / (2 s e beta_kl), at beta_neg = e beta_kl (e = 2.718...) and falls beyond. A larger weight
    makes the exponential underflow earlier; below e beta_kl, m falls again, to nothing at beta_kl. So beta_neg solves
    m(beta_neg) = level on the falling branch, is e beta_kl where no weight reaches the level, and never less. With
    averages over the controller's horizon:

    - first: level = mu + max(2 sigma, sqrt(z_dim / 2)), of the KL of real images in the warm-up; the root is the spread
      that this KL has once the latents fill the prior (half a chi-square of z_dim degrees). It is not tracked:
      adversarial training itself draws the KL of real images to m.
    - too low: KL(sample) < 0.9 KL(real), against the authors' rule; or push beta_neg e < 0.1 beta_kl, the exponential
      has underflowed.
    - too high: KL(sample) > 3 KL(real) while the push exceeds the pull.

    Reads `kl/real`, `spread/real`, `kl/sample` and `expelbo/sample`.
    """

    def first(means: Mapping[str, float]) -> float:
        return means["kl/real"] + max(2 * means["spread/real"], math.sqrt(z_dim / 2))

    def pressure(means: Mapping[str, float], beta_neg: float) -> int:
        if "kl/sample" not in means:
            return 0
        real, sample, push = means["kl/real"], means["kl/sample"], beta_neg * means["expelbo/sample"] / beta_kl
        if sample < 0.9 * real or push < 0.1:
            return 1
        return -1 if sample > 3 * real and push > 1 else 0

    def setting(level: float) -> float:
        return soft_weight(level, scale, beta_kl)

    curves = ("kl/real", "spread/real", "expelbo/sample", "kl/reconstruction", "kl/sample")
    return Balance(Law("beta_neg", z_dim / 2, first, pressure, curves, setting, math.e * beta_kl), warmup)


def soft_weight(level: float, scale: float, beta_kl: float) -> float:
    """Solves ln(b / beta_kl) = 2 scale b level for b >= e beta_kl; e beta_kl where there is no solution.

    With y = ln(b / beta_kl) and a = 2 scale beta_kl level it is y = a exp(y), y >= 1: ln y - ln a - y falls from y = 1
    on, and is negative at y = 1 - 2 ln a.
    """
    log_a = math.log(2 * scale * beta_kl * level)
    low, high = 1.0, max(1.0, 1 - 2 * log_a)
    for _ in range(60):
        y = (low + high) / 2
        low, high = (y, high) if math.log(y) - log_a - y > 0 else (low, y)
    return beta_kl * math.exp(low)
