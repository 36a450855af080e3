"""Which images a protocol scores, and how they are read: `_test` ones score none that the model was trained on."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from genzoo.data import heldout_split
from genzoo.data.opening import items_of
from genzoo.dataspec import last_name, reading
from genzoo.errors import UsageError
from genzoo.evaluation.protocols import Protocol, get_protocol
from genzoo.evaluation.subject import Subject
from genzoo.runs.data import TrainedOn, changed_reading
from genzoo.spec import DataConfig


def split_of(protocol: Protocol, data: DataConfig) -> str:
    """Returns the split of the data that a protocol's `train` or `test` means.

    Raises:
        UsageError: nothing is held out.
    """
    if protocol.split == "train":
        return data.split
    if (found := heldout_split(data)) is None:
        raise UsageError(
            f"{data.name} has no held-out split: "
            "name a protocol that ends in _train, or set data.split=train[:N] before training."
        )
    return found


def refuse_seen(subject: Subject, protocol: Protocol, data: DataConfig) -> None:
    """Refuses a `_test` protocol on images that the model was trained on.

    Raises:
        UsageError: it was trained on some of them.
    """
    if protocol.split != "test":
        return
    if why := seen_in_training(subject.name, subject.trained_on, data, lambda: split_of(protocol, data)):
        raise UsageError(f"{protocol.name}: {why}: name a protocol that ends in _train, or leave out data.split.")


def seen_in_training(name: str, known: TrainedOn | None, data: DataConfig, split_of: Callable[[], str]) -> str:
    """Says how many images of a split a model was trained on; "" if on none.

    Args:
        name: of the model.
        known: what it was trained on.
        data: what the split is of.
        split_of: returns the split that is scored; called where the data are those of training.
    """
    if known is None or known.difference(data) != "":
        return ""
    split = split_of()
    content, scored = items_of(data, split)
    same, trained = items_of(replace(data, **_chosen_by(known.data)))
    seen = len(np.intersect1d(scored, trained)) if content == same else 0
    if not seen:
        return ""
    return (
        f"{name} was trained on {seen:,} of the {len(scored):,} images of split {split}, as its data.split is "
        f"{known.data.split}"
    )


def _chosen_by(data: DataConfig) -> dict[str, object]:
    """The settings that choose items."""
    return {"split": data.split, "limit": data.limit, "holdout": data.holdout}


def how_read(subject: Subject, data: DataConfig, split: str) -> dict[str, Any]:
    """Returns, for a result line, how images were read, what of it differs from training, and whether the split chose
    the weights.
    """
    known, defaults = subject.trained_on, reading(DataConfig())
    details: dict[str, Any] = {"read": {key: value for key, value in reading(data).items() if value != defaults[key]}}
    if known is not None:
        details["read_in_training"] = {key: then for key, (then, _) in changed_reading(known, data).items()}
        details["data_differs"] = known.difference(data)
        details["split_chose_weights"] = subject.chosen_on == split
    return {key: value for key, value in details.items() if value}


def how_resized(subject: Subject, data: DataConfig, last: str) -> str:
    """Returns how images reach an extractor's input: `last`, after what --res does to those of a folder."""
    if subject.model is not None or data.size is None:
        return last
    return f"{data.fit} to {'x'.join(map(str, data.size))} in 8 bits, then {last}"


def with_split(names: Sequence[str], data: DataConfig) -> tuple[list[str], str]:
    """Makes `_test` protocols `_train` ones where nothing is held out.

    Args:
        names: of protocols.
        data: what they score.

    Returns:
        The names, and a sentence that says so; "" where they are as before.
    """
    if not any(get_protocol(name).split == "test" for name in names) or heldout_split(data) is not None:
        return list(names), ""
    found = [name.removesuffix("_test") + "_train" if name.endswith("_test") else name for name in names]
    return found, f"nothing of {last_name(data.name)} is held out: scores are of images that the model was trained on"
