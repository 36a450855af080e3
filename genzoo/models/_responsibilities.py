"""What Athanasiadis et al., "Prior Learning in Introspective VAEs" (TMLR 2025), have beside a learned mixture: its KL
by Monte Carlo, and the entropy of its components' mean responsibilities in the encoder's loss.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from genzoo.errors import UsageError
from genzoo.losses import reparameterize
from genzoo.nn.mixture import LearnedPrior
from genzoo.noise import Noise
from genzoo.objective import Step, of_mean
from genzoo.priors import Prior

EPSILON = 1e-8  # in the logarithm, as in the published code


def refuse_mixture_options(prior: Prior, samples: int, weight: float) -> None:
    """Refuses options of a mixture for another prior.

    Raises:
        UsageError: the prior is another.
    """
    if samples and prior.kind != "mog":
        raise UsageError(
            f"objective.prior_samples={samples} estimates the KL to a mixture, and that to arch.prior={prior.kind} "
            "has a closed form: set arch.prior=mog:10, or leave it out."
        )
    if weight and prior.kind != "mog":
        raise UsageError(
            f"objective.prior_entropy={weight:g} keeps the components of a mixture in use, and arch.prior={prior.kind} "
            "is none: set arch.prior=mog:10, or leave it out."
        )


def draw_samples(noise: Noise, samples: int, latent: Sequence[int], calls: int) -> tuple[Tensor, ...]:
    """Draws the noise of the posterior samples of each call of the encoder: [N, samples, *latent] each; none for 0."""
    return tuple(noise.normal(f"kl/{call}", samples, *latent) for call in range(calls)) if samples else ()


def entropy(mean: Tensor) -> Tensor:
    """-sum_k r_k log r_k of mean responsibilities [K], divided by log K where that is above 1 (published code): a
    scalar, highest where all components are equally responsible.
    """
    return -(mean * torch.log(mean + EPSILON)).sum() / max(1.0, math.log(len(mean)))


def responsibility_entropy(prior: LearnedPrior, mu: Tensor, logvar: Tensor, normal: Tensor) -> Step:
    """`entropy` of the responsibilities' mean over the global batch and the posterior samples.

    Args:
        prior: whose components are responsible.
        mu: of the posteriors of real items, [N, *latent].
        logvar: of the same.
        normal: noise of their samples, [N, M, *latent].
    """
    z = reparameterize(mu[:, None], logvar[:, None], normal).flatten(0, 1)
    return (yield from of_mean(entropy, prior.responsibilities(z).mean(dim=0)))
