"""Datasets with a short name: embedded ones, the hub's, and those that other distributions or a script register.

No torch, no datasets, no scikit-learn is imported here or by the modules that register, so that `genzoo list data`
answers at once.
"""

import importlib
import pkgutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from genzoo import plugins
from genzoo.data.entry import Entry
from genzoo.data.hub_table import HUB
from genzoo.errors import UsageError

if TYPE_CHECKING:
    from genzoo.data.sources import Collection
    from genzoo.spec import DataConfig

GROUP = "genzoo.datasets"  # entry points of this group name a decorated function: `moons = "mypackage:open_moons"`
EMBEDDED = "genzoo.data.embedded"

Opener = Callable[["DataConfig"], "Collection"]
Offer = tuple[str, Callable[[], object]]  # who offers a dataset, and what loads its `Registered`


@dataclass(frozen=True)
class Registered:
    """A dataset by its short name: what is known of it, and the function that opens it."""

    entry: Entry
    open: Opener

    def __call__(self, config: "DataConfig") -> "Collection":
        return self.open(config)


_registered: dict[str, Registered] = {}


def dataset(entry: Entry) -> Callable[[Opener], Registered]:
    """Registers the decorated function, which opens a dataset, under `entry.name`.

    The module should import heavy libraries inside the function: it is imported whenever datasets are listed. A
    distribution names the function in the entry-point group `genzoo.datasets`; a script needs the decorator only.

    Raises:
        ValueError: another function is registered under that name.
    """

    def register(function: Opener) -> Registered:
        before = _registered.get(entry.name)
        if entry.name in HUB or (before is not None and _origin(before.open) != _origin(function)):
            raise ValueError(f"A dataset named {entry.name!r} is registered already: choose another name.")
        _registered[entry.name] = Registered(entry, function)
        return _registered[entry.name]

    return register


def list_datasets() -> list[Entry]:
    """Lists what has a short name: embedded images, points, the hub's. Warns of each plugin that cannot be loaded."""
    entries = []
    for name, offers in _offers().items():
        try:
            entries.append(_load(name, offers).entry)
        except UsageError as error:
            warnings.warn(str(error), stacklevel=2)
    return sorted(entries, key=lambda entry: ("embedded", "points", "hub").index(entry.kind))


def dataset_names() -> list[str]:
    """Lists the short names; no plugin is loaded."""
    return list(_offers())


def find_entry(name: str) -> Entry | None:
    """Returns what is known of a dataset, or None for a folder, a file or a hub id.

    Raises:
        UsageError: as `find_dataset`.
    """
    found = find_dataset(name)
    return None if found is None else found.entry


def find_dataset(name: str) -> Registered | None:
    """Finds a dataset by its short name, or None where no dataset has it.

    Raises:
        UsageError: two distributions offer the name, or the one that does is broken; the line names it.
    """
    offers = _offers().get(name)
    return None if offers is None else _load(name, offers)


def _load(name: str, offers: Sequence[Offer]) -> Registered:
    """Loads the dataset that is offered under a name."""
    if len(offers) > 1:
        by = " and ".join(who for who, _ in offers)
        raise UsageError(f"Dataset {name!r} is offered by {by}: uninstall one of them.")
    who, load = offers[0]
    found = load()
    if not isinstance(found, Registered) or found.entry.name != name:
        raise UsageError(
            f"Dataset {name!r} of {who} is not a function decorated with genzoo.data.dataset under that name: "
            "fix or uninstall it."
        )
    return found


def _offers() -> dict[str, list[Offer]]:
    """Returns the offers of each name; two of one name are an error only for those who use it."""
    _import_embedded()
    offers: dict[str, list[Offer]] = {
        name: [("genzoo", partial(_registered.get, name))]
        for name, found in _registered.items()
        if _origin(found.open)[0].startswith(EMBEDDED)
    }
    for name, entry in HUB.items():
        offers[name] = [("genzoo", partial(Registered, entry, _open_hub))]
    for name, points in plugins.offers(GROUP).items():
        here = offers.setdefault(name, [])
        here += [(plugins.distribution(point), partial(plugins.load, "Dataset", point)) for point in points]
    for name, found in _registered.items():
        offers.setdefault(name, [(_origin(found.open)[0], partial(_registered.get, name))])
    return offers


def _import_embedded() -> None:
    package = importlib.import_module(EMBEDDED)
    for module in pkgutil.iter_modules(package.__path__, f"{EMBEDDED}."):
        importlib.import_module(module.name)


def _open_hub(config: "DataConfig") -> "Collection":
    from genzoo.data.hub import HubCollection

    return HubCollection(config)


def _origin(function: Opener) -> tuple[str, str]:
    return function.__module__, getattr(function, "__qualname__", repr(function))
