"""Every frame of animated images, and every page of files that have several, as an item of its own."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from genzoo.data.decoding import Frame, Raw, at_most
from genzoo.data.found import Found
from genzoo.data.headers import count_frames
from genzoo.data.labels import Labels, select
from genzoo.data.sets import ArraySet, EndlessSet
from genzoo.data.sources import Collection, Source
from genzoo.progress import bar

_CHUNK = 256  # items whose frames are counted together


class FrameCollection:
    """Another collection, frame by frame where its items are encoded images."""

    def __init__(self, collection: Collection, max_pixels: int | None = None) -> None:
        self.name, self.splits, self._collection = collection.name, tuple(collection.splits), collection
        self._max_pixels = max_pixels

    def source(self, split: str) -> Source | ArraySet | EndlessSet:
        source = self._collection.source(split)
        if isinstance(source, ArraySet | EndlessSet):
            return source
        with at_most(self._max_pixels):
            return FrameSource(source)


class FrameSource(Source):
    """The frames of another source's items, in order. Each file is opened to count them."""

    def __init__(self, source: Source) -> None:
        counts: list[int] = []
        with bar(name=f"counting frames of {source.name}", total=source.size, delay=1, leave=False) as counting:
            for start in range(0, source.size, _CHUNK):
                chunk = source.fetch(range(start, min(start + _CHUNK, source.size)))
                counts += map(count_frames, chunk)
                counting.update(len(chunk))
        self.name, self.size, self._source = source.name, sum(counts), source
        self.identity = (source.identity, "frames", counts)
        self._items = np.repeat(np.arange(source.size), counts)
        self._numbers = np.concatenate([np.arange(count) for count in counts])

    def fetch(self, indices: Sequence[int]) -> list[Raw]:
        raw = self._source.fetch([int(self._items[i]) for i in indices])
        return [_frame(file, int(self._numbers[i])) for file, i in zip(raw, indices, strict=True)]

    def where(self, index: int) -> str:
        return f"{self._source.where(int(self._items[index]))} frame {self._numbers[index] + 1}"

    def labels(self) -> Labels:
        return select(self._source.labels, self._items)

    def cache_pays(self, n: int) -> bool:
        return self._source.cache_pays(n)

    def headers(self, n: int) -> Sequence[Raw]:
        return self._source.headers(n)

    def groups(self) -> list[str]:
        groups = self._source.groups()
        return [groups[int(i)] for i in self._items] if groups else []

    def found(self) -> Found:
        found = self._source.found()
        parts = dict(Counter(self.groups())) if found.parts else {}
        role = ", ".join(filter(None, (f"all frames of {self._source.size:,} files", found.role)))
        return replace(found, items=self.size, parts=parts, role=role)


def _frame(raw: Raw, number: int) -> Raw:
    return Frame(raw, number) if isinstance(raw, bytes | Path) else raw
