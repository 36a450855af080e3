"""Expectation-maximization of Gaussian mixtures with full covariances, and the k-means that it starts from."""

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

ROUNDS, EM_ROUNDS = 8, 30  # at most
ENOUGH = 0.01  # nats per encoding: EM stops at a smaller gain
NEGLIGIBLE = 1e-6  # responsibilities below it are left out of a component's covariance


def em(
    x: Tensor,
    shares: Tensor,
    *,
    shrinkage: float,
    floor: float,
    allowed: Tensor | None = None,
    rounds: int = EM_ROUNDS,
    enough: float = ENOUGH,
) -> tuple[Tensor, Tensor, Tensor]:
    """Expectation-maximization of a mixture with full covariances.

    Args:
        x: [N, P].
        shares: [N, K], responsibilities to start with; rows sum to 1.
        shrinkage: weight, in items, of the covariance averaged over components in that of each; 0 is maximum
            likelihood.
        floor: added to the variances.
        allowed: bool [N, K], the components that an item may belong to; None = all.
        rounds: at most.
        enough: gain in nats per item below which it ends.

    Returns:
        weights [K], means [K, P], factors [K, P, P].
    """
    mixture, before = _maximized(x, shares, shrinkage, floor), -math.inf
    for _ in range(rounds - 1):
        joint = log_joint(x, *mixture)
        if allowed is not None:
            joint.masked_fill_(~allowed, -math.inf)
        total = joint.logsumexp(1)
        now = total.mean().item()
        if now - before < enough:
            break
        mixture, before = _maximized(x, (joint - total[:, None]).exp_(), shrinkage, floor), now
    return mixture


def _maximized(x: Tensor, shares: Tensor, shrinkage: float, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """The M step."""
    counts = shares.sum(0) + 1e-10 * len(x)
    means = (shares.T @ x) / counts[:, None]
    scatter = x.new_empty(len(counts), x.shape[1], x.shape[1])
    for k, (mean, share) in enumerate(zip(means, shares.T.contiguous(), strict=True)):  # a column's items lie far apart
        members = (share > NEGLIGIBLE).nonzero().squeeze(1)
        moved = (x[members] - mean) * share[members, None].sqrt()
        scatter[k] = moved.T @ moved
    average = scatter.sum(0) / len(x)
    covariances = (scatter + shrinkage * average) / (counts + shrinkage)[:, None, None]
    covariances.diagonal(dim1=1, dim2=2).add_(floor)
    return counts / counts.sum(), means, torch.linalg.cholesky(covariances)


def log_joint(x: Tensor, weights: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """Log of w_k N(x; mean_k, covariance_k): [N, P] -> [N, K]."""
    rank = x.shape[1]
    whiten = torch.linalg.solve_triangular(factors, torch.eye(rank, device=x.device).expand_as(factors), upper=False)
    constants = weights.log() - factors.diagonal(dim1=1, dim2=2).log().sum(1) - 0.5 * rank * math.log(2 * math.pi)
    squares = [torch.addmm(-(w @ mean), x, w.T).square_().sum(1) for w, mean in zip(whiten, means, strict=True)]
    return constants - 0.5 * torch.stack(squares, 1)


def kmeans(x: Tensor, k: int, rng: torch.Generator) -> Tensor:
    """Clusters [N, P] by k-means++ (Arthur & Vassilvitskii 2007) and a few of Lloyd's rounds; returns shares [N, k],
    each row 1 at its cluster. The generator lives on the CPU.
    """
    centers = x[torch.randint(len(x), (1,), generator=rng, device="cpu")]
    nearest = x.new_full((len(x),), math.inf)
    for _ in range(k - 1):
        nearest = torch.minimum(nearest, (x - centers[-1]).square().sum(1))
        # The smallest normal number where all items left are copies of centers.
        chosen = torch.multinomial(nearest.clamp(min=torch.finfo().tiny).cpu(), 1, generator=rng)
        centers = torch.cat([centers, x[chosen]])
    for _ in range(ROUNDS):
        shares = one_hot(torch.cdist(x, centers).argmin(1), k).to(x.dtype)
        counts = shares.sum(0)[:, None]
        centers = torch.where(counts > 0, (shares.T @ x) / counts.clamp(min=1), centers)
    return one_hot(torch.cdist(x, centers).argmin(1), k).to(x.dtype)
