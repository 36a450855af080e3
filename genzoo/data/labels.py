"""Labels of a dataset's items by name: classes, which a conditional model may be trained on, and continuous factors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genzoo.data.catalog import list_datasets
from genzoo.dataspec import ONLY
from genzoo.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Label:
    """One label of every item."""

    values: np.ndarray  # [n], int64 class numbers (negative: the item has none) or float factors
    classes: tuple[str, ...] = ()  # names by class number; empty for a continuous factor


Labels = Mapping[str, Label]


def class_label(values: Any, names: Sequence[str] | None = None) -> Label:
    """Makes the label of classes; without names they are called by their numbers."""
    values = np.asarray(values).astype(np.int64)
    if names is None:
        names = [str(number) for number in range(int(values.max(initial=-1)) + 1)]
    return Label(values, tuple(names))


def text_label(values: Sequence[str]) -> Label:
    """Makes the label of classes that are written as text: by number if all are whole numbers, else by name. An item
    with an empty text has none.
    """
    values = [value.strip() for value in values]
    if all(value.removeprefix("-").isdecimal() for value in values if value):
        return class_label([int(value or -1) for value in values])
    names = sorted(set(values) - {""})
    numbers = {name: number for number, name in enumerate(names)}
    return class_label([numbers.get(value, -1) for value in values], names)


def listed(names: Sequence[str], most: int = 5) -> str:
    """Joins names for a message, the first few of many."""
    return ", ".join([*names[:most], "..."] if len(names) > most else names)


def only_or_all(labels: Labels) -> Labels:
    """Calls the only label `label`; several keep their names."""
    return {ONLY: next(iter(labels.values()))} if len(labels) == 1 else labels


def select(read: Callable[[], Labels], indices: Sequence[int] | np.ndarray) -> Labels:
    """Reads the labels of some items."""
    return {name: Label(label.values[np.asarray(indices)], label.classes) for name, label in read().items()}


def find_classes(labels: Labels, name: str, owner: str) -> tuple[str, ...]:
    """Returns the names of the classes of the label `name`, by class number.

    Args:
        owner: the dataset, for messages.

    Raises:
        UsageError: the dataset has no classes (the line names datasets that do), or none of that name, or `label` could
            mean several, or the name is that of a continuous factor.
    """
    kinds = [kind for kind, label in labels.items() if label.classes]
    if name in kinds:
        return labels[name].classes
    if not kinds:
        labeled = ", ".join(entry.name for entry in list_datasets() if entry.labels)
        raise UsageError(
            f"{owner} has no labels: leave data.labels out, put all images into one folder per class or their "
            f"classes into a column called label, or choose a dataset with labels: {labeled}."
        )
    choices = ", ".join(kinds)
    if name in labels:
        raise UsageError(f"{name} of {owner} is a continuous factor, not classes: give data.labels one of {choices}.")
    if name == ONLY:
        raise UsageError(f"{owner} has several kinds of labels: give data.labels one of {choices}.")
    hint = did_you_mean(name, kinds) or f" Choose from: {choices}."
    raise UsageError(f"{owner} has no labels called {name!r}.{hint}")
