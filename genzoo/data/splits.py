"""Splits and parts of splits: `test`, `train[:29000]`, and `train[heldout]`, which `data.holdout` keeps apart."""

import hashlib
import heapq
import re
from dataclasses import dataclass

import numpy as np

from genzoo.data.sets import ArraySet, EndlessSet
from genzoo.data.sources import Collection, Source
from genzoo.errors import UsageError

_SPLIT = re.compile(r"(?P<name>[^\[\]]+)(\[((?P<start>\d*):(?P<stop>\d*)|(?P<heldout>heldout))\])?")
# Names of splits that are not for training; the first that a dataset has is taken.
_VALIDATION = ("validation", "valid", "val", "dev", "eval", "evaluation")
_TEST = ("test", "testing")
FOR_SCORES, FOR_CHOOSING = (*_TEST, *_VALIDATION), (*_VALIDATION, *_TEST)
FEWEST = 20  # items of which some are held out
SHARE, MOST = 0.1, 1000  # held out where data.holdout does not say it: the default protocols take 1,000

Opened = Source | ArraySet | EndlessSet


@dataclass(frozen=True)
class Split:
    """A split, or a part of one."""

    name: str
    start: int | None = None
    stop: int | None = None
    heldout: bool = False  # the part that data.holdout keeps apart

    @property
    def sliced(self) -> bool:
        return self.start is not None or self.stop is not None

    @property
    def rest(self) -> str | None:
        """What `train[:29000]` leaves over: `train[29000:]`; None for anything else."""
        return f"{self.name}[{self.stop}:]" if self.start is None and self.stop is not None else None


def parse(split: str) -> Split:
    """Parses `train`, `train[:29000]`, `train[29000:]` or `train[heldout]`.

    Raises:
        UsageError: it is none of these.
    """
    match = _SPLIT.fullmatch(split)
    if not match:
        raise UsageError(
            f"{split!r} is not a split: write a name (train), or a part of one (train[:29000], train[29000:])."
        )
    start, stop = (int(text) if text else None for text in (match["start"], match["stop"]))
    if split.endswith("[:]"):
        start = 0
    return Split(match["name"], start, stop, match["heldout"] is not None)


def named_split(collection: Collection, name: str, order: tuple[str, ...]) -> str | None:
    """Returns the first split of `order`, other than `name`, that a dataset has."""
    return next((other for other in order if other in collection.splits and other != name), None)


def open_split(collection: Collection, name: str) -> Opened:
    """Opens a split by its name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in collection.splits:
        has = ", ".join(collection.splits)
        raise UsageError(f"{collection.name} has no split {name!r}: it has {has}; choose one with data.split.")
    return collection.source(name)


def held_out(collection: Collection, source: Opened, name: str, holdout: float | None, own: bool) -> np.ndarray:
    """Returns the numbers of the items of a split that are held out, ascending; an item is chosen by its name and size.

    Args:
        collection: the dataset; one that has a split for scores holds nothing else out, nor does that split.
        source: the split `name` of it.
        name: of the split.
        holdout: as in `DataConfig`.
        own: whether the data is the user's own, of which some is held out by default.

    Raises:
        UsageError: a share of a dataset that has a split for scores.
    """
    other = named_split(collection, name, FOR_SCORES)
    if other is not None and holdout:
        raise UsageError(f"data.holdout={holdout:g}: {collection.name} has a split {other} for that: leave it out.")
    none = other is not None or name in FOR_SCORES or holdout == 0 or (holdout is None and not own)
    if none or isinstance(source, EndlessSet) or source.size < FEWEST:
        return np.empty(0, np.int64)
    n = max(1, int(source.size * (SHARE if holdout is None else holdout)))
    n = min(n, MOST) if holdout is None else n
    keys = map(str, range(source.size)) if isinstance(source, ArraySet) else source.keys()
    ranks = [hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=8).digest() for key in keys]
    return np.sort(np.array(heapq.nsmallest(n, range(source.size), key=ranks.__getitem__), np.int64))


def choose(
    collection: Collection, split: str, holdout: float | None, own: bool, limit: int | None
) -> tuple[Opened, np.ndarray | range]:
    """Opens a split, and chooses the items that are meant; none of an endless one.

    Args:
        collection: the dataset.
        split: a split or a part of one.
        holdout: see `held_out`, and so `own`.
        own: see there.
        limit: take only the first so many.

    Raises:
        UsageError: no such split, or no items are left.
    """
    wanted = parse(split)
    source = open_split(collection, wanted.name)
    if isinstance(source, EndlessSet):
        return source, range(0)
    chosen = _items(collection, source, wanted, holdout, own)[:limit]
    if not len(chosen):
        raise UsageError(f"{source.name} has {source.size:,} items: {split!r} leaves none of them.")
    return source, chosen


def _items(
    collection: Collection, source: Source | ArraySet, wanted: Split, holdout: float | None, own: bool
) -> np.ndarray | range:
    everything = range(source.size)
    if wanted.sliced:
        if wanted.rest is not None and wanted.stop is not None and wanted.stop >= source.size:
            raise UsageError(
                f"{source.name} has {source.size:,} items, so '{wanted.name}[:{wanted.stop}]' holds none of them out: "
                f"write {wanted.name!r}, or a smaller number."
            )
        return everything[wanted.start : wanted.stop]
    apart = held_out(collection, source, wanted.name, holdout, own)
    if wanted.heldout:
        return apart
    return np.setdiff1d(np.array(everything), apart) if len(apart) else everything
