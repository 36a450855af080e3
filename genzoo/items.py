"""A batch of data on its way from a dataset to an objective."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Items:
    """Items of a dataset and, where a run asks for them (`data.labels`), their labels."""

    x: Tensor  # [N, C, H, W], uint8 in [0, 255] or float in [0, 1]; or [N, D] float
    labels: Tensor | None = None  # [N] int64, class numbers

    def __len__(self) -> int:
        return len(self.x)

    def split(self, size: int) -> Iterator["Items"]:
        """Yields consecutive parts of `size` items, the last one possibly smaller."""
        for start in range(0, len(self), size):
            labels = None if self.labels is None else self.labels[start : start + size]
            yield Items(self.x[start : start + size], labels)

    def pin_memory(self) -> "Items":
        """Copies to page-locked memory; torch's DataLoader calls this."""
        return Items(self.x.pin_memory(), None if self.labels is None else self.labels.pin_memory())
