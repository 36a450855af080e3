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

RESIDENT_SHARE = 8  # one part in so many of a device's free memory may hold the dataset
CHUNK_BYTES = 64 * 1024**2  # copied to the device at a time


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
            mirror(images, self.mirrored(step))
        return images

    def mirrored(self, step: int) -> Tensor:
        """Returns which of this part's images a step sees mirrored, bool [stop - start]."""
        return torch.rand(self.batch, generator=generator(self.seed, "mirror", step))[self.slice] < 0.5

    def _permutation(self, epoch: int, size: int) -> np.ndarray:
        if epoch != self._epoch:
            self._epoch, self._order = epoch, torch.randperm(size, generator=generator(self.seed, "order", epoch)).numpy()
        return self._order


def mirror(images: Tensor, chosen: Tensor) -> None:
    """Mirrors images [n, C, H, W], in place, where `chosen` [n] is True."""
    pixels = images.permute(0, 2, 3, 1).numpy()  # numpy copies whole images where torch's indexing goes value by value
    which = chosen.numpy()
    pixels[which] = torch.from_numpy(pixels[which]).permute(0, 3, 1, 2).flip(-1).permute(0, 2, 3, 1).numpy()


class Resident:
    """A finite dataset's items in the device's memory, where the batches of `Batches` are gathered and mirrored, value for value.

    Only the numbers of the items and the mirror's choices are drawn on the CPU, so a run may go on with or without it.

    Args:
        dataset: finite; read once, in chunks of `CHUNK_BYTES`, so that a memory-mapped one needs no more of the CPU's memory.
    """

    def __init__(self, dataset: Dataset, device: torch.device):
        assert dataset.size is not None
        one = dataset.batch([0]).movedim(1, -1)  # [1, H, W, C], as images lie in the cache, or [1, D]
        self._items = torch.empty((dataset.size, *one.shape[1:]), dtype=one.dtype, device=device)
        step = max(1, CHUNK_BYTES // one.nbytes)
        for start in range(0, dataset.size, step):
            chunk = dataset.batch(range(start, min(start + step, dataset.size)))
            self._items[start : start + len(chunk)].copy_(chunk.movedim(1, -1))

    def load(self, batches: Batches, first: int, end: int) -> Iterator[Tensor]:
        """Yields what `load` does, on the device."""
        for step in range(first, end):
            items = self._items[self._here(torch.from_numpy(batches.indices(step)[batches.slice]))]
            if batches.mirror:
                items = torch.where(self._here(batches.mirrored(step))[:, None, None, None], items.flip(2), items)
            yield items.movedim(-1, 1)

    def _here(self, drawn: Tensor) -> Tensor:
        """Copies to the device without waiting for it: from pinned memory, which only CUDA has."""
        device = self._items.device
        return (drawn.pin_memory() if device.type == "cuda" else drawn).to(device, non_blocking=True)


def make_resident(dataset: Dataset, device: torch.device, tell: Callable[[str], None]) -> Resident | None:
    """Puts a dataset that is decoded, finite and small enough (`fits`) into a GPU's memory and tells so in a line; else None."""
    if device.type != "cuda" or not dataset.cached or dataset.size is None:
        return None
    nbytes = dataset.size * dataset.batch([0]).nbytes
    if not fits(nbytes, torch.cuda.mem_get_info(device)[0]):
        return None
    tell(f"All {dataset.size:,} items ({nbytes / 1e9:.2g} GB) lie in the GPU's memory; train.workers=0 leaves them outside.")
    return Resident(dataset, device)


def fits(nbytes: int, free: int) -> bool:
    """Whether data of so many bytes may lie in a device's memory, of which `free` bytes are free: networks and steps need the most of it."""
    return nbytes * RESIDENT_SHARE <= free


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
