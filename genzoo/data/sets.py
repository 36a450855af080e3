"""What a trainer sees of a dataset: a finite set of images, points or vectors, or an endless stream of points."""

import mmap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Generator, Tensor

from genzoo.data.found import Found
from genzoo.data.labels import Labels, find_classes, select
from genzoo.data.sources import numbers
from genzoo.errors import UsageError
from genzoo.items import Items


@runtime_checkable
class FiniteSet(Protocol):
    """Images, points or vectors, neither augmented nor shuffled. A torch DataLoader can wrap one."""

    name: str
    shape: tuple[int, ...]  # (C, H, W) or (D,)
    size: int  # items
    fingerprint: str  # changes with the content, and with the settings that decide the pixels
    skipped: tuple[str, ...]  # unreadable items that were left out, named
    cached: bool  # False: every batch decodes its images, and loader processes are worth their start

    @property
    def is_image(self) -> bool: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...

    def batch(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """Gathers items into new memory: images uint8 [n, C, H, W] in [0, 255], channels last; else float32 [n, D]."""
        ...

    def labels(self) -> Mapping[str, np.ndarray]:
        """Reads labels [size] by name, int64 class numbers or float factors; empty where there are none.

        Decodes no image.
        """
        ...

    def classes(self, name: str) -> tuple[str, ...]:
        """Names the classes of a label, by class number. Raises UsageError where there are none of that name."""
        ...


@runtime_checkable
class EndlessSet(Protocol):
    """A distribution of points that can be drawn from without end."""

    name: str
    shape: tuple[int, ...]  # (D,)
    size: None
    fingerprint: str
    cached: bool  # True: a draw costs next to nothing

    @property
    def is_image(self) -> bool: ...

    def draw(self, n: int, generator: Generator) -> Tensor:
        """Draws n points, float32 [n, D]; all randomness comes from the generator."""
        ...

    def labels(self) -> Mapping[str, np.ndarray]:
        """Returns no labels."""
        ...

    def classes(self, name: str) -> tuple[str, ...]:
        """Raises UsageError: an endless set has no classes."""
        ...


Dataset = FiniteSet | EndlessSet


def facts(dataset: Dataset) -> Found:
    """Returns what was found where a dataset is; of one that was made elsewhere, its size."""
    found = getattr(dataset, "found", None)
    return Found(items=dataset.size) if found is None else found()


def some(dataset: Dataset, n: int, generator: Generator, labels: str | None = None) -> Items:
    """Takes n items to look at: a seeded choice of a finite set, a draw of an endless one.

    Of a finite set with fewer items it takes all, shuffled.

    Args:
        labels: the name of the labels that the items shall have; None = without.

    Raises:
        UsageError: the dataset has no such labels.
    """
    numbers = None if labels is None else class_numbers(dataset, labels)
    if isinstance(dataset, EndlessSet):
        return Items(dataset.draw(n, generator))
    chosen = torch.randperm(dataset.size, generator=generator)[:n].numpy()
    return Items(dataset.batch(chosen), None if numbers is None else torch.from_numpy(numbers[chosen]))


def class_numbers(dataset: Dataset, name: str) -> np.ndarray:
    """Reads the class number of every item, int64 [size].

    Raises:
        UsageError: the dataset has no such classes, or some of its items have none.
    """
    n_classes = len(dataset.classes(name))
    numbers = np.asarray(dataset.labels()[name], np.int64)
    without = int(((numbers < 0) | (numbers >= n_classes)).sum())
    if without:
        raise UsageError(
            f"{without:,} items of {dataset.name} have a {name} that is not one of its {n_classes} classes: "
            "leave them out of the data, or choose a data.split in which all are labeled."
        )
    return numbers


class Finite:
    """What the finite sets here share: items one by one, and labels that are read when they are asked for."""

    name: str
    shape: tuple[int, ...]
    size: int
    read_labels: Callable[[], Labels]
    read_found: Callable[[], Found]

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int, /) -> Tensor:
        return self.batch([index])[0]

    def batch(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        raise NotImplementedError

    def labels(self) -> dict[str, np.ndarray]:
        return {name: label.values for name, label in self.read_labels().items()}

    def classes(self, name: str) -> tuple[str, ...]:
        return find_classes(self.read_labels(), name, self.name)

    def found(self) -> Found:
        """What it consists of, and what was left out; reads the headers of some images."""
        return self.read_found()


class ArraySet(Finite):
    """Items in one array, in memory or mapped into it.

    Args:
        array: decoded images [n, H, W, C], uint8 in [0, 255], or vectors [n, D], float32.
        read_labels: gives the labels of the n items when they are asked for; by default there are none.
        read_found: gives the facts when they are asked for; by default there are none but the size.
    """

    cached = True

    def __init__(
        self,
        name: str,
        fingerprint: str,
        array: np.ndarray,
        read_labels: Callable[[], Labels] = dict,
        skipped: tuple[str, ...] = (),
        read_found: Callable[[], Found] | None = None,
    ) -> None:
        self.name, self.fingerprint, self.skipped = name, fingerprint, skipped
        self.size, *sides = array.shape
        self.shape = (sides[-1], *sides[:-1])
        self.read_labels, self._array = read_labels, array
        self.read_found = read_found or partial(Found, items=self.size)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(self._array)[np.asarray(indices)]).movedim(-1, 1)

    def part(self, chosen: range | np.ndarray) -> "ArraySet":
        """Takes some items by their numbers."""
        array = self._array[chosen.start : chosen.stop] if isinstance(chosen, range) else self._array[chosen]
        return ArraySet(
            self.name, f"{self.fingerprint}{numbers(chosen)}", array, partial(select, self.read_labels, chosen)
        )


def refuse_cut(array: np.ndarray, what: str, fix: str) -> None:
    """Refuses an array that is mapped from a file which has been cut since it was opened.

    Reading a mapped page that is no longer in the file would kill the process without a word.

    Args:
        array: or a view of one; what was sent to another process is mapped no more.
        what: it is, in the plural.
        fix: what helps.

    Raises:
        UsageError: the file was cut.
    """
    mapped: object = array
    while isinstance(mapped, np.ndarray):
        mapped = mapped.base
    if isinstance(mapped, mmap.mmap) and mapped.size() < len(mapped):
        raise UsageError(f"{what} were cut to {mapped.size():,} of {len(mapped):,} bytes while they were read: {fix}.")


class MappedSet(ArraySet):
    """Images that are mapped from a file of the cache.

    Args:
        digest: of the pixels.
    """

    def __init__(self, *args: Any, digest: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.digest = digest

    def batch(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        what = f"the decoded images of {self.name}"
        refuse_cut(self._array, what, "start the command again, and they are rebuilt")
        return super().batch(indices)
