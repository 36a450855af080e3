"""The kernel distance of two sets of features (Binkowski et al. 2018); "KID" is said of Inception features only."""

import torch
from torch import Tensor

from genzoo.errors import UsageError
from genzoo.metrics.checks import check_feature_pair
from genzoo.noise import generator


def kernel_distance(real: Tensor, fake: Tensor, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Mean and standard deviation (not of the mean), over random subsets, of the unbiased MMD^2 with the kernel (x.y/D + 1)^3.

    Unbiased at any number of images, so that it may come out slightly negative. Computed in float64.

    Args:
        real: [N, D] floating point.
        fake: [M, D] floating point.
        subsets: pairs of subsets, each drawn without replacement.
        subset_size: items in each; capped at the smaller set's size. Where that takes both sets whole, all subsets are
            equal: one is computed and the deviation is 0.
        seed: decides the subsets, together with the sizes of the sets.

    Raises:
        UsageError: not two feature sets of one dimension and at least 2 items, or fewer than 1 subset of 2 items asked for.
    """
    check_feature_pair(real, fake)
    if subsets < 1 or subset_size < 2:
        raise UsageError(f"The kernel distance needs at least 1 subset of 2 items, got {subsets} of {subset_size}: raise them.")
    size = min(subset_size, len(real), len(fake))
    draws = generator(seed, "kernel subsets")
    values = []
    for _ in range(1 if size == len(real) == len(fake) else subsets):
        x, y = (z[torch.randperm(len(z), generator=draws)[:size].to(z.device)].double() for z in (real, fake))
        values.append(_mmd2(x, y))
    values = torch.stack(values)
    return values.mean().item(), values.std(correction=0).item()


def _mmd2(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased estimate of the squared maximum mean discrepancy of [m, D] and [m, D] (Gretton et al. 2012, Lemma 6)."""
    m = len(x)
    within = sum(k.sum() - k.diagonal().sum() for k in (_kernel(x, x), _kernel(y, y)))
    return within / (m * (m - 1)) - 2 * _kernel(x, y).mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3
