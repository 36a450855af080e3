"""How well a score separates two sets of items: AUROC, AUPR and FPR95, with bootstrap intervals.

Items of the second set, `outside`, are to be detected: they count as positive, and a larger score as more suspicious.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from genzoo.errors import UsageError
from genzoo.noise import generator

RESAMPLES, LEVEL = 1000, 0.95  # of the bootstrap
CHUNK = 50  # resamples that are evaluated at once
DETECTED = 0.95  # share of the outside items at which FPR95 is taken


@dataclass(frozen=True)
class Detection:
    """Three measures by name: `auroc`, `aupr` and `fpr95`, all in [0, 1].

    `auroc` is the probability that an item from outside has the larger score, ties counted half (Hanley & McNeil 1982);
    0.5 by chance, and below it where the order is reversed. `aupr` is the average precision, by chance the share of
    items from outside. `fpr95` is the share of items from inside that are flagged by the largest threshold that flags
    95 % of those from outside; lower is better.
    """

    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]  # percentiles of the bootstrap that enclose `LEVEL` of its resamples


def detection(inside: Tensor, outside: Tensor, seed: int = 0, resamples: int = RESAMPLES) -> Detection:
    """Measures how well scores separate two sets, [N] and [M].

    The bootstrap draws items of each set with replacement (Efron & Tibshirani 1993, section 13.3).

    Raises:
        UsageError: a set is empty, or a score is not finite.
    """
    for scores in (inside, outside):
        if not len(scores) or not scores.isfinite().all():
            raise UsageError("Scores of both sets must be finite numbers, at least one of each: check the model.")
    steps = _Steps(inside.double().cpu(), outside.double().cpu())
    once = steps.measures(torch.ones(1, len(inside)), torch.ones(1, len(outside)))
    rng = generator(seed, "bootstrap")
    sizes = (min(CHUNK, resamples - start) for start in range(0, resamples, CHUNK))
    parts = [steps.measures(_counts(n, len(inside), rng), _counts(n, len(outside), rng)) for n in sizes]
    bounds = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    intervals = {name: torch.cat([part[name] for part in parts]).quantile(bounds).tolist() for name in once}
    return Detection(
        {name: value.item() for name, value in once.items()},
        {name: (low, high) for name, (low, high) in intervals.items()},
    )


def _counts(n: int, size: int, rng: torch.Generator) -> Tensor:
    """How often each item is drawn, in n resamples: [n, size]."""
    drawn = torch.randint(size, (n, size), generator=rng)
    return torch.zeros(n, size).scatter_add_(1, drawn, torch.ones(n, size))


class _Steps:
    """Thresholds from the largest score to the smallest, and the items that each adds to those that are flagged."""

    def __init__(self, inside: Tensor, outside: Tensor):
        _, places = torch.cat([-inside, -outside]).unique(sorted=True, return_inverse=True)
        self._inside, self._outside = places[: len(inside)], places[len(inside) :]
        self._thresholds = int(places.max()) + 1

    def measures(self, inside: Tensor, outside: Tensor) -> dict[str, Tensor]:
        """Measures [B] of B resamples, whose counts of each item are [B, N] and [B, M]."""
        wrong, right = self._flagged(inside, self._inside), self._flagged(outside, self._outside)
        false, true = wrong / wrong[:, -1:], right / right[:, -1:]
        flagged, gained = _gains(false), _gains(true)
        precision = right / (wrong + right).clamp(min=1)  # 0 / 0 where no item of a resample is above a threshold
        enough = (right >= DETECTED * right[:, -1:] - 1e-9).double().argmax(dim=1, keepdim=True)
        return {
            "auroc": (flagged * (true - gained / 2)).sum(dim=1),
            "aupr": (gained * precision).sum(dim=1),
            "fpr95": false.gather(1, enough)[:, 0],
        }

    def _flagged(self, counts: Tensor, places: Tensor) -> Tensor:
        """Number of items at or above each threshold: [B, thresholds]."""
        per_step = torch.zeros(len(counts), self._thresholds, dtype=torch.float64)
        return per_step.index_add_(1, places, counts.double()).cumsum(dim=1)


def _gains(shares: Tensor) -> Tensor:
    """What each threshold adds to a cumulative share: [B, thresholds]."""
    return shares.diff(dim=1, prepend=shares.new_zeros(len(shares), 1))
