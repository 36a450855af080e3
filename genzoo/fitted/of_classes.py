"""What a mixture does with labels: each of its components is of one class, and begins with items of that class only."""

import torch
from torch import Tensor

from genzoo.fitted.em import kmeans


def classes_to_fit(labels: Tensor | None, components: int | None, least: int) -> tuple[Tensor | None, int]:
    """Returns labels, int64 [N], and how many classes they have; None and 0 where a mixture cannot tell them apart.

    Args:
        labels: class numbers from 0 on.
        components: that the mixture is to have; None = as many as it likes.
        least: items that each class needs.
    """
    if labels is None or not len(labels):
        return None, 0
    counts = labels.bincount()
    if int(counts.min()) < least or (components is not None and components < len(counts)):
        return None, 0
    return labels, len(counts)


def started(
    x: Tensor, k: int, rng: torch.Generator, labels: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Clusters [N, P] by `kmeans`, with labels each class for itself.

    Returns:
        Shares, [N, k]; with labels, the class of each cluster, int64 [k] on the CPU, and which clusters an item may
        belong to, bool [N, k].
    """
    if labels is None:
        return kmeans(x, k, rng), None, None
    numbers = shared_out(k, labels.bincount())
    classes = torch.arange(len(numbers)).repeat_interleave(numbers)
    allowed = (labels[:, None] == classes).to(x.device)
    shares = torch.zeros(allowed.shape, dtype=x.dtype, device=x.device)
    for label, number in enumerate(numbers.tolist()):
        shares[allowed & (classes == label).to(x.device)] = kmeans(x[labels == label], number, rng).flatten()
    return shares, classes, allowed


def shared_out(k: int, counts: Tensor) -> Tensor:
    """Shares k clusters out to classes in proportion to their items, at least one each: int64 [classes] -> the same."""
    ideal = k * counts / counts.sum()
    numbers = ideal.long().clamp(min=1)
    while (missing := k - int(numbers.sum())) > 0:
        numbers[(ideal - numbers).topk(min(missing, len(numbers))).indices] += 1
    while int(numbers.sum()) > k:
        numbers[(numbers - ideal).masked_fill(numbers == 1, -k).argmax()] -= 1
    return numbers
