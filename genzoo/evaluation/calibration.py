"""Confidence that means what it says: temperature scaling (Guo, Pleiss, Sun & Weinberger 2017, section 4.2)."""

import math

import torch
from torch import Tensor

BINS = 15  # of confidence, as in Guo et al.'s tables
RANGE = (1e-3, 1e3)  # in which temperatures are searched


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """Finds T > 0 that minimizes the mean negative log-likelihood of softmax(logits / T).

    Targets are smoothed by 1 / (n + 2), as in Platt scaling (Platt 1999, section 2.2): without it, T would be 0 where
    all items are classified correctly. The loss is convex in 1 / T, and its derivative is bisected.

    Args:
        logits: [n, classes] of items that the network was not trained on.
        targets: class numbers, int64 [n].
    """
    z, smoothing = logits.double(), 1 / (len(logits) + 2)
    right = z.gather(1, targets[:, None])[:, 0]
    wanted = ((1 - smoothing) * right + smoothing * z.mean(dim=1)).mean()
    low, high = (math.log(bound) for bound in RANGE)  # of 1 / T
    for _ in range(60):
        middle = (low + high) / 2
        expected = ((math.exp(middle) * z).softmax(dim=1) * z).sum(dim=1).mean()
        low, high = (middle, high) if expected < wanted else (low, middle)
    return math.exp(-low)


def calibration_error(probabilities: Tensor, targets: Tensor) -> float:
    """Expected calibration error in [0, 1] (Guo et al. 2017, equation 3), over 15 equal bins of confidence.

    Args:
        probabilities: [n, classes].
        targets: class numbers, int64 [n].
    """
    confidence, named = probabilities.double().max(dim=1)
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gaps = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, (named == targets).double() - confidence)
    return gaps.abs().sum().item() / len(targets)
