"""Where data comes from: a `Collection` is found by name and opens each split as a `Source` or a finished set."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from genzoo.data.found import Found
from genzoo.data.labels import Labels, select

if TYPE_CHECKING:
    from genzoo.data.decoding import Raw
    from genzoo.data.sets import ArraySet, EndlessSet


class Source(Protocol):
    """The encoded images of one split: cheap to list, read a few at a time.

    A class that inherits from this one has defaults for `labels`, `cache_pays`, `found`, `groups` and `headers`.
    """

    name: str
    size: int
    identity: object  # what decides the content, for the fingerprint: its repr() must be the same in every process

    def fetch(self, indices: Sequence[int]) -> "Sequence[Raw]":
        """Reads items."""
        ...

    def where(self, index: int) -> str:
        """Names an item in a message."""
        ...

    def labels(self) -> Labels:
        """Reads the labels of all items, without decoding images; empty where there are none."""
        return {}

    def cache_pays(self, n: int) -> bool:
        """Whether n items should be decoded once, before the first step, rather than by every batch."""
        return True

    def found(self) -> Found:
        """What the source consists of, and what was left out."""
        return Found(items=self.size)

    def groups(self) -> Sequence[str]:
        """Names the sub-folder, file or class of each item; empty where there is one."""
        return ()

    def headers(self, n: int) -> "Sequence[Raw]":
        """Reads about n items by whose headers the others may be judged; none where even these take time to make."""
        return ()


class Collection(Protocol):
    """A dataset by its name, before a split is chosen."""

    @property
    def name(self) -> str: ...

    @property
    def splits(self) -> tuple[str, ...]: ...

    def source(self, split: str) -> "Source | ArraySet | EndlessSet":
        """Opens a split: encoded images as a source; points and vectors, which need no decoding, as a set."""
        ...


class Part(Source):
    """Some consecutive items of another source."""

    def __init__(self, source: Source, chosen: range) -> None:
        self.name, self.size = source.name, len(chosen)
        self.identity = (source.identity, chosen.start, chosen.stop)
        self._source, self._chosen = source, chosen

    def fetch(self, indices: Sequence[int]) -> "Sequence[Raw]":
        return self._source.fetch([self._chosen[i] for i in indices])

    def where(self, index: int) -> str:
        return self._source.where(self._chosen[index])

    def labels(self) -> Labels:
        return select(self._source.labels, self._chosen)

    def cache_pays(self, n: int) -> bool:
        return self._source.cache_pays(n)

    def found(self) -> Found:
        whole = self._source.found()
        if self.size == self._source.size:
            return whole
        groups = self.groups()
        parts = Counter(groups) if len(set(groups)) > 1 else {}
        which = f"numbers {self._chosen.start + 1:,} to {self._chosen.stop:,} of {self._source.size:,}"
        return replace(whole, items=self.size, parts=dict(parts), role=", ".join(filter(None, (whole.role, which))))

    def groups(self) -> Sequence[str]:
        groups = self._source.groups()
        return [groups[i] for i in self._chosen] if groups else ()

    def headers(self, n: int) -> "Sequence[Raw]":
        return self._source.headers(n)


def fingerprint(*parts: object) -> str:
    """Hashes the parts' repr to 16 hexadecimal digits, the same in every process."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
