"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020)."""

import warnings

import torch
from torch import Tensor

from genzoo.errors import UsageError
from genzoo.metrics.checks import check_feature_pair
from genzoo.metrics.inputs import FeaturePair
from genzoo.metrics.registry import Result, Value, metric


def prdc(real: Tensor, fake: Tensor, k: int = 5, chunk: int = 512) -> dict[str, float]:
    """Measures how far each set lies within the balls around the other's items that reach their k-th nearest neighbor.

    Args:
        real: [N, D] floating point, N > k + 1.
        fake: [M, D] floating point, M > k + 1.
        k: neighbors; an item is not its own neighbor.
        chunk: rows of distances in memory at a time, in float64: chunk * max(N, M) * 8 bytes.

    Returns:
        `precision`: share of fake items inside any real ball. `recall`: share of real items inside any fake ball.
        `density`: mean number of real balls around a fake item over k (may exceed 1).
        `coverage`: share of real balls that contain a fake item.
        An item on the border of a ball is outside, as in Naeem et al.'s code: of an item with k copies or more, the
        ball has radius 0 and contains nothing.

    Raises:
        UsageError: not two feature sets of one dimension, or k outside 1 .. min(N, M) - 2.

    Warns when items of one set are equal.
    """
    check_feature_pair(real, fake)
    if not 1 <= k < min(len(real), len(fake)) - 1:
        raise UsageError(
            f"Neighborhoods of k = {k} items need k of 1 or more and {max(k, 1) + 2} items or more on each side, got "
            f"{len(real)} real and {len(fake)} fake items: pass more images."
        )
    real_ids, fake_ids = _ids(real, fake)
    _warn_of_copies(real_ids, "real")
    _warn_of_copies(fake_ids, "fake")
    real_radii, fake_radii = _radii(real, real_ids, k, chunk), _radii(fake, fake_ids, k, chunk)
    balls = torch.zeros(len(fake), dtype=torch.int64, device=real.device)  # real balls around each fake item
    recalled = covered = 0
    for rows, ids, radii in zip(real.split(chunk), real_ids.split(chunk), real_radii.split(chunk), strict=True):
        distances = _distances(rows, fake, ids, fake_ids)
        balls += (distances < radii[:, None]).sum(dim=0)
        recalled += (distances < fake_radii).any(dim=1).sum().item()
        covered += (distances.amin(dim=1) < radii).sum().item()
    return {
        "precision": (balls > 0).double().mean().item(),
        "recall": recalled / len(real),
        "density": balls.double().mean().item() / k,
        "coverage": covered / len(real),
    }


def _radii(x: Tensor, ids: Tensor, k: int, chunk: int) -> Tensor:
    """Distance from each item to its k-th nearest other item: [N, D], [N] -> [N]."""
    parts = zip(x.split(chunk), ids.split(chunk), strict=True)
    return torch.cat([_distances(rows, x, own, ids).kthvalue(k + 1, dim=1).values for rows, own in parts])


def _distances(x: Tensor, y: Tensor, x_ids: Tensor, y_ids: Tensor) -> Tensor:
    """Euclidean, in float64, [N, D] and [M, D] -> [N, M]; 0 for equal items, where products leave rounding errors."""
    return torch.cdist(x.double(), y.double()).masked_fill_(x_ids[:, None] == y_ids, 0)


def _ids(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers items, equal ones alike: two int64, [N] and [M]."""
    ids = torch.cat([real, fake]).unique(dim=0, return_inverse=True)[1]
    return ids[: len(real)], ids[len(real) :]


def _warn_of_copies(ids: Tensor, what: str) -> None:
    copies = len(ids) - len(ids.unique())
    if copies:
        warnings.warn(
            f"Precision, recall, density and coverage of sets with copies: {copies:,} of {len(ids):,} {what} items "
            "equal others, and the balls around these are too small; leave the copies out.",
            stacklevel=3,
        )


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
