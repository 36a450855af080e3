"""Data: images and points by name, as uint8 and float32 tensors."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from genzoo.data.catalog import dataset, find_entry, list_datasets
    from genzoo.data.entry import Entry
    from genzoo.data.opening import describe, heldout_split, load_image, look_for, open_dataset, peek
    from genzoo.data.sets import Dataset, EndlessSet, FiniteSet, facts, some

__all__ = [
    "Dataset",
    "EndlessSet",
    "Entry",
    "FiniteSet",
    "dataset",
    "describe",
    "facts",
    "find_entry",
    "heldout_split",
    "list_datasets",
    "load_image",
    "look_for",
    "open_dataset",
    "peek",
    "some",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "catalog": ["dataset", "find_entry", "list_datasets"],
        "entry": ["Entry"],
        "opening": ["describe", "heldout_split", "load_image", "look_for", "open_dataset", "peek"],
        "sets": ["Dataset", "EndlessSet", "FiniteSet", "facts", "some"],
    },
)
