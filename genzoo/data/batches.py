"""Which items a step sees: a pure function of (seed, step), whatever the number of processes, workers or restarts."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from genzoo.data.sets import Dataset, EndlessSet, FiniteSet, class_numbers
from genzoo.data.workers import Answers, results, whole, worker_options
from genzoo.items import Items
from genzoo.launcher import launcher_number
from genzoo.noise import generator

RESIDENT_SHARE = 8  # the dataset may take one part in so many of a device's free memory
CHUNK_BYTES = 64 * 1024**2  # copied to the device at a time

Parts = tuple[Items, ...]  # the real batches of one step


def own_seed(seed: int, step: int) -> int:
    """Returns the run's seed: the default of `seed_of`."""
    return seed


class Batches(TorchDataset[Parts]):
    """Item `step` holds the real batches of that step: items `start:stop` of each of its `parts` global batches.

    Epochs are permutations of the dataset, laid end to end; a batch may span two of them. A step takes `parts * batch`
    consecutive items, which are cut into the parts. Endless datasets are drawn from in each step. A step to which
    `seed_of` gives another seed than the run's has items chosen at random from the dataset instead, and so has
    every position whose item is `left_out`.

    Args:
        seed: the run's.
        batch: items in a global batch.
        start: first item of this process within a global batch.
        stop: one past its last item.
        mirror: flip half of the images left to right.
        labels: name of the class labels that the items carry; None = without.
        parts: real batches that one step takes, 1 + the objective's `fresh`.
        seed_of: (run's seed, step) -> seed of the step.
        left_out: items of a finite dataset that are never shown.

    Raises:
        UsageError: the dataset has no such labels.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        seed: int,
        batch: int,
        start: int,
        stop: int,
        mirror: bool,
        labels: str | None = None,
        parts: int = 1,
        seed_of: Callable[[int, int], int] = own_seed,
        left_out: Sequence[int] = (),
    ) -> None:
        self.dataset, self.seed, self.batch, self.slice = dataset, seed, batch, slice(start, stop)
        self.mirror, self.parts, self.seed_of, self.left_out = mirror and dataset.is_image, parts, seed_of, left_out
        self.labels = None if labels is None else torch.from_numpy(class_numbers(dataset, labels))  # int64 [size]
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def indices(self, step: int, part: int = 0) -> np.ndarray:
        """Returns the indices in a finite dataset of one of a step's global batches, int64 [batch]."""
        size, seed = self.dataset.size, self.seed_of(self.seed, step)
        assert size is not None
        if seed != self.seed:
            return self._chosen_at_random(self.batch, size, generator(seed, stream("redrawn", part), step))
        first = (step * self.parts + part) * self.batch
        positions = np.arange(first, first + self.batch)
        indices = np.empty(self.batch, np.int64)
        for epoch in np.unique(positions // size).tolist():
            here = positions // size == epoch
            indices[here] = self._permutation(epoch, size)[positions[here] % size]
        if (bad := np.isin(indices, self.left_out)).any():
            instead = generator(seed, stream("instead", part), step)
            indices[bad] = self._chosen_at_random(int(bad.sum()), size, instead)
        return indices

    def __getitem__(self, step: int) -> Parts:
        return tuple(self._part(step, part) for part in range(self.parts))

    def _part(self, step: int, part: int) -> Items:
        if self.dataset.size is None:
            rng = generator(self.seed_of(self.seed, step), stream("data", part), step)
            return Items(self.dataset.draw(self.batch, rng)[self.slice])
        indices = self.indices(step, part)[self.slice]
        x = self.dataset.batch(indices)
        if self.mirror:
            mirror(x, self.mirrored(step, part))
        return Items(x, None if self.labels is None else self.labels[torch.from_numpy(indices)])

    def mirrored(self, step: int, part: int = 0) -> Tensor:
        """Returns which of this process's images a step sees mirrored, bool [stop - start]."""
        return torch.rand(self.batch, generator=generator(self.seed, stream("mirror", part), step))[self.slice] < 0.5

    def _chosen_at_random(self, n: int, size: int, rng: torch.Generator) -> np.ndarray:
        allowed = np.setdiff1d(np.arange(size), self.left_out)
        return allowed[torch.randint(len(allowed), (n,), generator=rng).numpy()]

    def _permutation(self, epoch: int, size: int) -> np.ndarray:
        if epoch != self._epoch:
            order = torch.randperm(size, generator=generator(self.seed, "order", epoch)).numpy()
            self._epoch, self._order = epoch, order
        return self._order


def stream(name: str, part: int) -> str:
    """Names the random stream of one of a step's real batches; the first has the stream of a step with only one."""
    return f"{name}/{part}" if part else name


def mirror(images: Tensor, chosen: Tensor) -> None:
    """Mirrors images [n, C, H, W], in place, where `chosen` [n] is True."""
    pixels = images.permute(0, 2, 3, 1).numpy()  # numpy copies image by image, torch's indexing value by value
    which = chosen.numpy()
    pixels[which] = torch.from_numpy(pixels[which]).permute(0, 3, 1, 2).flip(-1).permute(0, 2, 3, 1).numpy()


class Resident:
    """A finite dataset in the device's memory, where `Batches` are gathered and mirrored, bit for bit as on the CPU.

    Only the indices and the choice of mirrored images are drawn on the CPU, so a run may resume with or without it.

    Args:
        dataset: read once, in chunks of `CHUNK_BYTES`, so that a memory-mapped one needs no more of the CPU's memory.
    """

    def __init__(self, dataset: FiniteSet, device: torch.device) -> None:
        one = dataset.batch([0]).movedim(1, -1)  # [1, H, W, C], as in the cache, or [1, D]
        self._items = torch.empty((dataset.size, *one.shape[1:]), dtype=one.dtype, device=device)
        step = max(1, CHUNK_BYTES // one.nbytes)
        for start in range(0, dataset.size, step):
            chunk = dataset.batch(range(start, min(start + step, dataset.size)))
            self._items[start : start + len(chunk)].copy_(chunk.movedim(1, -1))

    def load(self, batches: Batches, first: int, end: int) -> Iterator[Parts]:
        """Yields what `load` does, on the device."""
        labels = None if batches.labels is None else batches.labels.to(self._items.device)
        for step in range(first, end):
            yield tuple(self._gather(batches, step, part, labels) for part in range(batches.parts))

    def _gather(self, batches: Batches, step: int, part: int, labels: Tensor | None) -> Items:
        indices = self._copied(torch.from_numpy(batches.indices(step, part)[batches.slice]))
        x = self._items[indices]
        if batches.mirror:
            mirrored = self._copied(batches.mirrored(step, part))[:, None, None, None]
            x = torch.where(mirrored, x.flip(2), x)
        return Items(x.movedim(-1, 1), None if labels is None else labels[indices])

    def _copied(self, drawn: Tensor) -> Tensor:
        """Copies to the device without waiting for it: from pinned memory, which only CUDA has."""
        device = self._items.device
        return (drawn.pin_memory() if device.type == "cuda" else drawn).to(device, non_blocking=True)


def make_resident(dataset: Dataset, device: torch.device, report: Callable[[str], None]) -> Resident | None:
    """Copies a decoded finite dataset that `fits_in_memory` of a GPU to there and reports it; else returns None."""
    if device.type != "cuda" or not dataset.cached or isinstance(dataset, EndlessSet):
        return None
    nbytes = dataset.size * dataset.batch([0]).nbytes
    if not fits_in_memory(nbytes, torch.cuda.mem_get_info(device)[0]):
        return None
    report(
        f"All {dataset.size:,} items ({nbytes / 1e9:.2g} GB) are kept in the GPU's memory; "
        "train.workers=0 keeps them outside."
    )
    return Resident(dataset, device)


def fits_in_memory(nbytes: int, free: int) -> bool:
    """Whether a device with `free` bytes may hold a dataset of `nbytes`: networks and steps need most of the memory."""
    return nbytes * RESIDENT_SHARE <= free


def useful_workers(dataset: Dataset) -> int:
    """Returns how many loader processes pay: none for cached images, else this process's share of cores less one."""
    if dataset.cached or sys.platform != "linux":  # only Linux forks: elsewhere a script would need a __main__ guard
        return 0
    return max(0, len(os.sched_getaffinity(0)) // launcher_number("LOCAL_WORLD_SIZE") - 1)


def load(batches: Batches, first: int, end: int, workers: int | None) -> Iterator[Parts]:
    """Yields the real batches of steps first..end-1, `batches.parts` of them a step.

    Args:
        workers: processes that prefetch; None = `useful_workers`.

    Raises:
        UsageError: an item cannot be read.
        RunStopped: a process that prefetches was killed.
    """
    loader = DataLoader(
        Answers(batches),
        batch_size=None,
        sampler=range(first, end),
        collate_fn=whole,  # the default would look for numpy arrays in it
        pin_memory=torch.cuda.is_available(),
        **worker_options(useful_workers(batches.dataset) if workers is None else workers),
    )
    return map(tuple, results(loader))  # pinning memory makes lists of tuples in some versions of torch


def as_real(items: Items, device: torch.device) -> Items:
    """Moves a batch to the device: `x` as `to_float` does, and its labels."""
    labels = items.labels if items.labels is None else items.labels.to(device, non_blocking=True)
    return Items(to_float(items.x, device), labels)


def to_float(x: Tensor, device: torch.device) -> Tensor:
    """Moves data to the device; uint8 pixels [n, C, H, W] become float32 in [0, 1], in channels_last memory format."""
    x = x.to(device, non_blocking=True)
    if x.dtype != torch.uint8:
        return x
    if device.type != "cpu":
        return x.to(torch.float32, memory_format=torch.channels_last).div_(255)
    # The same values, faster: numpy converts and divides in one pass, into huge pages where the system has them
    # (benchmarks/speed/loader.py).
    pixels = np.divide(x.permute(0, 2, 3, 1).numpy(), np.float32(255), dtype=np.float32, order="C")
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)
