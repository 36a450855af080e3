"""Where data comes from: a `Collection` is found by name and opens each split as a `Source` or a finished set."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from genzoo.data.found import Found
from genzoo.data.labels import Labels, select

if TYPE_CHECKING:
    import numpy as np

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

    def keys(self) -> Iterable[str]:
        """Names all items, in order, for the choice of those that are held out: wherever the data lies."""
        return map(str, range(self.size))

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
    """Some items of another source, by their numbers."""

    def __init__(self, source: Source, chosen: "range | np.ndarray") -> None:
        self.name, self.size = source.name, len(chosen)
        self.identity = (source.identity, numbers(chosen))
        self._source, self._chosen = source, chosen

    def fetch(self, indices: Sequence[int]) -> "Sequence[Raw]":
        return self._source.fetch([int(self._chosen[i]) for i in indices])

    def where(self, index: int) -> str:
        return self._source.where(int(self._chosen[index]))

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
        chosen, of = self._chosen, f"of {self._source.size:,}"
        numbered = f"numbers {chosen.start + 1:,} to {chosen.stop:,}" if isinstance(chosen, range) else f"{self.size:,}"
        role = ", ".join(filter(None, (whole.role, f"{numbered} {of}")))
        return replace(whole, items=self.size, parts=dict(parts), role=role)

    def groups(self) -> Sequence[str]:
        groups = self._source.groups()
        return [groups[int(i)] for i in self._chosen] if groups else ()

    def headers(self, n: int) -> "Sequence[Raw]":
        return self._source.headers(n)


def numbers(chosen: "range | np.ndarray") -> str:
    """Stands for the numbers of items in an identity: `[0:1500]`, or a hash."""
    if isinstance(chosen, range):
        return f"[{chosen.start}:{chosen.stop}]"
    return f"[{fingerprint(chosen.tolist())}]"


def fingerprint(*parts: object) -> str:
    """Hashes the parts' repr to 16 hexadecimal digits, the same in every process."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
