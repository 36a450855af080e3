"""Entry points of other distributions, listed without importing anything and read from disk once."""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from genzoo.errors import UsageError

MODELS = "genzoo.models"  # entry points of this group name a ModelSpec, e.g. `mymodel = "mypackage:SPEC"`


@cache
def offers(group: str) -> dict[str, list[EntryPoint]]:
    """Returns the entry points of a group by name; one name may be offered by several distributions."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        found.setdefault(point.name, []).append(point)
    return found


def refresh() -> None:
    """Forgets what was found: for a process that installs distributions."""
    offers.cache_clear()


def distribution(point: EntryPoint) -> str:
    """Names who offers an entry point, for messages."""
    return f"distribution {point.dist.name} {point.dist.version}" if point.dist else point.value


def load(kind: str, point: EntryPoint) -> Any:
    """Imports what an entry point names.

    Raises:
        UsageError: that fails; the message names the distribution.
    """
    try:
        return point.load()
    except Exception as error:
        raise UsageError(
            f"{kind} {point.name!r} of {distribution(point)} cannot be loaded ({type(error).__name__}: {error}): "
            "fix or uninstall it."
        ) from error
