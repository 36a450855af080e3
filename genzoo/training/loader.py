"""Which images a step sees: a pure function of (seed, step), whatever the number of processes, workers or restarts."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from genzoo.data.base import Dataset
from genzoo.noise import generator


def own_seed(seed: int, step: int) -> int:
    """The seed of a step that nothing has happened to: the run's."""
    return seed


class Batches(TorchDataset):
    """Item `step` is the batch of that step: images `start:stop` of a global batch of `batch` images.

    Epochs are permutations of the dataset, laid end to end; a batch may span two of them. Endless datasets are drawn anew each step.
    A step to which `seed_of` gives another seed than the run's has images drawn at random from the whole dataset instead, and so has
    every place of a batch whose item is `left_out`.
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
        seed_of: Callable[[int, int], int] = own_seed,
        left_out: Sequence[int] = (),
    ):
        self.seed_of, self.left_out = seed_of, left_out
        self.dataset, self.seed, self.batch, self.slice, self.mirror = dataset, seed, batch, slice(start, stop), mirror
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def indices(self, step: int) -> np.ndarray:
        """Returns the dataset's indices of a step's global batch, int64 [batch]."""
        size = self.dataset.size
        assert size is not None
        seed = self.seed_of(self.seed, step)
        instead = np.setdiff1d(np.arange(size), self.left_out) if seed != self.seed or self.left_out else np.empty(0, np.int64)
        if seed != self.seed:
            return instead[torch.randint(len(instead), (self.batch,), generator=generator(seed, "redrawn", step)).numpy()]
        places = np.arange(step * self.batch, (step + 1) * self.batch)
        out = np.empty(self.batch, np.int64)
        for epoch in np.unique(places // size).tolist():
            here = places // size == epoch
            out[here] = self._permutation(epoch, size)[places[here] % size]
        if (bad := np.isin(out, self.left_out)).any():
            out[bad] = instead[torch.randint(len(instead), (int(bad.sum()),), generator=generator(seed, "instead", step)).numpy()]
        return out

    def __getitem__(self, step: int) -> Tensor:
        if self.dataset.size is None:
            return self.dataset.draw(self.batch, generator(self.seed_of(self.seed, step), "data", step))[self.slice]
        images = self.dataset.batch(self.indices(step)[self.slice])
        if self.mirror:
            flip = torch.rand(self.batch, generator=generator(self.seed, "mirror", step))[self.slice] < 0.5
            mirror(images, flip)
        return images

    def _permutation(self, epoch: int, size: int) -> np.ndarray:
        if epoch != self._epoch:
            self._epoch, self._order = epoch, torch.randperm(size, generator=generator(self.seed, "order", epoch)).numpy()
        return self._order


def mirror(images: Tensor, chosen: Tensor) -> None:
    """Mirrors images [n, C, H, W], in place, where `chosen` [n] is True."""
    pixels = images.permute(0, 2, 3, 1).numpy()  # numpy copies whole images where torch's indexing goes value by value
    which = chosen.numpy()
    pixels[which] = torch.from_numpy(pixels[which]).permute(0, 3, 1, 2).flip(-1).permute(0, 2, 3, 1).numpy()


def useful_workers(dataset: Dataset) -> int:
    """Loader processes that pay: none for cached images, else one a core but one, the cores shared with this machine's other processes."""
    if dataset.cached or sys.platform != "linux":  # elsewhere a process starts anew, and a script needs a guard for that
        return 0
    return max(0, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) - 1)


def load(batches: Batches, first: int, end: int, workers: int | None) -> Iterator[Tensor]:
    """Yields the batches of steps first..end-1: uint8 [n, C, H, W], or float32 [n, D].

    Args:
        workers: processes that prefetch; None = `useful_workers`.
    """
    workers = useful_workers(batches.dataset) if workers is None else workers
    return iter(DataLoader(batches, batch_size=None, sampler=range(first, end), num_workers=workers, pin_memory=torch.cuda.is_available()))


def as_real(batch: Tensor, device: torch.device) -> Tensor:
    """Moves a batch to the device; uint8 pixels [n, C, H, W] become float32 in [0, 1], in channels_last memory format."""
    batch = batch.to(device, non_blocking=True)
    if batch.dtype != torch.uint8:
        return batch
    if device.type != "cpu":
        return batch.to(torch.float32, memory_format=torch.channels_last).div_(255)
    # The same numbers: numpy converts and divides in one pass, into huge pages where the system has them (benchmarks/speed/loader.py).
    pixels = np.divide(batch.permute(0, 2, 3, 1).numpy(), np.float32(255), dtype=np.float32, order="C")
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)
