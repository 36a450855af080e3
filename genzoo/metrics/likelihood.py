"""How likely single items are to a model with a Gaussian encoder.

The model is p(x|z) = N(decode(z), variance I), q(z|x) = N(mean, diag(exp(logvar))), and p(z) = N(0, I) or a learned
mixture. Values are in nats; densities are of items as the model takes them, images in [0, 1].
"""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from genzoo.losses import reparameterize, sse
from genzoo.nn.mixture import LearnedPrior, prior_kl

STEPS, RATE = 100, 0.05  # of the optimizer of `likelihood_regret`


def log_normal(x: Tensor, mean: Tensor | float = 0.0, variance: Tensor | float = 1.0) -> Tensor:
    """Log density of independent normal coordinates, in float64: [N, ...] -> [N]."""
    variance = torch.as_tensor(variance, dtype=torch.float64, device=x.device)
    each = math.log(2 * math.pi) + variance.log() + (x - mean).double().square() / variance
    return -0.5 * each.flatten(1).sum(dim=1)


def log_likelihood(x: Tensor, decoded: Tensor, variance: float) -> Tensor:
    """Log density of items under N(decoded, variance I): two [N, ...] -> float64 [N]. Squares are summed in the type of
    the items, as this is most of the work.
    """
    constant = 0.5 * x[0].numel() * math.log(2 * math.pi * variance)
    return -sse(x, decoded).double() / (2 * variance) - constant


def log_weights(
    decode: Callable[[Tensor], Tensor],
    x: Tensor,
    mean: Tensor,
    logvar: Tensor,
    noise: Iterable[Tensor],
    variance: float = 1.0,
    prior: LearnedPrior | None = None,
) -> Tensor:
    """Log importance weights log p(x|z) + log p(z) - log q(z|x) of draws z of the posterior, float64 [K, N].

    Burda, Grosse & Salakhutdinov 2016, equation 8: `log_mean` of them is a lower bound of log p(x) in expectation.

    Args:
        decode: latents [N, *latent] -> items [N, ...].
        x: items, [N, ...].
        mean: of the posterior, [N, *latent].
        logvar: of the posterior, [N, *latent].
        noise: K draws of N(0, 1), [N, *latent] each.
        variance: of the decoder.
        prior: p(z); None = N(0, I).
    """

    def one(eps: Tensor) -> Tensor:
        z = reparameterize(mean, logvar, eps)
        of_prior = log_normal(z) if prior is None else prior.log_prob(z.double())
        return log_likelihood(x, decode(z), variance) + of_prior - log_normal(z, mean, logvar.double().exp())

    return torch.stack([one(eps) for eps in noise])


def log_mean(weights: Tensor) -> Tensor:
    """Log of the mean of weights that are given by their logarithms: [K, N] -> [N]."""
    return weights.logsumexp(dim=0) - math.log(len(weights))


def elbo_of_draw(
    decode: Callable[[Tensor], Tensor],
    x: Tensor,
    mean: Tensor,
    logvar: Tensor,
    eps: Tensor,
    variance: float = 1.0,
    prior: LearnedPrior | None = None,
) -> Tensor:
    """ELBO whose reconstruction is that of one draw of the posterior (Kingma & Welling 2014, equation 10): float64 [N].

    With a mixture as prior, it is lower by what `LearnedPrior.kl` is above the KL. The arguments are those of
    `log_weights`, with one draw of the noise.
    """
    z = reparameterize(mean, logvar, eps)
    return log_likelihood(x, decode(z), variance) - prior_kl(prior, mean.double(), logvar.double())


def likelihood_regret(
    decode: Callable[[Tensor], Tensor],
    x: Tensor,
    mean: Tensor,
    logvar: Tensor,
    noise: Iterable[Tensor],
    judged_by: Sequence[Tensor],
    variance: float = 1.0,
    rate: float = RATE,
    prior: LearnedPrior | None = None,
) -> Tensor:
    """What the ELBO of each item gains when its posterior is optimized for it alone, float64 [N].

    Likelihood regret (Xiao, Yan & Amit 2020) of mean and log-variance, by Adam (0.9, 0.999). Their code optimizes a
    copy of the encoder instead. Items do not depend on each other.

    Args:
        decode: see `log_weights`, and so for the following three.
        x: items.
        mean: where the optimization starts.
        logvar: where the optimization starts.
        noise: one draw of N(0, 1) per step.
        judged_by: draws of N(0, 1), over which the ELBOs before and after are averaged.
        variance: of the decoder.
        rate: of Adam; ours.
        prior: p(z); None = N(0, I).
    """
    best = mean.detach().clone().requires_grad_(), logvar.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam(best, lr=rate)
    for eps in noise:
        with torch.enable_grad():
            loss = -elbo_of_draw(decode, x, best[0], best[1], eps, variance, prior).sum()
        for parameter, gradient in zip(best, torch.autograd.grad(loss, best), strict=True):
            parameter.grad = gradient
        optimizer.step()

    def mean_elbo(mean: Tensor, logvar: Tensor) -> Tensor:
        elbos = [elbo_of_draw(decode, x, mean, logvar, eps, variance, prior) for eps in judged_by]
        return torch.stack(elbos).mean(dim=0)

    with torch.no_grad():
        return mean_elbo(*best) - mean_elbo(mean, logvar)
