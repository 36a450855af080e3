"""The terms of the objectives: pure functions that return one value per image; the mean is taken in view, in the
objective.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def kl_to_prior(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, I)) in nats, summed over latent dimensions: two [N, *latent] -> [N].

    IntroVAE Eq. 9, with the sign that makes it a divergence (the paper prints the opposite one).
    """
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).flatten(1).sum(dim=1)


def sse(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Sum of squared errors over channels and pixels (or coordinates): two [N, ...] -> [N]. No factor 1/2."""
    return (reconstruction - x).square().flatten(1).sum(dim=1)


def reparameterize(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """z = mu + sigma * eps (Kingma & Welling 2014, Section 2.4): three [N, *latent] -> [N, *latent]."""
    return mu + torch.exp(0.5 * logvar) * eps


def bce_real(logits: Tensor) -> Tensor:
    """-log D(x) of a critic's logits, by softplus, which does not overflow: [N] -> [N]."""
    return functional.softplus(-logits)


def bce_fake(logits: Tensor) -> Tensor:
    """-log(1 - D(x)) of a critic's logits: [N] -> [N]."""
    return functional.softplus(logits)


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], x: Tensor, x_g: Tensor, alpha: Tensor, target: float = 1.0
) -> Tensor:
    """(|d critic(x') / dx'| - target)^2 / target^2 per item, where x' lies between a real and a generated item
    (Gulrajani et al. 2017, Eq. 3; with a target, Karras et al. 2018).

    Args:
        critic: [N, *shape] -> [N]; of each item alone, so that the slope of the sum has each item's own.
        x: real items, [N, *shape].
        x_g: generated items, [N, *shape]; no gradient reaches them.
        alpha: U(0, 1) per item, [N, 1]: the share of x_g in x'.
        target: the slope that is not penalized.

    Returns:
        [N]; its graph reaches the critic's weights.
    """
    between = torch.lerp(x, x_g.detach(), alpha.view(-1, *[1] * (x.ndim - 1))).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) / target - 1).square()


def pull_away(gram: Tensor, n: int) -> Tensor:
    """The mean of cos^2 over all pairs of different codes (EBGAN's pulling-away term, Zhao et al. 2017, Eq. 4).

    Args:
        gram: [Z, Z], the mean over the n codes s of s s^T / |s|^2; a batch statistic, see `genzoo.objective.of_mean`.
        n: how many codes, more than one.

    Returns:
        A scalar in [0, 1], 1 where all codes lie on one axis.
    """
    return (n * gram.square().sum() - 1) / (n - 1)
