"""Turns a source of encoded images into a set: decoded once into the cache where that works, else by every batch."""

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from genzoo.data import cache
from genzoo.data.decoding import DECODING, CorruptImageError, Decode, Raw
from genzoo.data.headers import complete
from genzoo.data.identity import content_key, contents_in
from genzoo.data.labels import select
from genzoo.data.sets import Finite, FiniteSet, MappedSet
from genzoo.data.sources import Source, fingerprint
from genzoo.data.workers import Answers, results, whole, worker_options
from genzoo.errors import UsageError
from genzoo.progress import bar
from genzoo.spec import DataConfig

RAM_BYTES = 2 * 1024**3  # decoded images that may stay in memory where no cache can be written
CHUNK_ITEMS, CHUNK_BYTES = 256, 16 * 1024**2  # most decoded together by one process while a cache is built


def open_images(source: Source, config: DataConfig, progress: bool) -> FiniteSet:
    """Opens a split of encoded images: from the cache, else decoded into it, else in RAM, else decoded by every batch.

    Raises:
        UsageError: no readable image, an unreadable one (unless config.skip_corrupt), or sizes that differ (unless
            config.size).
    """
    job = DecodeJob(source, config)
    use_cache = config.cache and source.cache_pays(source.size)
    found = (cache.load(job.key, source.size, job.modified) or _decode_all(job, progress)) if use_cache else None
    if found is None:
        return LazySet(job, progress)
    skipped = _named(source, found.skipped)
    read_labels = partial(select, source.labels, _kept(source.size, found.skipped))
    read_found = partial(complete, source, config, found.skipped)
    return MappedSet(source.name, job.key, found.images, read_labels, skipped, read_found, digest=found.digest)


class MixedSizesError(UsageError):
    """Images of different sizes, where they are to be of one."""


def decoder(config: DataConfig) -> Decode:
    """Returns what decodes single images as a configuration says."""
    return Decode(
        size=config.size,
        channels=config.channels,
        fit=config.fit,
        precrop=config.precrop,
        background=config.background,
        top=config.range,
        max_pixels=config.max_pixels,
    )


class DecodeJob:
    """What is to be decoded, and how."""

    def __init__(self, source: Source, config: DataConfig) -> None:
        self.source, self.config, self.skip = source, config, config.skip_corrupt
        settings = {name: getattr(config, name) for name in ("size", "channels", "fit", "precrop", "background")}
        # Only where they are set, so that caches without them stay valid.
        settings |= {name: value for name in ("range", "max_pixels") if (value := getattr(config, name)) is not None}
        self._decode = decoder(config)
        contents = contents_in(source.identity)
        self.modified = contents.modified if contents else 0
        self.key = fingerprint(*content_key(source.name, source.identity), settings, self.skip, DECODING)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """(C,H,W), read off the first readable image."""
        for index in range(self.source.size):
            pixels = self.attempt(index, *self.source.fetch([index]))
            if not isinstance(pixels, str):
                return pixels.shape
        raise UsageError(
            f"{self.source.name} contains no readable image: all {self.source.size:,} are corrupt, "
            f"as is {self.source.where(0)}."
        )

    def decode(self, indices: Sequence[int]) -> list[np.ndarray | str]:
        """Decodes items, uint8 [C,H,W] each; a corrupt one that is to be skipped becomes a str, the reason.

        Raises:
            UsageError: a corrupt image that is not to be skipped, or one of another size than the first.
        """
        decoded = list(map(self.attempt, indices, self.source.fetch(indices)))
        for index, pixels in zip(indices, decoded, strict=True):
            if not isinstance(pixels, str) and pixels.shape != self.shape:
                raise MixedSizesError(
                    f"{self.source.where(index)} has {_size(pixels.shape)} pixels and others have {_size(self.shape)}: "
                    "give --res to bring all images to one size."
                )
        return decoded

    def attempt(self, index: int, raw: Raw) -> np.ndarray | str:
        """Decodes one item, of any size; see `decode`.

        Raises:
            UsageError: a corrupt image that is not to be skipped.
        """
        try:
            return self._decode(raw)
        except CorruptImageError as error:
            if self.skip:
                return str(error)
            raise UsageError(
                f"cannot read {self.source.where(index)} ({error}): repair or delete it, or set data.skip_corrupt=true."
            ) from error
        except UsageError as error:
            raise UsageError(f"{self.source.where(index)}: {error}") from error


class LazySet(Finite):
    """Images that every batch decodes: for sets that fit no cache, best read through a DataLoader with workers."""

    cached = False

    def __init__(self, job: DecodeJob, progress: bool) -> None:
        skipped: dict[int, str] = {}
        if job.skip:  # the number of readable images must be known before the first epoch, so all are tried once
            for _ in _chunks(job, skipped, progress):
                pass
        self._job, self._kept = job, _kept(job.source.size, skipped)
        self.read_labels = partial(select, job.source.labels, self._kept)
        self.name, self.fingerprint, self.skipped = job.source.name, job.key, _named(job.source, skipped)
        self.read_found = partial(complete, job.source, job.config, skipped)
        self.size, self.shape = len(self._kept), job.shape

    def batch(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """Decodes items, uint8 [n,C,H,W]. Raises UsageError for one that cannot be read."""
        numbers = self._kept[np.asarray(indices)].tolist()
        return torch.from_numpy(_stack(list(map(self._readable, numbers, self._job.decode(numbers))))).movedim(-1, 1)

    def _readable(self, number: int, pixels: np.ndarray | str) -> np.ndarray:
        if isinstance(pixels, np.ndarray):
            return pixels
        raise UsageError(
            f"{self._job.source.where(number)} ({pixels}) could be read when this run began: put the file back, and "
            "resume the run."
        )


class _Chunks:
    """Consecutive items that a worker decodes together: (images uint8 [k,H,W,C], corrupt ones by index)."""

    def __init__(self, job: DecodeJob) -> None:
        step = max(1, min(CHUNK_ITEMS, CHUNK_BYTES // int(np.prod(job.shape))))
        everything = range(job.source.size)
        self.job, self.parts = job, [everything[start : start + step] for start in everything[::step]]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int, /) -> tuple[np.ndarray, dict[int, str]]:
        decoded = self.job.decode(self.parts[number])
        numbered = zip(self.parts[number], decoded, strict=True)
        corrupt = {index: pixels for index, pixels in numbered if isinstance(pixels, str)}
        images = [pixels for pixels in decoded if not isinstance(pixels, str)]
        channels, *sides = self.job.shape
        return _stack(images) if images else np.empty((0, *sides, channels), np.uint8), corrupt


def _chunks(job: DecodeJob, skipped: dict[int, str], progress: bool) -> Iterator[np.ndarray]:
    """Decodes everything in order, uint8 [k,H,W,C] at a time; corrupt items go into `skipped`."""
    chunks = _Chunks(job)
    # Processes, because the interpreter lock leaves threads nothing to gain on small images; only Linux forks safely.
    workers = min(len(os.sched_getaffinity(0)), len(chunks) // 4) if sys.platform == "linux" else 0
    loader = DataLoader(
        Answers(chunks, len(chunks)),
        batch_size=None,
        collate_fn=whole,  # arrays go through pipes: tensors would need shared memory, of which containers have little
        generator=torch.Generator(),  # leaves the global random state alone, so that a cached run equals the first
        **worker_options(workers),
    )
    total, text = job.source.size, f"decoding {job.source.name}"
    with bar(name=text, shown=progress, total=total, unit=" images", delay=1, leave=False) as shown:
        for images, corrupt in results(loader):
            skipped.update(corrupt)
            shown.update(len(images) + len(corrupt))
            yield images


def _stack(images: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks images [C,H,W] as [k,H,W,C], their order in memory."""
    return np.stack([pixels.transpose(1, 2, 0) for pixels in images])


def _decode_all(job: DecodeJob, progress: bool) -> cache.Cached | None:
    """Decodes into the cache; into RAM where it cannot be written and the images are few; None where neither works."""
    nbytes, skipped = job.source.size * int(np.prod(job.shape)), dict[int, str]()
    channels, height, width = job.shape
    try:
        if cache.fits_on_disk(nbytes):
            chunks = _chunks(job, skipped, progress)
            shape = height, width, channels
            return cache.build(job.key, job.source.name, job.source.size, shape, chunks, skipped, job.modified)
        problem = f"{job.source.name} decoded takes {nbytes / 1e9:.1f} GB, more than half of the free disk"
    except (OSError, NotImplementedError) as error:  # the latter from a file system without locks
        problem = f"the cache cannot be written ({error})"
    small = nbytes <= RAM_BYTES
    instead = "the decoded images stay in memory" if small else "every batch decodes its images"
    warnings.warn(f"{problem}: {instead}. GENZOO_CACHE=<folder> puts the cache elsewhere.", stacklevel=2)
    if not small:
        return None
    skipped.clear()
    return cache.Cached(np.concatenate(list(_chunks(job, skipped, progress))), skipped)


def _named(source: Source, skipped: dict[int, str]) -> tuple[str, ...]:
    """Names the items that are left out, with the reasons, and warns of them."""
    named = tuple(f"{source.where(index)} ({reason})" for index, reason in skipped.items())
    if named:
        shown = ", ".join(named[:3]) + (", ..." if len(named) > 3 else "")
        warnings.warn(f"{source.name}: {len(named):,} unreadable left out: {shown}", stacklevel=2)
    return named


def _kept(count: int, skipped: dict[int, str]) -> np.ndarray:
    return np.setdiff1d(np.arange(count), list(skipped))


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[2]}"
