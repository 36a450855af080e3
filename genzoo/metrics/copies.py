"""Copies of training images among samples: nearest neighbors in pixels and in the model's own features."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from genzoo.errors import UsageError
from genzoo.metrics.inputs import TrainingSet
from genzoo.metrics.registry import Result, Value, metric

POOLED = 32  # largest side in pixels at which images are compared
NEIGHBORS = 50  # whose mean distance is what the nearest one's is measured in
RARE = 0.01  # share of held-out images that count as copies, by definition


def pixels(x: Tensor) -> Tensor:
    """Flattens images [N, C, H, W], average-pooled to at most 32x32: [N, D]."""
    return adaptive_avg_pool2d(x, (min(x.shape[2], POOLED), min(x.shape[3], POOLED))).flatten(1).float()


def nearest(queries: Tensor, items: Iterable[Tensor], k: int) -> tuple[Tensor, Tensor]:
    """Finds the k nearest of many items to each query, by Euclidean distance.

    Args:
        queries: [N, D].
        items: batches [n, D], at least k items in all.
        k: how many.

    Returns:
        Distances [N, k], ascending, and the items' numbers, int64 [N, k].
    """
    distances = queries.new_empty(len(queries), 0)
    numbers = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    start = 0
    for batch in items:
        new = torch.arange(start, start + len(batch), device=queries.device).expand(len(queries), -1)
        distances, order = torch.cat([distances, torch.cdist(queries, batch)], 1).sort(dim=1)
        distances, order = distances[:, :k], order[:, :k]
        numbers = torch.cat([numbers, new], 1).gather(1, order)
        start += len(batch)
    return distances, numbers


def closeness(distances: Tensor) -> Tensor:
    """Distance of the nearest item over the mean of the nearest k, [N, k] -> [N] in [0, 1]: 0 for a copy, near 1 for
    what is no nearer to one item than to others, as a blurred image is, which is near to all (Carlini et al. 2023,
    Section 4.2, for the adaptive threshold).
    """
    return distances[:, 0] / distances.mean(dim=1).clamp(min=1e-12)


def copied_share(samples: Tensor, heldout: Tensor) -> float:
    """Share of samples whose `closeness` is below that of 99 in 100 held-out items, [N] and [M]: 0.01 where samples are
    like held-out items, 1 for copies.
    """
    return (samples < heldout.quantile(RARE)).double().mean().item()


@metric(
    "copies",
    inputs=TrainingSet,
    values={
        "pixels": Value("copies, pixels", "lower"),
        "features": Value("copies, features", "lower"),
    },
    definition="Share of {n} samples that lie nearer to one training image, relative to its 50 nearest, than 1 % of "
    "{n} held-out images do (0.01 = as held-out images): in pixels, and in posterior means where the model encodes.",
    examples=("copies1k_train",),
)
def copies_metric(images: TrainingSet) -> Result:
    if images.size < 2 * NEIGHBORS:
        raise UsageError(
            f"The copy check needs {2 * NEIGHBORS} training images or more, and there are {images.size}: "
            "choose larger data."
        )
    samples, heldout = torch.cat(list(images.generate(images.n))), torch.cat(list(images.heldout(images.n)))
    spaces = {"pixels": pixels} | ({} if images.encode is None else {"features": images.encode})
    both = torch.cat([samples, heldout])
    queries = {name: torch.cat([space(part) for part in both.split(100)]) for name, space in spaces.items()}
    values = {}
    for name, space in spaces.items():
        distances, _ = nearest(queries[name], map(space, images.all()), NEIGHBORS)
        values[name] = copied_share(*closeness(distances).split([len(samples), len(heldout)]))
    return Result(values, details={"n_real": images.size, "n_heldout": len(heldout)})
