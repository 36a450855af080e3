"""Copies of training images among samples: nearest neighbors in pixels and in the model's own features."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from genzoo.errors import UsageError
from genzoo.metrics.inputs import TrainingSet
from genzoo.metrics.registry import Result, Value, metric

POOLED = 32  # largest side in pixels at which images are compared
NEIGHBORS = 50  # whose mean distance is what the nearest one's is measured in; at most half of the training images
FEWEST = 20  # training images
SAME = 0.01  # closeness up to which two images are the same but for rounding
RARE = 0.01  # share of held-out images that count as copies, by definition
LEAST = 0.05  # share of samples that is worth a warning, however many held-out images there are


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
    like held-out items, 1 for copies. Held-out items that are training items set no threshold.
    """
    others = heldout[heldout > SAME]
    threshold = others.quantile(RARE) if len(others) else heldout.new_tensor(SAME)
    return (samples < threshold).double().mean().item()


def chance(heldout: int) -> float:
    """The share of copies among fresh samples that so many held-out images, which the threshold is taken from, lead to
    with a probability of 1 % at most; rounded up to whole percents.

    The share of all images below the j-th smallest of M is distributed as the j-th order statistic of M uniform draws.
    """
    below = int(RARE * (heldout - 1)) + 2  # the quantile lies at or below this one

    def exceeds(share: float) -> float:
        return sum(math.comb(heldout, i) * share**i * (1 - share) ** (heldout - i) for i in range(below))

    return next((percent / 100 for percent in range(1, 100) if exceeds(percent / 100) <= RARE), 1.0)


@dataclass(frozen=True)
class Neighbors:
    """The training images that are nearest to each of N images."""

    distances: Tensor  # [N, k], ascending
    numbers: Tensor  # [N, k], int64

    @property
    def closeness(self) -> Tensor:
        return closeness(self.distances)


@dataclass(frozen=True)
class Space:
    """Samples and held-out images beside training images, in pixels or in features."""

    samples: Neighbors
    heldout: Neighbors

    @property
    def share(self) -> float:
        """Of copies, by `copied_share`."""
        return copied_share(self.samples.closeness, self.heldout.closeness)

    @property
    def duplicates(self) -> int:
        """Held-out images that are training images, too."""
        return int((self.heldout.closeness <= SAME).sum())

    @property
    def ratio(self) -> float:
        """Median distance of samples to the nearest training image, over that of held-out images."""
        samples, heldout = (found.distances[:, 0].median() for found in (self.samples, self.heldout))
        return (samples / heldout.clamp(min=1e-12)).item()


@dataclass(frozen=True)
class Comparison:
    """Samples and held-out images beside all training images."""

    samples: Tensor  # [N, C, H, W]
    heldout: Tensor  # [M, C, H, W]
    size: int  # training images
    take: Callable[[Tensor], Tensor]  # their numbers [m] -> training images [m, C, H, W]
    spaces: Mapping[str, Space]  # `pixels`, and `features` where the model encodes

    @property
    def duplicates(self) -> int:
        """Held-out images that are training images, too: they tell nothing."""
        return max(space.duplicates for space in self.spaces.values())

    @property
    def allowed(self) -> float:
        """The largest share of copies that is no reason to warn."""
        return max(LEAST, chance(len(self.heldout) - self.duplicates))

    @property
    def alarming(self) -> bool:
        """Whether more samples are copies than chance explains, in any space."""
        return any(space.share > self.allowed for space in self.spaces.values())

    def result(self) -> Result:
        shares = {name: space.share for name, space in self.spaces.items()}
        ratios = {f"{name}_distance": space.ratio for name, space in self.spaces.items()}
        n = len(self.heldout)
        details = {"n_real": self.size, "n_heldout": n, "chance": chance(n - self.duplicates)}
        if self.duplicates:
            details["n_heldout_in_training"] = self.duplicates
        return Result(shares | ratios, details=details)


def compare(images: TrainingSet) -> Comparison:
    """Finds the training images that are nearest to samples and to held-out images.

    Raises:
        UsageError: too few training images.
    """
    if images.size < FEWEST:
        raise UsageError(
            f"The copy check needs {FEWEST} training images or more, and there are {images.size}: choose larger data."
        )
    samples, heldout = torch.cat(list(images.generate(images.n))), torch.cat(list(images.heldout(images.n)))
    spaces = {"pixels": pixels} | ({} if images.encode is None else {"features": images.encode})
    found, both = {}, torch.cat([samples, heldout])
    for name, space in spaces.items():
        queries = torch.cat([space(part) for part in both.split(100)])
        distances, numbers = nearest(queries, map(space, images.all()), min(NEIGHBORS, images.size // 2))
        sides = (tensor.split([len(samples), len(heldout)]) for tensor in (distances, numbers))
        found[name] = Space(*map(Neighbors, *sides))
    return Comparison(samples, heldout, images.size, images.take, found)


@metric(
    "copies",
    inputs=TrainingSet,
    values={
        "pixels": Value("copies, pixels", "lower"),
        "features": Value("copies, features", "lower"),
        "pixels_distance": Value("distance to training, pixels"),
        "features_distance": Value("distance to training, features"),
    },
    definition="Share of {n} samples that lie nearer to one training image, relative to its 50 nearest (at most half "
    "of all), than 1 % of {n} held-out images do (0.01 = as held-out images): in pixels, and in posterior means where "
    "the model encodes. Distances are medians to the nearest training image, over those of held-out images.",
    examples=("copies1k_train",),
)
def copies_metric(images: TrainingSet) -> Result:
    return compare(images).result()
