"""One row of `genzoo list data`: what is known of a dataset without opening it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A dataset with a short name."""

    name: str
    kind: Literal["embedded", "points", "hub"]  # images that come with code, 2-D points, a repository of the hub
    what: str
    images: int | None  # over all splits; None = endless
    size: tuple[int, int] | None  # height, width in pixels; None = they differ, or points
    terms: str  # license, as far as known
    channels: Literal[1, 3] = 3  # 1 = gray
    labels: Mapping[str, int] = field(default_factory=dict)  # class labels by name -> number of classes, where known
    note: str = ""  # published splits and protocols, and what this copy lacks
    extent: float | None = None  # points: half-width of the square around 0 in which densities are measured and drawn

    @property
    def where(self) -> str:
        """Where the data is, as `genzoo list data` prints it."""
        return self.kind


@dataclass(frozen=True, kw_only=True)
class HubEntry(Entry):
    """A dataset of the Hugging Face hub."""

    kind: Literal["embedded", "points", "hub"] = "hub"
    repository: str  # owner/name
    config: str | None = None
    column: str = "image"
    splits: Mapping[str, str] = field(  # our name -> the hub's expression
        default_factory=lambda: {"train": "train", "test": "test"}
    )
    evidence: Literal["page", "code"]  # see `genzoo.data.hub_table`

    @property
    def where(self) -> str:
        return self.repository
