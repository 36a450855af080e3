"""The kernel distance of two sets of features (Binkowski et al. 2018). "KID" always means Inception features."""

import torch
from torch import Tensor

from genzoo.errors import UsageError
from genzoo.metrics.checks import check_feature_pair
from genzoo.metrics.inputs import FeaturePair
from genzoo.metrics.registry import Result, Value, metric
from genzoo.noise import generator


def kernel_distance(
    real: Tensor, fake: Tensor, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Computes the unbiased MMD^2 with the kernel (x.y/D + 1)^3 of random subsets, in float64.

    Unbiased at any number of images, hence possibly slightly negative.

    Args:
        real: [N, D] floating point.
        fake: [M, D] floating point.
        subsets: pairs of subsets, each drawn without replacement.
        subset_size: items in each, at most the smaller set's size. If both sets are used completely, all subsets are
            equal: one is computed and the deviation is 0.
        seed: of the subsets, together with the sizes of the sets.

    Returns:
        mean and standard deviation (not of the mean) over the subsets.

    Raises:
        UsageError: not two feature sets of one dimension and at least 2 items, or fewer than 1 subset of 2 items.
    """
    check_feature_pair(real, fake)
    if subsets < 1 or subset_size < 2:
        raise UsageError(
            f"The kernel distance needs at least 1 subset of 2 items, got {subsets} of {subset_size}: raise them."
        )
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


@metric(
    "kd",
    inception="kid",
    inputs=FeaturePair,
    values={"kernel": Value("KD", "lower", inception="KID")},
    definition="Kernel distance (unbiased squared MMD, cubic polynomial kernel, 100 subsets of 1,000) on {extractor} "
    "features of {n} samples and of the {split} split.",
    examples=("kid50k_train", "kd_classifier_cifar10_10k_test"),
)
def kernel_metric(features: FeaturePair) -> Result:
    mean, std = kernel_distance(features.real, features.fake, seed=features.seed)
    return Result({"kernel": mean}, {"kernel": std})
