"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020)."""

import torch
from torch import Tensor

from genzoo.errors import UsageError
from genzoo.metrics.checks import check_feature_pair
from genzoo.metrics.inputs import FeaturePair
from genzoo.metrics.registry import Result, Value, metric


def prdc(real: Tensor, fake: Tensor, k: int = 5, chunk: int = 512) -> dict[str, float]:
    """Measures how far each set lies within the balls around the other's items that reach their k-th nearest neighbor.

    Args:
        real: [N, D] floating point, N > k.
        fake: [M, D] floating point, M > k.
        k: neighbors; an item is not its own neighbor.
        chunk: rows of distances in memory at a time, in float64: chunk * max(N, M) * 8 bytes.

    Returns:
        `precision`: share of fake items inside any real ball. `recall`: share of real items inside any fake ball.
        `density`: mean number of real balls around a fake item over k (may exceed 1).
        `coverage`: share of real balls that contain a fake item.

    Raises:
        UsageError: not two feature sets of one dimension, or k outside 1 .. min(N, M) - 1.
    """
    check_feature_pair(real, fake)
    if not 1 <= k < min(len(real), len(fake)):
        raise UsageError(
            f"k must be in 1..{min(len(real), len(fake)) - 1} for {len(real)} real and {len(fake)} fake items, got {k}."
        )
    real_radii, fake_radii = _radii(real, k, chunk), _radii(fake, k, chunk)
    balls = torch.zeros(len(fake), dtype=torch.int64, device=real.device)  # real balls around each fake item
    recalled = covered = 0
    for rows, radii in zip(real.split(chunk), real_radii.split(chunk), strict=True):
        distances = _distances(rows, fake)
        balls += (distances < radii[:, None]).sum(dim=0)
        recalled += (distances < fake_radii).any(dim=1).sum().item()
        covered += (distances.amin(dim=1) < radii).sum().item()
    return {
        "precision": (balls > 0).double().mean().item(),
        "recall": recalled / len(real),
        "density": balls.double().mean().item() / k,
        "coverage": covered / len(real),
    }


def _radii(x: Tensor, k: int, chunk: int) -> Tensor:
    """Distance from each item to its k-th nearest other item: [N, D] -> [N]."""
    radii = []
    for start in range(0, len(x), chunk):
        distances = _distances(x[start : start + chunk], x)
        distances.diagonal(start).zero_()  # exactly, so that an item is its own nearest even among copies of it
        radii.append(distances.kthvalue(k + 1, dim=1).values)
    return torch.cat(radii)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x.double(), y.double())


@metric(
    "prdc",
    inception="prdc",
    inputs=FeaturePair,
    values={
        "precision": Value("precision", "higher"),
        "recall": Value("recall", "higher"),
        "density": Value("density", "higher"),
        "coverage": Value("coverage", "higher"),
    },
    definition="Precision, recall, density and coverage (k = 5) on {extractor} features of {n} samples and of the "
    "{split} split.",
    examples=("prdc10k_test", "prdc_classifier_cifar10_10k_test"),
)
def prdc_metric(features: FeaturePair) -> Result:
    return Result(prdc(features.real, features.fake))
