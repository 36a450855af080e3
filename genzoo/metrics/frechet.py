"""The Fréchet distance of Gaussians fitted to features (Heusel et al. 2017, Eq. 6); "FID" means Inception features."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from genzoo.errors import UsageError
from genzoo.metrics.checks import check_features
from genzoo.metrics.inputs import FeatureMoments
from genzoo.metrics.registry import Result, Value, metric

CHUNK = 4096  # rows taken to float64 at a time


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and covariance of a set of features."""

    mean: Tensor  # [D] float64, on the CPU
    cov: Tensor  # [D, D] float64, unbiased (divided by n - 1)
    n: int  # items
    extractor: str  # its name, the hash of its weights and its resize: statistics of two extractors are never compared


def statistics(features: Tensor | Iterable[Tensor], extractor: str = "") -> Statistics:
    """Computes mean and unbiased covariance in float64, in one pass.

    Parts are merged without cancellation (Chan, Golub & LeVeque 1979).

    Args:
        features: [N, D] floating point, N >= 2; or batches [n, D] of it, which need not fit in memory together.
        extractor: what made the features.

    Raises:
        UsageError: fewer than 2 items, batches of different dimensions, or values that are not finite.
    """
    n, mean, scatter = 0, torch.zeros(0), torch.zeros(0)
    for batch in [features] if isinstance(features, Tensor) else features:
        check_features(batch, at_least=0)
        if n and batch.shape[1] != len(mean):
            raise UsageError(
                f"A batch has {batch.shape[1]} dimensions after batches of {len(mean)}: extract all with one extractor."
            )
        for rows in batch.split(CHUNK):
            n, mean, scatter = _merge(
                n, mean, scatter, rows.cpu().double() if rows.device.type == "mps" else rows.double()
            )
    if n < 2:
        raise UsageError(f"A covariance needs at least 2 items, got {n}: pass more images.")
    return Statistics(mean.cpu(), (scatter / (n - 1)).cpu(), n, extractor)


def _merge(n: int, mean: Tensor, scatter: Tensor, rows: Tensor) -> tuple[int, Tensor, Tensor]:
    """Adds `rows` [m, D] to count, mean [D] and scatter [D, D] = sum of (x - mean)(x - mean)^T."""
    m = len(rows)
    if not m:
        return n, mean, scatter
    own = rows.mean(dim=0)
    centered = rows - own
    if not n:
        return m, own, centered.T @ centered
    shift = own - mean
    return (
        n + m,
        mean + shift * (m / (n + m)),
        scatter + centered.T @ centered + torch.outer(shift, shift) * (n * m / (n + m)),
    )


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """|mean_a - mean_b|^2 + tr(cov_a) + tr(cov_b) - 2 tr((cov_a^1/2 cov_b cov_a^1/2)^1/2), in squared feature units.

    The product under the root is similar to a symmetric matrix in the eigenvectors of cov_a, so that two symmetric
    eigenproblems suffice and nothing becomes complex. Takes D^3 time: seconds at 2048 dimensions.

    Raises:
        UsageError: the statistics come from different extractors or have different dimensions.

    Warns when either set has fewer than 2 D items.
    """
    if a.extractor != b.extractor:
        raise UsageError(
            f"Statistics of two extractors cannot be compared, got {a.extractor!r} and {b.extractor!r}: "
            "extract both with one."
        )
    dims = len(a.mean)
    if dims != len(b.mean):
        raise UsageError(f"Statistics have {dims} and {len(b.mean)} dimensions: extract both with one extractor.")
    if min(a.n, b.n) < 2 * dims:
        warnings.warn(
            f"Fréchet distance of {min(a.n, b.n)} items in {dims} dimensions: the covariance estimate is poor; "
            f"use at least {2 * dims} images.",
            stacklevel=2,
        )
    if b.n < a.n:
        a, b = b, a  # the root is taken of the covariance of lower rank
    values, vectors = torch.linalg.eigh(a.cov)
    # The other eigenvalues are rounding errors, whose root would not be small.
    kept = values > values[-1] * dims * torch.finfo(values.dtype).eps
    root = vectors[:, kept] * values[kept].sqrt()
    cross = torch.linalg.eigvalsh(root.T @ b.cov @ root).clamp(min=0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace() - 2 * cross
    return max(distance.item(), 0.0)  # equal sets may come out at minus the rounding error


@metric(
    "fd",
    inception="fid",
    inputs=FeatureMoments,
    values={"frechet": Value("FD", "lower", inception="FID")},
    definition="Fréchet distance between Gaussians fitted to {extractor} features of {n} samples and of the {split} "
    "split (as many images, or all if it has fewer).",
    examples=(
        "fid50k_train",
        "fid10k_test",
        "fd_classifier_cifar10_10k_test",
        "fd_classifier_cifar10_10k_test_gmm",
        "fd_timm_resnet18_10k_test",
    ),
)
def frechet_metric(features: FeatureMoments) -> Result:
    real = features.known or statistics(features.real, features.extractor)
    return Result({"frechet": frechet_distance(real, statistics(features.fake, features.extractor))})
