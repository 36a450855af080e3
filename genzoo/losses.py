"""The terms of the objectives: pure functions that return one value per image; the mean is taken in view, in the
objective.
"""

import torch
from torch import Tensor


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
